"""compile=true with the real compiler, through the script, on whatever is here: the same adapters, nothing is off."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.bad_input import ROOT, run_script


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and not torch.cuda.is_available(), reason="needs a C++ compiler")
@pytest.mark.parametrize("method", ["KL", "RMU"])  # a teacher, and the states of a block
def test_a_compiled_run_ends_at_the_adapter_of_a_plain_one(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = ROOT / "minibench" / "weights" / "llava-mini"
    for compiled in ("true", "false"):
        run_script("mm/forget.py", f"model_path={weights}", f"forget_loss={method}", f"compile={compiled}",
                   f"save_dir=compile_{compiled}", "max_steps=3", "save_steps=0", "batch_size=2",
                   "LoRA.init_noise=0.02",
                   *(f"{side}_data_path={ROOT}/data/clear-mini" for side in ("forget", "retain")))  # fmt: skip
    assert not [text for text in caplog.messages if text.startswith("compile: off")]
    fast, plain = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("compile_true", "compile_false")
    )
    assert fast.keys() == plain.keys()
    apart = sum(float((fast[name] - plain[name]).norm()) ** 2 for name in plain) ** 0.5
    assert 0 < apart < 1e-5 * sum(float(weight.norm()) ** 2 for weight in plain.values()) ** 0.5
