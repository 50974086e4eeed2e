"""What the benchmarks for a GPU do where there is none, and what they do with a form that does not fit."""

import importlib
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import picture
from unlearn.models.families import load_family
from unlearn.models.start import Start
from unlearn.pipeline import load_collator

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def meters(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("meters")


def test_a_machine_without_a_gpu_is_told_so_in_one_line(meters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["benchmarks/step_profile.py"])
    with pytest.raises(SystemExit, match="^step_profile.py: no GPU here; --tiny runs"):  # a message: exit code 1
        meters.needs_gpu(False)
    meters.needs_gpu(True)


def test_what_does_not_fit_is_a_result_and_leaves_nothing_behind(meters: Any) -> None:
    class Model:
        def __init__(self) -> None:
            self.teacher = self  # a cycle, which only gc finds

    models: list[weakref.ref[Model]] = []

    def work() -> float:
        model = Model()
        models.append(weakref.ref(model))
        raise torch.OutOfMemoryError("no room")

    assert meters.or_none(work) is None and models[0]() is None
    assert meters.or_none(lambda: 3.0) == 3.0
    with pytest.raises(ZeroDivisionError):
        meters.or_none(lambda: 1 / 0)


def test_the_7b_shape_reads_pictures_of_576_tokens(meters: Any, tmp_path: Path) -> None:
    profile = importlib.import_module("step_profile")
    start = Start.of(str(profile.seven_billion(tmp_path)))
    assert start.layers == 32 and not list(tmp_path.glob("*.safetensors"))
    collator = load_collator(start, load_family("llava-mini"), 2048)
    sample: Any = {"question": "Who is it?", "answer": "Ana.", "image": picture(1, 48), "id": "a"}
    prompt = collator.encode_prompt(sample)
    assert prompt.ids.count(start.config.image_token_id) == 576
    assert prompt.image_inputs["pixel_values"].shape == (1, 3, 336, 336)


def test_a_line_of_the_table(meters: Any) -> None:
    profile = importlib.import_module("step_profile")
    seen = profile.Seen(16, seconds=[9.0, *[0.5] * 12, 1.5], shapes=[["2 x 640"]], kernels=8000, busy=300.0, peak=61.5)
    assert profile.line("KL b8", "false", seen) == (
        "| KL b8 | false | 0.500 | 9.00 | 3.0 x | 8,000 | 300 | 61.5 | 0 | 2 x 640 |"
    )
    assert profile.line("KL b8", "true", None).count("|") == 11 and "does not fit" in profile.line("", "", None)
