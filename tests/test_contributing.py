"""The worked example of CONTRIBUTING.md, taken from the page itself: registered, run on the embedded benchmark,
evaluated."""

import importlib.util
import math
import re
import sys
from pathlib import Path

import pytest
import torch

from mm.clear import forget_sources
from mm.tasks import eval_settings, load_tasks
from sweeps.tracks import compose
from unlearn import pipeline, registry
from unlearn.config.settings import ForgetSettings, read_settings
from unlearn.data.samples import REFUSALS, read_lines
from unlearn.models.families import load_family
from unlearn.results import read_log
from unlearn.scoring import Scored

PAGE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"


@pytest.fixture
def ascent_until(tmp_path, monkeypatch):
    """The page's code block as a module; unregistered again afterwards."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[1]
    assert code.count("\n") <= 40, "the example must stay short"
    monkeypatch.setattr(registry, "_METHODS", dict(registry._registry()))
    file = tmp_path / "ascent_until.py"
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ascent_until_example", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ascent_until_example", module)
    spec.loader.exec_module(module)
    return module


def test_its_value_and_its_gradient_by_hand(ascent_until):
    rows = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[0.0625, 0.9375], [0.25, 0.75]]])  # labels 0: -ln p is below
    logits = torch.log(rows).requires_grad_()
    scored = Scored(logits, torch.zeros(2, 2, dtype=torch.long))
    parts = registry.build_method("ascent_until", {"ceiling": 1.5}).loss({"forget": scored, "retain": scored}, {})
    near, far = math.log(2 * 4) / 2, math.log(16 * 4) / 2  # nats per token: 1.04 and 2.08
    assert parts["forget"].item() == pytest.approx(-(near + 1.5) / 2, rel=1e-6)
    assert parts["retain"].item() == pytest.approx((near + far) / 2, rel=1e-6)
    parts["forget"].backward()
    assert logits.grad[0].abs().min() > 0 and logits.grad[1].abs().max() == 0, "above the ceiling nothing pulls"


def test_it_runs_and_is_evaluated(ascent_until, tmp_path):
    overrides = [
        "forget_loss=ascent_until",
        "model_path=minibench/weights/llava-mini",
        f"save_dir={tmp_path}/run",
        "max_steps=3",
        "batch_size=2",
        "lr=1e-3",
        "warmup_epochs=0",
    ]
    settings = read_settings(ForgetSettings, compose("forget", overrides))
    folder = pipeline.forget(
        settings, load_family("llava-mini"), lambda: forget_sources(settings), read_lines(REFUSALS)
    )
    words = [f"model_path={folder}", "ds_size=2", "eval_task_ids=[2]", "generation.max_new_tokens=4"]
    evaluation = eval_settings(compose("eval", words))
    log = read_log(pipeline.evaluate(evaluation, load_family("llava-mini"), lambda: load_tasks(evaluation)))
    assert len(log.tasks["eval_log_forget"]["avg_gt_loss"]) == 2
    assert log.meta["run"]["method"] == "ascent_until"
