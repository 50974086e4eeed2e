"""The face track's table: the paper's Table 5 columns, with intervals, one row per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ACCURACIES = {"forget": "Forget accuracy", "holdout": "Holdout accuracy", "retain": "Retain accuracy"}
ATTACKS = {"ulira": "U-LIRA", "logistic": "U-MIA", "tree": "U-MIA (tree)"}
NUMBERS = {"accuracy": "", "auc": " AUC", "tpr": " TPR@1%FPR"}
SHOWN = (*ACCURACIES.values(), "U-LIRA", "U-MIA", "U-LIRA AUC", "U-LIRA TPR@1%FPR")


def leaderboard_row(
    method: str, run: Mapping[str, Any], score: Mapping[str, Any], attacks: Sequence[Mapping[str, Any]], submitted_by: str = ""
) -> dict[str, Any]:
    """One row: accuracies in percent, attacks in [0, 1], their 95 % intervals under `intervals`.

    Args:
        run: `run.json` of the models; score: `score.json`; attacks: the `attack_*.json` of both attacks.
    """
    settings = run["settings"]
    row: dict[str, Any] = {
        "method": method, "model": settings["save_dir"], "forget_split": f"forget_{score['forget_size']}", "modality": "visual",
        "seed": run["seed"], "settings_hash": run["settings_hash"], "track": "cv", "submitted_by": submitted_by,
    }  # fmt: skip
    row |= {column: score["mean"][group] for group, column in ACCURACIES.items()}
    ends = {column: score["interval"][group] for group, column in ACCURACIES.items()}
    for record in attacks:
        for name in ATTACKS.keys() & record.keys():
            for number, suffix in NUMBERS.items():
                row[ATTACKS[name] + suffix] = record[name][number]
                ends[ATTACKS[name] + suffix] = record[name]["interval"][number]
    first = attacks[0]
    row |= {"intervals": ends, "models": len(score["models"]), "identities": score["identities"], "commit": run.get("commit")}
    return row | {key: first[key] for key in ("targets", "shadows_per_side", "photos", "people", "variance")}


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A plain table in the order of the rows, each number with its interval below it."""
    width = max(len("method"), *(len(row["method"]) for row in rows))
    lines = ["  ".join([f"{'method':{width}}", *(f"{column:>16}" for column in SHOWN)])]
    for row in rows:
        cells = [number(row, column) for column in SHOWN]
        lines.append("  ".join([f"{row['method']:{width}}", *(f"{value:>16}" for value, _ in cells)]))
        lines.append("  ".join([" " * width, *(f"{interval:>16}" for _, interval in cells)]))
    return "\n".join(lines)


def number(row: Mapping[str, Any], column: str) -> tuple[str, str]:
    """(value, interval) as text: percent with one decimal, shares with two."""
    digits = 1 if "accuracy" in column else 2
    low, high = row["intervals"][column]
    return f"{row[column]:.{digits}f}", f"[{low:.{digits}f}, {high:.{digits}f}]"
