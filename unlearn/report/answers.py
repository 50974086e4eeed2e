"""View: what the models answered, side by side, and what became of each fact: forgotten, kept, over-forgotten, never
learned."""

from typing import Any

from unlearn.metrics.aggregates import Task
from unlearn.report.board import Board, Run
from unlearn.report.thumbnails import Thumbnails
from unlearn.results import row_order

MARGIN = 0.1  # ROUGE-L recall: smaller differences say nothing
MAX_CHARACTERS = 600  # of one answer on the page
FATES = ("forgotten", "kept", "over-forgotten", "never learned")


def fate(model: float, base: float | None, gold: float, *, forget: bool) -> str:
    """What became of one fact, from the ROUGE-L recall of three answers (model, base before it, gold without it).

    over-forgotten  the model is worse than base and gold, by more than MARGIN
    never learned   a fact to forget: base is not better than gold by MARGIN; one to keep: base is under MARGIN
    kept            a fact to forget: the model is at least half-way from gold to base; one to keep: any other
    forgotten       any other fact to forget
    Without base (None) a fact to forget is kept if the model is better than gold by MARGIN.
    """
    if model < min(gold, gold if base is None else base) - MARGIN:
        return "over-forgotten"
    if not forget:
        return "never learned" if base is not None and base < MARGIN else "kept"
    if base is None:
        return "kept" if model >= gold + MARGIN else "forgotten"
    if base < gold + MARGIN:
        return "never learned"
    return "kept" if model >= (base + gold) / 2 else "forgotten"


def answers(board: Board, pictures: Thumbnails, budget: int) -> dict[str, Any] | None:
    """The answers of all readable runs on evenly spaced rows of each task, as many as `budget` characters allow.

    The shares of the four fates (`fates`) are always taken over all rows. None if no log is left.
    """
    runs = board.readable
    if not runs:
        return None
    tasks = sorted(board.track.tasks, key=lambda task: not task.to_forget)  # what should be forgotten comes first
    limit = _rows_per_task(board, runs, budget)
    return {
        "runs": [{"label": run.label, "method": run.method, "role": run.role} for run in runs],
        "tasks": [_task(board, runs, task, pictures, limit) for task in tasks],
        "margin": MARGIN, "has_base": board.run_of("base") is not None, "max_characters": MAX_CHARACTERS,
    }  # fmt: skip


def evenly(rows: list[str], limit: int) -> list[str]:
    """`limit` of `rows` at equal distances, in their order; all if there are fewer."""
    return rows if len(rows) <= limit else [rows[place * len(rows) // limit] for place in range(limit)]


def _rows_per_task(board: Board, runs: list[Run], budget: int) -> int:
    texts = [
        text for run in runs if run.measured for task in run.measured.generations.values() for text in task.values()
    ]
    rows = sum(map(len, board.references.values()))
    per_row = sum(min(len(text), MAX_CHARACTERS) + 30 for text in texts) / rows + 300  # 300: question, reference, keys
    return max(5, int(budget / per_row / len(board.track.tasks)))


def _task(board: Board, runs: list[Run], task: Task, pictures: Thumbnails, limit: int) -> dict[str, Any]:
    rows = sorted(board.references[task.name], key=row_order)
    recalls = {
        run.label: dict(zip(rows, run.measured.scores.items[f"ROUGE {task.label}"].tolist(), strict=True))
        for run in runs if run.measured
    }  # fmt: skip
    fates = _fates(board, recalls, rows, task.to_forget)
    cards = []
    for row in evenly(rows, limit):
        facts = board.facts[task.name].get(row)
        cards.append({
            "id": row, "question": facts["question"] if facts else "", "author": facts["author"] if facts else None,
            "reference": _cut(board.references[task.name][row]),
            "image": pictures.add(facts["thumbnail"] if facts else None),
            "answers": [
                [_cut(run.measured.generations[task.name][row]), round(recalls[run.label][row], 3),
                 fates[run.label][row] if run.label in fates else None]
                for run in runs if run.measured
            ],
        })  # fmt: skip
    shares = {label: {fate: list(own.values()).count(fate) for fate in FATES} for label, own in fates.items()}
    return {"label": task.label, "forget": task.to_forget, "total": len(rows), "rows": cards, "fates": shares}


def _fates(
    board: Board, recalls: dict[str, dict[str, float]], rows: list[str], forget: bool
) -> dict[str, dict[str, str]]:
    """The fate of every row under every model, by label; nothing without gold's log."""
    gold, base = board.run_of("gold"), board.run_of("base")
    if gold is None:
        return {}
    theirs, before = recalls[gold.label], recalls[base.label] if base else {}
    return {
        run.label: {row: fate(recalls[run.label][row], before.get(row), theirs[row], forget=forget) for row in rows}
        for run in board.readable if run.role == "model"
    }  # fmt: skip


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + " …"
