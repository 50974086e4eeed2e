"""`mm/protocols.py`: asks a model what the four protocols ask, and writes numbers, table and picture.

<save_dir>/<group>/eval_log_aggregated.json   what was asked and answered, by the tokens that a protocol allows
<save_dir>/protocols.json, protocols.md, protocols.png
"""

from pathlib import Path
from typing import Any

from mm.benchmarks import eval_task
from mm.protocol_rows import TOKENS, Clear
from mm.protocol_scores import Both, protocol_numbers
from mm.protocol_settings import ProtocolSettings
from mm.tasks import eval_settings, load_tasks
from unlearn import pipeline
from unlearn.atomic import read_json, write_json, write_text
from unlearn.config.settings import EvalSettings, read_settings
from unlearn.distributed.processes import is_main
from unlearn.evaluation.suite import EvalTask
from unlearn.leaderboard.scores import known_rows, reference_losses, score_log
from unlearn.leaderboard.table import plain_text
from unlearn.leaderboard.tracks import track_named
from unlearn.metrics.model_utility import harmonic_mean
from unlearn.metrics.reference import reference_numbers
from unlearn.models.families import load_family
from unlearn.report.protocols import protocol_picture
from unlearn.results import EvalLog, read_log

FILE = "protocols.json"
Numbers = dict[str, dict[str, Both]]


def run(settings: ProtocolSettings) -> str:
    """All four protocols on `model_path`; the table as text. ValueError before a model loads for what is wrong."""
    path, split, folder, rest = settings.data_path, settings.split, Path(settings.save_dir), settings.evaluation
    six = eval_settings({**rest, "data_path": path, "split": f"{split}_perturbed", "save_dir": str(folder / "clear"),
                         "generation": {"max_new_tokens": 64}})  # fmt: skip
    family = load_family(six.model_family)
    asked = Clear(path, split, six.data_revision, six.ds_size).questions()
    logs = [read_log(pipeline.evaluate(six, family, lambda: load_tasks(six)))]
    for group, tasks in asked.items():
        ready = [eval_task(name, rows, f"{path}/{group}/{name}") for name, rows in tasks.items()]
        specs = [{"eval_task": name, "data_path": path, "split": split} for name in tasks]
        own = {**rest, "ds_size": None, "tasks": specs, "save_dir": str(folder / group),
               "generation": {"max_new_tokens": TOKENS[group]}}  # fmt: skip
        logs.append(read_log(pipeline.evaluate(read_settings(EvalSettings, own), family, _given(ready))))
    if not is_main():
        return ""
    numbers = {"clear": clear_numbers(logs[0]), **_of_logs(logs[1:])}
    return _write(folder, settings.model_path, numbers, [Path(other) / "protocols" / FILE for other in settings.beside])


def _given(tasks: list[EvalTask]) -> Any:
    return lambda: tasks


def _of_logs(logs: list[EvalLog]) -> Numbers:
    tasks = {name: task for log in logs for name, task in log.tasks.items()}
    questions = {name: {row: facts["question"] for row, facts in task["rows"].items()}
                 for log in logs if log.meta for name, task in log.meta["tasks"].items()}  # fmt: skip
    return protocol_numbers(tasks, questions)


def clear_numbers(log: EvalLog) -> dict[str, Both]:
    """CLEAR's own composites: of the released table script, and of the paper."""
    track = track_named("mm")
    means = score_log(log, track, known_rows([log], track), None).means
    losses = reference_losses(log, track)
    released = reference_numbers(losses, losses[track.forget.label], track)
    assert track.released is not None
    return {
        name: {
            "as_published": harmonic_mean(released[part] for part in track.released.composites[name]),
            "corrected": means[name],
        }
        for name in ("Forget metric", "Retain metric", "Real metric")
    }


def _write(folder: Path, model: str, numbers: Numbers, beside: list[Path]) -> str:
    write_json(folder / FILE, {"model": model, "protocols": numbers})
    header = ["protocol", "number", "as published", "corrected"]
    body = [[protocol, name, *(_cell(both[key]) for key in ("as_published", "corrected"))]
            for protocol, own in numbers.items() for name, both in own.items()]  # fmt: skip
    notes = ["Accuracies are shares of rows. -: the published code has no such number (docs/protocols.md)."]
    table = plain_text(header, body, notes)
    write_text(folder / "protocols.md", f"```text\n{table}\n```\n")
    others = [read_json(file) for file in beside]
    shown = {entry["model"]: entry["protocols"] for entry in others} | {model: numbers}
    protocol_picture(shown, folder / "protocols.png")
    return f"{table}\n\npicture: {folder / 'protocols.png'}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
