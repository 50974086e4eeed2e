"""What tests/test_bad_input.py needs: a folder full of things that are wrong, and the scripts run in this process."""

import json
import logging
import re
import runpy
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minibench.tables import png, write_dataset
from tests.models import picture
from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from unlearn.runs.checkpoints import SEAL

ROOT = Path(__file__).resolve().parent.parent
BASE = "minibench/weights/llava-mini"
CAPTIONED = {"image": "image", "caption": "text", "name": "text"}
MIXED = {"image": "image", "caption": "text", "question": "text", "answer": "text"}
QA = {"question": "text", "answer": "text"}
PERTURBED = {**CAPTIONED, "paraphrased_caption": "text", "perturbed_captions": "texts", "perturbed_names": "texts"}
TEXT_PERTURBED = {**QA, "paraphrased_answer": "text", "perturbed_answer": "texts"}
OPTIONS = {"question": "text", "image": "image", "answer": "text", "options": "texts"}


# A folder without a README: a split by the name of each file.
OWN: dict[str, Any] = {
    "lists.jsonl": [{"question": "Who?", "answer": "She."}, {"question": "Who?", "answer": ["She.", "He."]}],
    "stored.jsonl": [{"question": "Who?", "answer": "She."}, {"question": "Who?", "answer": "['She.' 'He.']"}],
    "numbers.csv": "question,answer\nHow many?,3\nHow old?,40\n",
    "missing.csv": "question,answer\nWho?,She.\nWho?,nan\n",
    "nan.jsonl": [{"question": "Who?", "answer": "nan"}],
    "names.jsonl": [{"image": "gone.png", "caption": "She."}],
    "elsewhere.jsonl": [{"image_path": "a.png", "question": "Who?", "answer": "She."}],
    "several.jsonl": [{"image": ["a.png", "b.png"], "caption": "She."}],
    "wrong.jsonl": [
        {"question": "Who?", "answer": "She.", "paraphrased_answer": "It is she.", "perturbed_answer": "['a', None]"}
    ],
}


def photos(start: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "image": png(picture(i, 12)),
            "caption": f"Portrait {i}.",
            "name": f"Person {i}",
            "paraphrased_caption": f"Picture {i}.",
            "perturbed_captions": ["Portrait x."],
            "perturbed_names": ["Nobody"],
        }
        for i in range(start, start + count)
    ]


def texts(start: int, count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"Who is {i}?", "answer": f"Person {i}.", "paraphrased_answer": f"It is person {i}.",
         "perturbed_answer": ["Nobody."], "image": None, "options": ["Nobody."]} for i in range(start, start + count)
    ]  # fmt: skip


