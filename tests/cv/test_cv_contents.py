"""Face models are what their photos and start checkpoints were, through the scripts: the same command after these were
replaced under the same names is refused, and says which it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cv.training.models import prepared
from minibench.faces_mini import ensure_faces
from tests.bad_input import run_script, tree

PREPARE = ("models=8", "size=16")
QUICK = ("num_epochs=1", "batch_size=512")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ensure_faces("data/faces-mini"), tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    return tmp_path


def prepare(*more: str) -> None:
    run_script("cv/prepare.py", "data_path=photos", "save_dir=study/splits", *PREPARE, *more)


def train(script: str, name: str, *more: str) -> None:
    prepared.cache_clear()
    words = () if script == "pretrain" else ("splits=study/splits", "compute.processes=1")
    run_script(f"cv/{script}.py", f"save_dir=study/{name}", *QUICK, *words, *more)


def everything() -> None:
    prepare()
    train("pretrain", "pretrained", "data_path=photos", "size=16", "test_persons=0")
    train("finetune", "original", "model_path=study/pretrained")
    train("forget", "neggrad", "model_path=study/original", "method=neggrad", "+options={}")


def files(folder: Path) -> dict[str, Any]:
    return {name: facts for name, facts in tree(folder).items() if name.endswith((".safetensors", ".json"))}


def refused(message: str, *words: str) -> None:
    before = files(Path("study"))
    with pytest.raises(ValueError, match=message):
        everything() if not words else run_script(*words)
    assert files(Path("study")) == before, "nothing is written"


def test_the_same_command_says_what_changed_since(here: Path) -> None:
    everything()
    noted = {file.parent.name: json.loads(file.read_text())["made_from"] for file in here.glob("study/*/run.json")}
    assert {name: {group: set(parts) for group, parts in one.items()} for name, one in noted.items()} == {
        "splits": {"data": {"photos"}}, "pretrained": {"data": {"photos"}},
        **dict.fromkeys(("original", "neggrad"), {"data": {"photos", "splits"}, "start": {"weights"}}),
    }  # fmt: skip
    before = {name: facts for name, facts in files(here / "study").items() if not name.endswith("run.json")}
    for file in (here / "photos").rglob("*"):
        file.touch()
    everything()
    now = files(here / "study")
    assert before == {name: now[name] for name in before}, "looked at again, and nothing is another"

    people = sorted((here / "photos").iterdir())
    shutil.copy(sorted(people[1].glob("*.png"))[0], sorted(people[0].glob("*.png"))[0])
    refused("study/splits holds a finished run .* made from something else: the photos changed since")
    refused(
        r"the photos changed since.* overrides.prepare=\['overwrite_dir=true'\]", "cv/run.py", "root=study",
        "leaderboard=board.json", "data_path=photos", f"overrides.prepare=[{','.join(map(repr, PREPARE))}]",
    )  # fmt: skip
    prepare("overwrite_dir=true")
    with pytest.raises(ValueError, match="study/original .* the photos, the splits changed since"):
        train("finetune", "original", "model_path=study/pretrained")
    train("finetune", "original", "model_path=study/pretrained", "overwrite_dir=true")
    shutil.copy("study/original/000.safetensors", "study/pretrained/model.safetensors")
    with pytest.raises(ValueError, match="study/original .* the weights of the start model changed since"):
        train("finetune", "original", "model_path=study/pretrained")
