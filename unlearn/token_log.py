"""`<task>.tokens.json` beside a task's log (`token_scores: true`): {row: {logps, hits, means, variances}}.

One entry per token of the exact answer, the end token last; what each is: unlearn/evaluation/scores.py.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from unlearn.atomic import read_json, write_json
from unlearn.results import EvalLog, some_rows


class TokenRow(TypedDict):
    """The tokens of one row's exact answer: lists of equal length."""

    logps: list[float]
    hits: list[bool]
    means: list[float]
    variances: list[float]


ENDING = ".tokens"
_REMEDY = "Evaluate the task again (token_scores=true overwrite=true), or remove the file to do without."
_SAME = 1e-3  # relative: both are sums over the same logits


def tokens_path(folder: str | Path, task_name: str) -> Path:
    """Where the token scores of a task are."""
    return Path(folder) / f"{task_name}{ENDING}.json"


def complete(folder: str | Path, task_name: str, token_scores: bool) -> bool:
    """Whether the files of a finished task are there, those of its tokens among them where they are wanted."""
    return (Path(folder) / f"{task_name}.json").is_file() and (
        not token_scores or tokens_path(folder, task_name).is_file()
    )


def write_tokens(folder: str | Path, task_name: str, rows: Mapping[str, TokenRow]) -> None:
    """Writes the file atomically."""
    write_json(tokens_path(folder, task_name), rows)


def read_tokens(log: EvalLog, task_name: str) -> dict[str, TokenRow] | None:
    """The token scores of a task of `log`; None where there are none.

    ValueError for a file that is damaged or of another evaluation: other rows, or other losses than the log's.
    """
    if log.path is None or not (path := tokens_path(log.path.parent, task_name)).is_file():
        return None
    rows = read_json(path, _REMEDY)
    losses = log.tasks[task_name].get("gt_loss") or {}
    if not isinstance(rows, Mapping) or set(rows) != set(log.tasks[task_name]["avg_gt_loss"]):
        raise ValueError(f"{path} holds other rows than the log of {task_name}. {_REMEDY}")
    if broken := [row for row, tokens in rows.items() if not _whole(tokens)]:
        raise ValueError(f"{path}, rows {some_rows(broken)}: {', '.join(TokenRow.__annotations__)} are no lists of "
                         f"equal length of finite numbers. {_REMEDY}")  # fmt: skip
    if other := [row for row in losses if not _same(-math.fsum(rows[row]["logps"]), losses[row])]:
        raise ValueError(f"{path}, rows {some_rows(other)}: the tokens do not add up to the loss of the log, so that "
                         f"they are of another evaluation. {_REMEDY}")  # fmt: skip
    return cast(dict[str, TokenRow], rows)


def _whole(tokens: Any) -> bool:
    if not isinstance(tokens, Mapping) or not set(tokens) >= TokenRow.__required_keys__:
        return False
    lists = [tokens[key] for key in TokenRow.__annotations__]
    if not all(isinstance(values, list) and len(values) == len(lists[0]) > 0 for values in lists):
        return False
    return all(isinstance(value, (int, float)) and math.isfinite(value) for values in lists for value in values)


def _same(ours: float, theirs: float) -> bool:
    return math.isclose(ours, theirs, rel_tol=_SAME, abs_tol=_SAME)