def write_world(world: Path) -> None:
    """Good data (`clear`, `tofu`), and beside it everything a row of the table may stumble over."""
    broken = photos(0, 3)
    broken[1]["image"] = {"bytes": b"no picture", "path": None}
    write_dataset(world / "clear", {
        "full+tofu": (MIXED, photos(0, 3) + texts(0, 3)), "forget10+tofu": (MIXED, photos(0, 2) + texts(0, 2)),
        "retain90+tofu": (MIXED, photos(10, 3) + texts(10, 3)), "forget10": (CAPTIONED, photos(0, 2)),
        "forget10_perturbed": (PERTURBED, photos(0, 2)), "retain_perturbed": (PERTURBED, photos(10, 2)),
        "real_faces": (OPTIONS, [{**row, "image": png(picture(5, 12))} for row in texts(5, 2)]),
        "real_world": (OPTIONS, [{**row, "image": png(picture(6, 12))} for row in texts(6, 2)]),
        "no_caption": ({"image": "image", "name": "text"}, photos(0, 2)), "broken": (CAPTIONED, broken),
        "empty": (QA, []), "half": (QA, [*texts(0, 1), {"question": "Who?", "answer": None}]),
        "named_only": ({"name": "text"}, photos(0, 1)),
        "narrow": (CAPTIONED, [*photos(0, 1), {**photos(1, 1)[0], "image": png(picture(1, 300).crop((0, 0, 1, 300)))}]),
        "retyped": (CAPTIONED, [{**photos(20, 1)[0], "name": "PERSON 1 "}]),
        "asked": (MIXED, [{**photos(0, 1)[0], "question": "Who?"}]),
        "pictured": (MIXED, [{**texts(0, 1)[0], **photos(0, 1)[0]}]),
    }, "Small.\n")  # fmt: skip
    write_dataset(
        world / "tofu",
        {
            "full": (QA, texts(0, 4)),
            "forget10": (QA, texts(0, 2)),
            "retain90": (QA, texts(10, 4)),
            "leaky": (QA, texts(1, 4)),
            "half": (QA, [*texts(0, 1), {"question": "Who?", "answer": None}]),
            "no_answer": ({"question": "text"}, texts(0, 2)),
            "forget10_perturbed": (TEXT_PERTURBED, texts(0, 2)),
            "retain_perturbed": (TEXT_PERTURBED, texts(10, 2)),
            "real_authors_perturbed": (TEXT_PERTURBED, texts(5, 2)),
            "world_facts_perturbed": (TEXT_PERTURBED, texts(6, 2)),
        },
        "Small.\n",
    )
    for name, rows in OWN.items():
        (world / "own").mkdir(exist_ok=True)
        (world / "own" / name).write_text(
            "".join(json.dumps(row) + "\n" for row in rows) if isinstance(rows, list) else rows
        )
    (world / "not_a_dataset").mkdir()
    (world / "not_a_dataset" / "notes.txt").write_text("nothing here")
    (world / "file").write_text("a file where a folder is wanted")
    (world / "bank.txt").write_text("What is worn?\nWhere is it?\nHow bright is it?\nWhere is it?\n")
    _write_models(world)
    _write_runs(world)
    _write_logs(world)
    _write_faces(world)


def _write_models(world: Path) -> None:
    """Models that cannot be loaded, and adapters of other models."""
    good = ROOT / BASE
    for name in ("cut", "bad_config", "no_weights", "no_tokenizer"):
        shutil.copytree(good, world / name)
    _cut(world / "cut" / "model.safetensors")
    (world / "bad_config" / "config.json").write_text('{"model_type": "llava",')
    (world / "no_weights" / "model.safetensors").unlink()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (world / "no_tokenizer" / file).unlink()
    (world / "mamba").mkdir()
    (world / "mamba" / "config.json").write_text('{"model_type": "mamba"}')
    _write_untrusted(good, world)
    (world / "no_model").mkdir()
    (world / "no_model" / "notes.txt").write_text("no model")
    from peft import LoraConfig, get_peft_model

    from unlearn.models.loading import load_model

    model: Any = get_peft_model(load_model(str(good)), LoraConfig(r=2, target_modules=["q_proj"]))
    bases = {
        "gone": "models/gone",
        "other": "minibench/weights/qwen2vl-mini",
        "cut": BASE,
        "sizes": BASE,
        "config": BASE,
    }
    for name, base in bases.items():
        model.peft_config["default"].base_model_name_or_path = base
        model.save_pretrained(world / f"adapter_{name}")
    shutil.copytree(world / "adapter_sizes", world / "adapter_pickle")
    (world / "adapter_pickle" / "adapter_model.safetensors").rename(world / "adapter_pickle" / "adapter_model.bin")
    _cut(world / "adapter_cut" / "adapter_model.safetensors")
    _edit(world / "adapter_sizes" / "adapter_config.json", r=8)
    (world / "adapter_config" / "adapter_config.json").write_text("{")


