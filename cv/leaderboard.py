"""The face track on the leaderboard: a table of its own, the paper's Table 5 columns with intervals, one line per
method."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unlearn.leaderboard.section import Grid

TRACK = "cv"
ACCURACIES = {"forget": "Forget accuracy", "holdout": "Holdout accuracy", "retain": "Retain accuracy"}
ATTACKS = {"ulira": "U-LIRA", "logistic": "U-MIA", "tree": "U-MIA (tree)"}
NUMBERS = {"accuracy": "", "auc": " AUC", "tpr": " TPR@1%FPR"}
SHOWN = (*ACCURACIES.values(), "U-LIRA", "U-MIA", "U-LIRA AUC", "U-LIRA TPR@1%FPR")
Row = Mapping[str, Any]


def face_row(
    method: str, run: Row, score: Row, attacks: Sequence[Row], *, study: str, submitted_by: str = ""
) -> dict[str, Any]:
    """One row: accuracies in percent, attacks in [0, 1], their 95 % intervals under `intervals`.

    Args:
        run: `run.json` of the models; score: `score.json`; attacks: the `attack_*.json` of both attacks.
        study: the folder of the study's pictures, from the folder of the leaderboard.
    """
    settings = run["settings"]
    row: dict[str, Any] = {
        "method": method,
        "model": settings["save_dir"],
        "forget_split": f"forget_{score['forget_size']}",
        "modality": "visual",
        "seed": run["seed"],
        "settings_hash": run["settings_hash"],
        "track": TRACK,
        "study": study,
        "submitted_by": submitted_by,
    }
    attacked = ", attacked too" if attacks[0]["include_enrolment"] else ""
    row["evaluation"] = f"enrolled by {score['num_enroll']} photos{attacked}"
    row |= {column: score["mean"][group] for group, column in ACCURACIES.items()}
    ends = {column: score["interval"][group] for group, column in ACCURACIES.items()}
    for record in attacks:
        for name in ATTACKS.keys() & record.keys():
            for number, suffix in NUMBERS.items():
                row[ATTACKS[name] + suffix] = record[name][number]
                ends[ATTACKS[name] + suffix] = record[name]["interval"][number]
    first = attacks[0]
    row |= {
        "intervals": ends,
        "models": len(score["models"]),
        "identities": score["identities"],
        "commit": run.get("commit"),
    }
    return row | {key: first[key] for key in ("targets", "shadows_per_side", "photos", "people", "variance")}


def studies(rows: Iterable[Row]) -> list[list[Row]]:
    """The face track's rows by study, in their order; rows of other tracks are left out."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.get("track") == TRACK:
            groups.setdefault((row.get("study"), row.get("forget_split")), []).append(row)
    return list(groups.values())


def cell(row: Row, column: str) -> tuple[str, str]:
    """(value, interval) as text: percent with one decimal, shares with two; empty where the row has none."""
    if row.get(column) is None:
        return "", ""
    digits = 1 if "accuracy" in column else 2
    ends = (row.get("intervals") or {}).get(column)
    return f"{row[column]:.{digits}f}", f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]" if ends else ""


def grid(rows: Sequence[Row]) -> Grid:
    """One study as text."""
    lines = [[str(row["method"]), *(" ".join(cell(row, column)).strip() for column in SHOWN)] for row in rows]
    return Grid(["Method", *SHOWN], lines, [False] * len(lines), [title(rows[0]), *reading(rows[0])])


def reading(row: Row) -> list[str]:
    """How to read a study's table, a sentence each, with the sizes that bound what it can tell."""
    return [
        f"{row['models']} models of {row['identities']} people; {row['targets']} of them are attacked, with "
        f"{row['shadows_per_side']} shadow models a side, on {row['photos']} photos of {row['people']} people.",
        "Accuracies: means over the models in percent. Attacks: balanced accuracy, where 0.5 means nothing to be "
        "found. 95 % intervals over models and people, none where a group has fewer than four of either; they take "
        "the pretrained network, and for attacks the shadow models, as given.",
        "Forgetting is good where forget accuracy and attacks are those of retrain, not where they are lowest. A "
        "number inside another method's interval is not told apart from it by a study of this size.",
    ]


def title(row: Row) -> str:
    """`cv · forget_10 · models/cv`: what tells one study from another."""
    return " · ".join(str(part) for part in (TRACK, row.get("forget_split"), row.get("study")) if part and part != ".")
