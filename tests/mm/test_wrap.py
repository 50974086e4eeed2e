"""`wrap` through the script: a small Qwen2-VL, three methods in one, what the run notes and what a second call does."""

import json
from pathlib import Path

from safetensors.torch import load_file

from minibench.tables import write_dataset
from tests.bad_input import MIXED, photos, run_script, texts
from unlearn.config.settings import EvalSettings
from unlearn.pipeline import describe_run


def test_two_wrappers_around_a_method(tmp_path: Path) -> None:
    splits = {"forget": (0, 2), "retain": (10, 3)}
    write_dataset(tmp_path / "data", {n: (MIXED, photos(*of) + texts(*of)) for n, of in splits.items()}, "Small.\n")
    words = (
        "model_family=qwen2vl-mini", "model_path=minibench/weights/qwen2vl-mini", f"save_dir={tmp_path}/run",
        f"forget_data_path={tmp_path}/data", f"retain_data_path={tmp_path}/data", "forget_split=forget",
        "retain_split=retain", "forget_loss=npo", "method_args.npo.retain_weight=1", "wrap=[salun,project]",
        "method_args.salun.k=0.25", "max_steps=2", "batch_size=2", "logging_steps=1", "warmup_epochs=0",
    )  # fmt: skip
    run_script("mm/forget.py", *words)
    measured, trained = (load_file(tmp_path / "run" / f"{n}.safetensors") for n in ("measured", "adapter_model"))
    masks = {name: mask for name, mask in measured.items() if ".lora_B." in name}
    assert sum(int(mask.sum()) for mask in masks.values()) == round(0.25 * sum(mask.numel() for mask in masks.values()))
    moved = 0
    for name, mask in masks.items():
        weights = trained[name.removeprefix("keep/").replace(".default", "")]
        moved += int((weights != 0).sum())
        assert (weights[~mask] == 0).all()  # B starts at 0
    assert moved > 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "train_log.jsonl").read_text().splitlines()]
    assert all({"parts/grad_norm_forget", "parts/grad_norm_retain"} <= set(line) for line in lines if "loss" in line)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["wrap"] == ["salun", "project"] and record["steps"] == 2
    assert describe_run(EvalSettings(), str(tmp_path / "run"))["method"] == "npo + salun + project"
    run_script("mm/forget.py", *words)
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == record, "the same command again: done"