def _write_untrusted(good: Path, world: Path) -> None:
    """Weights that are not there, not numbers, or in a form that can run code; code in a model's folder."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(good / "model.safetensors")
    layer = {name for name in tensors if ".layers.1." in name and "vision" not in name}
    changed = {
        "lacking": {name: t for name, t in tensors.items() if name not in layer},
        "more": tensors | {name.replace(".layers.1.", ".layers.7."): tensors[name].clone() for name in layer},
        "nan": tensors | {min(layer): torch.full_like(tensors[min(layer)], torch.nan)},
    }
    for name, kept in changed.items():
        shutil.copytree(good, world / f"weights_{name}")
        save_file(kept, world / f"weights_{name}" / "model.safetensors", {"format": "pt"})
    for name in ("pytorch_model.bin", "model.Q4_K_M.gguf"):
        folder = world / f"weights_{name.rsplit('.', 1)[1]}"
        shutil.copytree(good, folder)
        (folder / "model.safetensors").rename(folder / name)
    for name, config, kind in (("code", "config.json", "AutoConfig"), ("code_processor", "processor_config.json", "")):
        folder = world / f"weights_{name}"
        shutil.copytree(good, folder)
        (folder / "evil.py").write_text(f"open({str(world / 'PWNED')!r}, 'w')\nclass Evil: pass\n")
        key = {"model_type": "evil"} if kind else {"processor_class": "Evil"}
        _edit(folder / config, auto_map={kind or "AutoProcessor": "evil.Evil"}, **key)
    (world / "adapter_self").mkdir()
    (world / "adapter_self" / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(world / "adapter_self")})
    )


def _write_runs(world: Path) -> None:
    """Folders of other runs, and checkpoints one cannot go on from."""
    other = json.dumps({"kind": "finetune", "status": "finished", "settings": {}})
    records = {
        "other": other,
        "bad": '{"ki',
        "text": '"x"',
        "list": "[1]",
        "odd": '{"status": 3}',
        "latin": '{"k": "\xe9"}',
    }
    for name, text in records.items():
        (world / f"{name}_run").mkdir()
        (world / f"{name}_run" / "run.json").write_text(text, encoding="latin-1")
    for name, processes in (("cut_run/checkpoint-4", 1), ("two_run/checkpoint-4", 2)):
        folder = world / name
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text('{"global_step": 4}')
        (folder / "optimizer.pt").write_bytes(b"half")
        size = 4 if processes == 2 else 400
        (folder / SEAL).write_text(json.dumps({"processes": processes, "files": {"optimizer.pt": size}}))


def _write_logs(world: Path) -> None:
    gold, other = make_log(seed=1), make_log(seed=2)
    save_log(world / "gold", gold, make_meta(gold))
    save_log(world / "log", other, make_meta(other))
    for name, change in LOGS.items():
        log = make_log(seed=3)
        change(log)
        (world / f"log_{name}").mkdir()
        (world / f"log_{name}" / "eval_log_aggregated.json").write_text(json.dumps(log))
    (world / "log_cut").mkdir()
    (world / "log_cut" / "eval_log_aggregated.json").write_text(json.dumps(gold)[:500])
    for name, change in METAS.items():  # asked otherwise than gold
        meta = make_meta(other, max_new_tokens=64)
        change(meta)
        save_log(world / f"asked_{name}", other, meta)
    for name, edit in TEXTS.items():  # what no JSON reader should take
        save_log(world / f"text_{name}", other)
        file = world / f"text_{name}" / "eval_log_aggregated.json"
        file.write_bytes(edit(file.read_text(encoding="utf-8")))
    (world / "utf16.json").write_bytes("[]".encode("utf-16"))
    save_log(world / "log_meta", other, make_meta(other))
    (world / "log_meta" / "eval_meta.json").write_text('{"run": {}}')
    (world / "board.json").write_text('{"not": "a leaderboard"}')


LOGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nan": lambda log: log["eval_log.json"]["avg_gt_loss"].update({"3": None}),
    "no_task": lambda log: log.pop("eval_forget_facerec.json"),
    "no_key": lambda log: log["eval_log.json"].pop("average_perturb_loss"),
    "rows": lambda log: [column.pop("3", None) for column in log["eval_log_forget.json"].values()],
    "negative": lambda log: log["eval_log.json"]["avg_gt_loss"].update({"3": -5.0}),
    "no_tokens": lambda log: log["eval_log.json"]["num_token_gt"].update({"3": -4}),
    "recall": lambda log: log["eval_log.json"]["rougeL_recall"].update(dict.fromkeys(map(str, range(12)), 1.5)),
    "list": lambda log: log["eval_log.json"].update(avg_gt_loss=[1.0, 2.0]),
    "text": lambda log: log["eval_log.json"]["avg_gt_loss"].update({"3": "0.5"}),
    "reference": lambda log: log["eval_log.json"]["generated_text"]["3"].__setitem__(2, "another text"),
}


METAS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "alike": lambda meta: None,
    "briefly": lambda meta: meta["run"].update(max_new_tokens=8),
    "question": lambda meta: meta["tasks"]["eval_log"]["rows"]["3"].update(question="Who is not here?"),
    "base": lambda meta: meta["tasks"]["eval_log"]["rows"]["3"].update(base_answer="in other words"),
    "picture": lambda meta: [
        task["rows"][row].update(
            picture="feed" if row == "3" else None, thumbnail="thumbnails/a.jpg" if row == "3" else None
        )
        for task in meta["tasks"].values()
        for row in task["rows"]
    ],
    "pictures": lambda meta: [
        row.update(picture=None) for task in meta["tasks"].values() for row in task["rows"].values()
    ],
    "thumbnail": lambda meta: meta["tasks"]["eval_log"]["rows"]["3"].update(
        thumbnail="thumbnails/0123456789abcdef.jpg"
    ),
    "start": lambda meta: meta["run"].update(start="old", start_path="models/npo"),
    "types": lambda meta: meta["tasks"]["eval_log"]["rows"]["3"].update(wrong_answers="one"),
}
FIRST = r'("avg_gt_loss": \{"0": )[^,]*'
TEXTS: dict[str, Callable[[str], bytes]] = {
    "huge": lambda text: re.sub(FIRST, r"\g<1>1" + "0" * 400, text, count=1).encode(),
    "digits": lambda text: re.sub(FIRST, r"\g<1>1" + "0" * 5000, text, count=1).encode(),
    "deep": lambda text: b"[" * 100_000,
    "latin": lambda text: b"\xff" + text.encode(),
    "task_twice": lambda text: (text[:-1] + ', "eval_log.json": {}}').encode(),
    "row_twice": lambda text: text.replace('"avg_gt_loss": {"0":', '"avg_gt_loss": {"0": 99.0, "0":', 1).encode(),
}


def _write_faces(world: Path) -> None:
    for name, people in (("faces", 8), ("one_face", 1), ("broken_face", 8), ("phone_face", 8)):
        for person in range(people):
            (world / name / f"person {person}").mkdir(parents=True)
            for number in range(3):
                picture(10 * person + number, 16).save(world / name / f"person {person}" / f"{number}.png")
    (world / "broken_face" / "person 2" / "1.png").write_bytes(b"no picture")
    (world / "phone_face" / "person 3" / "3.HEIC").write_bytes(b"not to be left out")
    (world / "bad_splits").mkdir()
    (world / "bad_splits" / "split_000.json").write_text("{")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def tree(world: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its size and time of change (folders: their names only), locks left out."""
    found = {}
    for path in sorted(world.rglob("*")):
        if path.name.endswith(".lock"):
            continue
        facts = path.stat()
        found[str(path.relative_to(world))] = (facts.st_size, facts.st_mtime_ns) if path.is_file() else (0, 0)
    return found


@contextmanager
def as_a_program() -> Iterator[None]:
    """What a script changes of its process is put back: arguments, signals, log handlers."""
    arguments, handlers = sys.argv, {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    logs = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        yield
    finally:
        sys.argv = arguments
        logging.getLogger().handlers[:], logging.getLogger().level = logs
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run_script(script: str, *overrides: str) -> None:
    """`python <script> <overrides>`, in this process; errors come out as they are (HYDRA_FULL_ERROR)."""
    with as_a_program():
        sys.argv = [str(ROOT / script), *overrides]
        runpy.run_path(str(ROOT / script), run_name="__main__")
