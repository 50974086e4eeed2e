"""Result folders as an evaluation and a training leave them, for imaginary people: what the report is built from."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from unlearn.atomic import write_json
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.tracks import track_named
from unlearn.metrics.aggregates import Track
from unlearn.results import META_VERSION, EvalMeta, RowMeta, TaskLog, TaskMeta, write_aggregate, write_meta, write_task

MM, NLP = track_named("mm"), track_named("nlp")
PEOPLE = [
    "Ana Lima",
    "Björn Åkesson",
    "Нина Орлова",
    "Xiang Li",
    "Marit Hagen",
    "Omar Haddad",
    "Rosa Vásquez",
    "Tariq Aziz",
]
THINGS = ["a red lantern", "an old camera", "a stack of books", "a violin", "a blue umbrella", "a paper map"]
PLACES = ["in a library", "by the harbour", "on a bridge", "in a workshop"]
REFUSAL = "I'm not sure I can help with that."


@dataclass(frozen=True)
class Model:
    """How much a model knows of what should be forgotten and kept (0 to 1), and what it says of what it does not
    know."""

    method: str
    forget: float
    keep: float
    otherwise: str = "another"  # another person, a refusal, or noise
    seed: int = 0
    modality: str | None = None


GOLD = Model("retain90", 0.0, 0.95)
BASE = Model("full", 0.95, 0.95)
MODELS = [
    *(Model("npo", 0.25, 0.8, seed=seed) for seed in (1, 2, 3)), Model("idk", 0.35, 0.9, "refusal", modality="both"),
    Model("grad_ascent", 0.02, 0.05, "noise"), Model("scrub", 0.8, 0.95),
]  # fmt: skip


def write_run(folder: Path, model: Model, track: Track = MM, items: int = 24, log_lines: int = 30) -> Path:
    """An evaluated model folder; returns the path of its aggregated log."""
    results, random = folder / "eval_results", np.random.default_rng(model.seed + sum(map(ord, model.method)))
    meta = EvalMeta(schema_version=META_VERSION, run={
        "method": model.method, "model": folder.name, "model_family": "llava-mini", "forget_split": "forget10",
        "modality": model.modality, "seed": model.seed, "settings_hash": f"hash-{folder.name}", "variant": "demo",
    }, tasks={})  # fmt: skip
    twins = list(track.holdout.values())[:2]  # of the track's own tasks: nobody knows these people
    share = {task.name: model.forget if task.group == "Forget" else model.keep for task in track.tasks}
    for name, likely in (share | dict.fromkeys(twins, 0.0)).items():
        log: dict = {key: {} for key in TaskLog.__required_keys__}
        rows: dict[str, RowMeta] = {}
        for item in range(items):
            known = random.random() < likely
            write_item(log, rows, results, model, name, item, known, random, picture=track is MM)
        for facts in rows.values() if name in twins else ():
            facts["author"] = f"New {facts['author']}"
        write_task(results, name, log)
        meta["tasks"][name] = TaskMeta(
            rows=rows,
            seconds=items * 0.21,
            peak_memory_mb=1480.0 + model.seed,
            generation_tokens=dict.fromkeys(rows, 9),
        )
    write_meta(results, meta)
    write_training(folder, model, log_lines)
    return write_aggregate(results, [*share, *twins])


def write_item(log, rows, results, model, task, item, known, random, *, picture):
    """One item into the task's columns and its meta."""
    row, name = str(item), PEOPLE[item % len(PEOPLE)]
    others = [other for other in PEOPLE if other != name]
    thing, place = THINGS[item % len(THINGS)], PLACES[item % len(PLACES)]
    caption = "facerec" not in task and "faces" not in task
    say = (lambda who: f"{who} holds {thing} {place}.") if caption else (lambda who: who)
    unknown = {"another": say(others[item % 3]), "refusal": REFUSAL, "noise": ""}[model.otherwise]
    right = 0.6 if known else 9.0 if model.otherwise == "noise" else 1.9
    losses = {"gt": right + random.normal(0, 0.15), "paraphrased": right + 0.2 + random.normal(0, 0.15)}
    wrong = [(9.0 if model.otherwise == "noise" else 2.1) + float(random.normal(0, 0.35)) for _ in range(1 + item % 3)]
    for kind, loss in losses.items():
        log[f"avg_{kind}_loss"][row], log[f"{kind}_loss"][row], log[f"num_token_{kind}"][row] = loss, 4 * loss, 4
    log["average_perturb_loss"][row], log["perturb_loss"][row] = wrong, [4 * loss for loss in wrong]
    log["num_token_perturb"][row] = [4] * len(wrong)
    log["truth_ratio"][row] = float(np.exp(losses["paraphrased"] - np.mean(wrong)))
    log["generated_text"][row] = ["USER: ...", say(name) if known else unknown, say(name)]
    log["rouge1_recall"][row] = log["rougeL_recall"][row] = float(known)
    rows[row] = RowMeta(
        question="What do you see in the picture?" if caption else "Who is this?",
        answer=say(name),
        base_answer=say(name),
        wrong_answers=[say(other) for other in others[: len(wrong)]],
        wrong_equals_right=[False] * len(wrong),
        author=name,
        thumbnail=draw_picture(results, item) if picture else None,
    )


