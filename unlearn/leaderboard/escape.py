"""Names and other text from files in tables: what could end a cell, open markup or hide characters is made harmless."""

import unicodedata

_BIDI = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u200e", "\u200f"}
_MARKDOWN = {character: "\\" + character for character in "\\|*_`~$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {"±": r"$\pm$", "†": r"$\dagger$", **{character: "\\" + character for character in "&%$#_{}"}}


def one_line(text: object) -> str:
    """Text on one line: control characters and line ends become spaces, marks that turn the direction go, half a
    surrogate pair becomes a question mark."""
    spaces = {"Cc": " ", "Zl": " ", "Zp": " ", "Cs": "?"}
    kept = (spaces.get(unicodedata.category(character), character) for character in str(text) if character not in _BIDI)
    return "".join(kept)


def markdown_cell(text: object) -> str:
    """Text that stays text in a GitHub Markdown table: no column, emphasis, code, formula, link or HTML of its own."""
    escaped = "".join(_MARKDOWN.get(character, character) for character in one_line(text))
    return escaped.replace("](", "]\\(").replace("][", "]\\[")


def latex_cell(text: object) -> str:
    """Text that stays text in a LaTeX table. After `\\\\` a row that begins with [ or * would be its argument."""
    escaped = "".join(_LATEX.get(character, character) for character in one_line(text))
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped[:1] in ("[", "*") else escaped
