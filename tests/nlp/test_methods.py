"""Every method on text rows: identities at the start through this track's collator, and a run through the pipeline."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nlp.tofu import forget_keys, forget_sources
from tests.models import tiny_llama
from tests.nlp.test_config import composed
from unlearn import pipeline
from unlearn.config.settings import ForgetSettings, read_settings
from unlearn.data.collator import Collator
from unlearn.data.samples import REFUSALS, read_lines
from unlearn.data.views import Draw, ForgetRetainDataset, StepCollator
from unlearn.models.families import Family
from unlearn.models.forward import StudentForward, score_views
from unlearn.registry import build_method, method_names

STATIONARY = {"grad_diff_forget_KL_retain_KL", "scrub_bio"}
FAMILY = Family("llama-mini", "unused", text_only=True, rmu_layer=1)


def settings_of(name: str, model: Path, folder: Path, *more: str) -> ForgetSettings:
    words = (
        f"forget_loss={name}",
        f"model_path={model}",
        f"save_dir={folder}",
        "split=forget01",
        "max_steps=2",
        "lr=1e-2",
        "warmup_epochs=0",
        "batch_size=4",
        "logging_steps=1",
        "save_steps=0",
        *more,
    )
    return read_settings(ForgetSettings, forget_keys(composed("forget", *words)))


def dataset_of(name: str) -> ForgetRetainDataset:
    method = build_method(name)
    views = {view.name: view for view in (*method.student_views, *method.teacher_views)}
    settings = settings_of(name, Path("unused"), Path("unused"))
    forget, retain = forget_sources(settings)
    return ForgetRetainDataset(
        list(views.values()), forget=forget, retain=retain, refusals=read_lines(REFUSALS), seed=1
    )


def batch_of(name: str, rows: list[int]) -> dict[str, Any]:
    dataset = dataset_of(name)
    return StepCollator(Collator(tiny_llama()[1]))([dataset[Draw(0, row)] for row in rows])["views"]


def loss_at_start(name: str, batch: dict[str, Any]) -> dict[str, float]:
    """The parts of the loss where student and teacher are the same model."""
    method = build_method(name)
    views = score_views(StudentForward(tiny_llama()[0], method.hidden, default_layer=0)(batch))
    parts = method.loss(views, {name: view.detach() for name, view in views.items()})
    return {part: float(value.detach()) for part, value in parts.items()}


def test_at_the_start():
    rows = list(range(8))
    assert sum(loss_at_start("npo", batch_of("npo", rows)).values()) == pytest.approx(2 * math.log(2), abs=1e-5)
    assert loss_at_start("dpo", batch_of("dpo", rows))["dpo"] == pytest.approx(math.log(2), abs=1e-5)
    name = "grad_diff_forget_KL_retain_KL"
    assert all(abs(value) < 1e-6 for value in loss_at_start(name, batch_of(name, rows)).values())
    assert loss_at_start("RMU", batch_of("RMU", rows))["retain"] == 0.0
    batch = batch_of("grad_diff", rows)
    ascent = loss_at_start("grad_ascent", {"forget": batch["forget"]})
    descent = loss_at_start("retain_ft", {"retain": batch["forget"]})
    assert sum(ascent.values()) == pytest.approx(-sum(descent.values()), rel=1e-6)


@pytest.mark.parametrize("name", ["npo", "grad_diff", "idk", "LLMU", "twins"])
def test_order_and_padding_change_nothing(name):
    """Eight rows, the same rows reversed, and (for a mean over sequences) each row in a batch of its own."""
    rows = list(range(8))
    forwards = loss_at_start(name, batch_of(name, rows))
    backwards = loss_at_start(name, batch_of(name, rows[::-1]))
    for part, value in forwards.items():
        assert backwards[part] == pytest.approx(value, rel=1e-5, abs=1e-6)
    if name == "npo":
        single = [sum(loss_at_start(name, batch_of(name, [row])).values()) for row in rows]
        assert sum(forwards.values()) == pytest.approx(sum(single) / len(rows), rel=1e-5)


def test_refusals_are_lines_of_the_bank_and_never_the_truth():
    dataset, tokenizer = dataset_of("idk"), tiny_llama()[1]
    items = [dataset[Draw(0, row)] for row in range(8)]
    batch = StepCollator(Collator(tokenizer))(items)["views"]["idk"]["rows"]
    bank = read_lines(REFUSALS)
    for item, (_, answer) in zip(items, batch, strict=True):
        assert tokenizer.decode(answer[:-1]) in bank and answer[-1] == tokenizer.eos_token_id
        assert item["views"]["idk"]["question"] in dataset.sources["forget"].questions


def test_twins_teacher_does_not_see_the_name():
    dataset = dataset_of("twins")
    for row in range(8):
        views = dataset[Draw(0, row)]["views"]
        question, shown = views["forget"]["question"], views["augmented"]["question"]
        assert views["augmented"]["answer"] == views["forget"]["answer"]
        assert len(shown) < len(question) and not any(word.istitle() for word in shown.split()[1:]), shown


# at their defaults these two let go of what a model without training never knew: there is nothing to see move
UNKNOWN = {"simnpo": ["method_args.simnpo.beta=0.5"], "satimp": ["method_args.satimp.beta1=0.5"],
           "altpo": ["method_args.altpo.K=2"]}  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A model folder to forget from."""
    folder = tmp_path_factory.mktemp("start")
    for part in tiny_llama():
        part.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(  # pava asks about pictures; edits train nothing (tests/test_edits.py)
    "name", sorted(set(method_names()) - {"pava", "kvw", "manu"})
)
def test_every_method_runs_through_the_pipeline(name, start, tmp_path):
    from safetensors.torch import load_file

    noise = ["LoRA.init_noise=0.02"] if name in STATIONARY else []
    settings = settings_of(name, start, tmp_path / "run", *noise, *UNKNOWN.get(name, ()))
    folder = pipeline.forget(settings, FAMILY, lambda: forget_sources(settings), read_lines(REFUSALS))
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished" and record["steps"] == 2
    assert record["settings"]["retain_split"] == "retain99" and record["settings"]["modality"] == "text"
    weights = load_file(folder / "adapter_model.safetensors")
    moved = [tensor.abs().max() for key, tensor in weights.items() if ".lora_B." in key]
    assert len(moved) == 14 and all(torch.isfinite(tensor).all() for tensor in weights.values()) and max(moved) > 1e-3
    log = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    assert all(math.isfinite(entry["loss"]) for entry in log if "loss" in entry) and any(
        "parts/" in key for key in log[0]
    )
    shutil.rmtree(folder)
