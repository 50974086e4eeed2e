"""Cells of a table as texts: numbers, missing values and lists that went through CSV or JSON are not taken for one."""

import ast
import io
import json
import math
import re
import tokenize
import unicodedata
from collections.abc import Sequence
from typing import Any

# What pandas and str() make of a missing value; "" and white space count too.
MISSING = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>", "NaT"})
_SHOWN = 60


def missing(cell: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, white space only, or the text that a missing value was stored as."""
    if isinstance(cell, str):
        return not cell.strip() or cell.strip() in MISSING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def one_text(cell: Any, where: str) -> str:
    """`cell` unchanged if it is one text. ValueError that begins with `where` ("Row 3 of data/x/full: answer") for a
    missing value, a number, a list, or a list stored as text."""
    if missing(cell):
        raise ValueError(f"{where} is {cell!r}, not a text; remove or mend the row.")
    if isinstance(cell, (list, tuple)) or (isinstance(cell, str) and stored_list(cell) is not None):
        stored = "a list stored as text" if isinstance(cell, str) else "a list"
        raise ValueError(f"{where} is {stored}, {_short(cell)}, and one text is wanted; make it a row for each text.")
    if not isinstance(cell, str):
        raise ValueError(
            f"{where} is {_short(cell)}, of type {type(cell).__name__}, not a text; store the column as texts (JSONL "
            "with quotes, or parquet; CSV turns a column of nothing but numbers into numbers)."
        )
    return cell


def many_texts(cells: Sequence[Any], where: str) -> list[str]:
    """The texts of `cells`, each one text, a list of texts, or such a list stored as text (JSON, Python or numpy).

    Raises ValueError that begins with `where` when there is none, or one of them is empty or no text.
    """
    texts: list[Any] = []
    for cell in cells:
        read = stored_list(cell) if isinstance(cell, str) else cell
        texts += read if isinstance(read, (list, tuple)) else [cell]
    if not texts:
        raise ValueError(f"{where} is {_short(cells[0] if cells else cells)}: no text in it; remove or mend the row.")
    for text in texts:  # "None" in a list may be an option; a list keeps its missing values as null
        if not (isinstance(text, str) and text.strip() in ("None", "null")):
            one_text(text, where)
    return texts


def stored_list(text: str) -> list[str | None] | None:
    """The list that a text is as a whole, written by JSON (`["a", "b"]`), Python (`['a', 'b']`) or numpy
    (`['a' 'b']`); None for every other text, e.g. `[1] was the first` or `[1, 2]`."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = _python_list(text)
    return read if isinstance(read, list) and all(item is None or isinstance(item, str) for item in read) else None


def _python_list(text: str) -> list[Any] | None:
    """By tokens, because Python's own reading of numpy's `['a' 'b']` is the one text `ab`."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, tokenize.TokenError):
        return None
    layout = (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    words = [token.string for token in tokens if token.type not in layout][1:-1]
    kinds = "".join(
        "," if word == "," else "s" if word[0] in "'\"" or word in ("None", "nan") else "?" for word in words
    )
    if not re.fullmatch(r"(s(,?s)*,?)?", kinds):
        return None
    try:
        return [None if word in ("None", "nan") else ast.literal_eval(word) for word in words if word != ","]
    except (SyntaxError, ValueError):  # quotes that do not close, escapes that mean nothing
        return None


def same_text(text: str) -> str:
    """What two spellings of one text share: composed or decomposed letters, case and white space do not count."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def _short(cell: Any) -> str:
    shown = repr(cell)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
