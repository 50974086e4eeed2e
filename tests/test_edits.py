"""kvw and manu through the scripts, on the embedded models: what they change, that they do it twice alike, and the
precision they leave."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minibench.tables import write_dataset
from tests.bad_input import MIXED, QA, ROOT, photos, run_script, texts
from unlearn.models.ffn import down_projections, weight
from unlearn.models.loading import load_model

MM, NLP = "minibench/weights/llava-mini", "minibench/weights/llama-mini"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures and two facts to forget, three of each to keep."""
    splits = {"forget": (0, 2), "retain": (10, 3)}
    write_dataset(tmp_path / "mm", {n: (MIXED, photos(*of) + texts(*of)) for n, of in splits.items()}, "Small.\n")
    write_dataset(tmp_path / "nlp", {n: (QA, texts(*of)) for n, of in splits.items()}, "Small.\n")
    return tmp_path


def mm_words(data: Path, name: str) -> tuple[str, ...]:
    return (f"forget_loss={name}", f"forget_data_path={data}/mm", f"retain_data_path={data}/mm", "forget_split=forget",
            "retain_split=retain")  # fmt: skip


def edited(script: str, folder: Path, model: str, *words: str) -> dict[str, torch.Tensor]:
    run_script(f"{script}/forget.py", f"model_path={model}", "LoRA.r=0", f"save_dir={folder}", *words)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished" and record["steps"] == 0
    return load_file(folder / "model.safetensors")


def changed(start: str, after: dict[str, torch.Tensor]) -> set[str]:
    before = load_file(ROOT / start / "model.safetensors")
    assert before.keys() == after.keys() and all(before[n].dtype == after[n].dtype for n in before)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_kvw_damps_columns_of_the_language_model_twice_alike(tmp_path: Path, data: Path) -> None:
    words = (*mm_words(data, "kvw"), "method_args.kvw.gamma=0.1")
    one = edited("mm", tmp_path / "one", MM, *words)
    other = edited("mm", tmp_path / "two", MM, *words)
    assert all(torch.equal(one[name], other[name]) for name in one)
    moved = changed(MM, one)
    assert len(moved) == 3 and all("language_model" in name and "down_proj" in name for name in moved)
    before = load_file(ROOT / MM / "model.safetensors")
    for name in moved:
        ratio = one[name] / before[name]
        assert (ratio <= 1 + 1e-6).all() and float((ratio.amax(0) - ratio.amin(0)).max()) < 1e-4, "whole columns"


def test_manu_switches_channels_off_in_both_towers_and_keeps_bf16(tmp_path: Path, data: Path) -> None:
    model = load_model(str(ROOT / MM), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "start")
    for file in (ROOT / MM).iterdir():
        if not (tmp_path / "start" / file.name).exists():
            (tmp_path / "start" / file.name).write_bytes(file.read_bytes())
    after = edited("mm", tmp_path / "run", str(tmp_path / "start"), *mm_words(data, "manu"))
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    off: dict[str, list[list[bool]]] = {"language": [], "vision": []}
    for name, layer in down_projections(load_model(str(tmp_path / "run"))).items():
        columns = (weight(layer) == 0).all(0)
        off[name.split(".")[0]].append(columns.tolist())
    for tower, blocks in off.items():
        assert sum(map(sum, blocks)) == round(0.1 * sum(map(len, blocks[-3:]))) > 0, tower
        assert not any(map(any, blocks[:-3])), "the last three blocks"
    assert all("down_proj" in name or "fc2" in name for name in changed(str(tmp_path / "start"), after))


@pytest.mark.parametrize("name", ["kvw", "manu"])
def test_texts_alone_and_nothing_asked(tmp_path: Path, data: Path, name: str) -> None:
    words = (f"forget_loss={name}", f"data_path={data}/nlp", "split=forget", "retain_split=retain")
    assert changed(NLP, edited("nlp", tmp_path / "run", NLP, *words))
    none = {"kvw": "method_args.kvw.gamma=0", "manu": "method_args.manu.alpha=0"}[name]
    assert not changed(NLP, edited("nlp", tmp_path / "none", NLP, *words, none))
