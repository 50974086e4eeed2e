"""Rows whose model was not unlearned: ECO disturbs, at inference, the prompts that its classifier flags."""

from typing import Any

from unlearn.metrics.aggregates import Track
from unlearn.results import EvalLog


def inference_time(log: EvalLog, track: Track) -> dict[str, Any]:
    """{"inference_time": {"precision", "recall": of the classifier over the track's rows (None where nothing is
    flagged), "flagged": share by task}}; {} for a model whose answers are its own weights'."""
    if log.meta is None or not log.meta["run"].get("eco"):
        return {}
    flags = {
        task: [bool(row.get("flagged")) for row in log.meta["tasks"][task.name]["rows"].values()]
        for task in track.tasks
    }
    flagged = sum(map(sum, flags.values()))
    wanted = [flag for task, own in flags.items() if task.to_forget for flag in own]
    return {
        "inference_time": {
            "precision": sum(wanted) / flagged if flagged else None,
            "recall": sum(wanted) / len(wanted),
            "flagged": {task.label: sum(own) / len(own) for task, own in flags.items()},
        }
    }


def mark(row: Any) -> str:
    """What a row's name is followed by in every table and picture; "" for a model whose weights were changed."""
    facts = row.get("inference_time")
    if not isinstance(facts, dict):
        return ""
    precision, recall = ("-" if facts.get(name) is None else f"{facts[name]:.2f}" for name in ("precision", "recall"))
    return f" (inference-time, classifier: precision {precision}, recall {recall})"