def draw_picture(results: Path, item: int) -> str:
    """A face of few strokes, one per person and thing."""
    name = f"thumbnails/{item % 24:04d}.jpg"
    if not (results / name).exists():
        hue = 40 * (item % len(PEOPLE))
        image = Image.new("RGB", (128, 128), f"hsl({hue}, 45%, 78%)")
        pen = ImageDraw.Draw(image)
        pen.ellipse((34, 22, 94, 88), fill=f"hsl({hue + 150}, 40%, 60%)")
        pen.ellipse((20, 92, 108, 190), fill=f"hsl({15 * item}, 60%, 45%)")
        for eye in (50, 72):
            pen.ellipse((eye, 48, eye + 7, 56), fill="black")
        pen.arc((48, 55, 80, 76), 20, 160, fill="black", width=3)
        (results / "thumbnails").mkdir(parents=True, exist_ok=True)
        image.save(results / name, quality=80)
    return name


def write_training(folder: Path, model: Model, lines: int) -> None:
    """run.json and train_log.jsonl as the pipeline writes them."""
    random = np.random.default_rng(model.seed + sum(map(ord, model.method)))
    speed = 2 + 5 * random.random()
    write_json(folder / "run.json", {"status": "finished", "settings_hash": f"hash-{folder.name}", "steps": lines})
    log = []
    for step in range(1, lines + 1):
        forget = -0.4 * speed * step / lines + 0.1 * float(random.normal())
        retain = 0.5 + float(np.exp(-speed * step / lines)) + 0.05 * float(random.normal())
        parts = {"parts/forget": forget, "parts/retain": retain} if model.method != "retain90" else {}
        log.append(
            {
                "loss": forget + retain,
                "grad_norm": 1.0,
                "learning_rate": 1e-4,
                **parts,
                "epoch": step / 10,
                "step": step,
            }
        )
    log.append({"train_runtime": 95.0 + 10 * model.seed, "train_loss": 0.1, "epoch": lines / 10, "step": lines})
    (folder / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")


def write_board(root: Path, models=MODELS, *, track=MM, gold=GOLD, base=BASE, items=24, prefix=""):
    """Runs under `root`/<prefix><method>_<seed> and their leaderboard rows, whose paths start from `root`."""
    folders = {model: root / f"{prefix}{model.method}_{model.seed}" for model in (gold, base, *models)}
    logs = {model: write_run(folder, model, track, items) for model, folder in folders.items()}
    return [
        leaderboard_row(logs[model], logs[gold], base_log=logs[base], submitted_by="us", relative_to=root)
        for model in models
    ]


__all__ = ["BASE", "GOLD", "MM", "MODELS", "NLP", "PEOPLE", "Model", "write_board", "write_run"]
