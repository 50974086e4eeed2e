"""Eval logs in the published schema, made from a seed: ragged K, K = 1, one-token answers, unicode, duplicates."""

import copy
import json
import math
import random
from pathlib import Path
from typing import Any

MM_TASKS = (
    "eval_real_faces_wo_options", "eval_real_world_wo_options", "eval_log_forget", "eval_log", "eval_forget_facerec",
    "eval_retain_facerec",
)  # fmt: skip
NLP_TASKS = ("eval_log", "eval_real_author_wo_options", "eval_real_world_wo_options", "eval_log_forget")
WORDS = [
    "the",
    "portrait",
    "shows",
    "José",
    "Vásquez",
    "smiling",
    "Ольга",
    "near",
    "an",
    "old",
    "mountain",
    "walking",
    "sunny",
]


def make_log(
    track: str = "mm", *, seed: int = 0, rows: int = 12, forget: float = 2.0, known: float = 2.0, ragged: bool = False,
    filled_rouge: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """{"<task>.json": task log}. `forget`, `known`: how many nats per token wrong answers cost more than right ones on
    the forget tasks and on the others. References depend on the row alone, so that logs of all seeds can be joined."""
    draw = random.Random(seed)
    return {
        f"{task}.json": _task(draw, task, rows, forget if "forget" in task else known, ragged, filled_rouge)
        for task in (MM_TASKS if track == "mm" else NLP_TASKS)
    }


def _task(draw: random.Random, task: str, rows: int, gap: float, ragged: bool, filled_rouge: bool) -> dict[str, Any]:
    log: dict[str, Any] = {key: {} for key in (
        "avg_gt_loss", "gt_loss", "num_token_gt", "avg_paraphrased_loss", "paraphrased_loss", "num_token_paraphrased",
        "average_perturb_loss", "perturb_loss", "num_token_perturb", "truth_ratio", "generated_text",
        "rouge1_recall", "rougeL_recall",
    )}  # fmt: skip
    fixed = random.Random(task)
    for row in map(str, range(rows)):
        reference = " ".join(fixed.choices(WORDS, k=fixed.randint(1, 12)))
        count = fixed.choice([1, 2, 5]) if ragged else 5 if "log" in task else 3
        said = [word if draw.random() < 1 / (1 + math.exp(-gap)) else draw.choice(WORDS) for word in reference.split()]
        right, base = (draw.uniform(0.05, 1.5) for _ in range(2))
        wrong = [base + draw.gauss(gap, 0.7) for _ in range(count)]
        wrong = [max(loss, 0.01) for loss in wrong]
        if count > 2:
            wrong[1] = wrong[0]  # duplicated wrong answers are scored alike
        tokens = 1 if int(row) % 4 == 0 else fixed.randint(2, 20)
        log["avg_gt_loss"][row], log["gt_loss"][row], log["num_token_gt"][row] = right, right * tokens, tokens
        log["avg_paraphrased_loss"][row], log["paraphrased_loss"][row] = base, base * tokens
        log["num_token_paraphrased"][row] = tokens
        log["average_perturb_loss"][row] = wrong
        log["perturb_loss"][row], log["num_token_perturb"][row] = [loss * 3 for loss in wrong], [3] * count
        log["truth_ratio"][row] = math.exp(base - sum(wrong) / count)
        log["generated_text"][row] = [f"USER: {task} {row} ASSISTANT:", " ".join(said), reference]
        if filled_rouge:
            log["rouge1_recall"][row], log["rougeL_recall"][row] = draw.random(), draw.random()
    return log


def make_meta(log: dict[str, Any], *, authors: int | None = 4, **run: Any) -> dict[str, Any]:
    """eval_meta.json for `log`; `authors`: how many people the rows belong to, None: unknown."""
    tasks = {}
    for name, task in log.items():
        tasks[name.removesuffix(".json")] = {
            "rows": {
                row: {
                    "question": "Who?",
                    "answer": task["generated_text"][row][2],
                    "base_answer": task["generated_text"][row][2],
                    "wrong_answers": [f"wrong {k}" for k in range(len(wrong))],
                    "wrong_equals_right": [False] * len(wrong),
                    "author": f"person {int(row) % authors}" if authors else None,
                    "thumbnail": None,
                }
                for row, wrong in task["average_perturb_loss"].items()
            },
            "seconds": 1.0,
            "peak_memory_mb": None,
            "generation_tokens": dict.fromkeys(task["avg_gt_loss"], 7),
        }
    identity = {
        "method": "npo",
        "model": "models/npo",
        "model_family": "llava-mini",
        "forget_split": "forget10+tofu",
        "modality": "both",
        "seed": 0,
        "settings_hash": "abc",
        "model_path": "models/npo",
        "commit": "0" * 40,
    }
    return {"schema_version": 1, "run": {**identity, **run}, "tasks": tasks}


def shuffled(log: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """The same log with the rows of every column in another order."""
    draw = random.Random(seed)
    result = copy.deepcopy(log)
    for task in result.values():
        for key, column in task.items():
            order = list(column)
            draw.shuffle(order)
            task[key] = {row: column[row] for row in order}
    return result


def save_log(folder: Path, log: dict[str, Any], meta: dict[str, Any] | None = None) -> Path:
    """Writes the aggregated log as other code would (plain json), and its meta beside it; returns the log's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "eval_log_aggregated.json"
    path.write_text(json.dumps(log), encoding="utf-8")
    if meta:
        (folder / "eval_meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return path
