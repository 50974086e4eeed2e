"""The methods on views of their own through the scripts, once each: pictures, texts and both, with LoRA and without."""

import json
import math
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.bad_input import BASE, run_script

NLP_BASE, QWEN = "minibench/weights/llama-mini", "minibench/weights/qwen2vl-mini"
SHORT = ("max_steps=2", "batch_size=2", "logging_steps=1", "save_steps=0", "warmup_epochs=0")


@pytest.mark.parametrize(
    ("script", "words", "parts"),
    [
        ("mm", ("forget_loss=vgid", "modality=visual", f"model_path={BASE}"), {"forget", "retain", "forget_nll"}),
        (
            "mm",
            ("forget_loss=jensun", "modality=both", f"model_path={QWEN}", "model_family=qwen2vl-mini", "LoRA.r=0"),
            {"forget", "retain", "forget_nll"},
        ),
        (
            "nlp",
            ("forget_loss=jensun", "split=forget01", f"model_path={NLP_BASE}", "method_args.jensun.retain_weight=0"),
            {"forget", "forget_nll"},
        ),
        (
            "mm",
            ("forget_loss=eco_ft", "modality=both", f"model_path={BASE}", "forget_split=forget01+tofu"),
            {"forget", "retain"},
        ),
        (
            "mm",
            (
                "forget_loss=pava",
                "modality=visual",
                f"model_path={QWEN}",
                "model_family=qwen2vl-mini",
                "LoRA.r=0",
                "forget_split=forget01",
                "retain_split=null",
            ),
            {"forget", "anchor", "forget_nll"},
        ),
    ],
)
def test_two_steps_through_the_script(tmp_path: Path, script: str, words: tuple[str, ...], parts: set[str]) -> None:
    run_script(f"{script}/forget.py", *words, *SHORT, f"save_dir={tmp_path / 'run'}")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished" and record["steps"] == 2
    log = [json.loads(line) for line in (tmp_path / "run" / "train_log.jsonl").read_text().splitlines()]
    steps = [entry for entry in log if "loss" in entry]
    assert {name.removeprefix("parts/") for name in steps[0] if name.startswith("parts/")} == parts
    assert all(math.isfinite(entry["loss"]) for entry in steps)
    full = "LoRA.r=0" in words
    weights = load_file(tmp_path / "run" / ("model.safetensors" if full else "adapter_model.safetensors"))
    if full:
        family = QWEN if QWEN in words[2] else BASE
        before = load_file(Path(family) / "model.safetensors")
        assert any(not before[name].equal(tensor) for name, tensor in weights.items() if name in before)
    else:
        assert max(float(t.abs().max()) for name, t in weights.items() if "lora_B" in name) > 1e-5
