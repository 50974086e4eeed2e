"""A method, a column, a model and a benchmark that live outside of the project, through the scripts and from another
folder; and what is wrong with a plugin is said by its name."""

import json
import re
import sys
from pathlib import Path

import pytest

from sweeps.settings import Sweep
from sweeps.tracks import find
from tests.bad_input import ROOT, run_script
from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from unlearn import plugins, registry
from unlearn.leaderboard import tracks
from unlearn.metrics import columns
from unlearn.models import families
from unlearn.plugins import load_plugins, plugin_digests

COLUMN = """
import numpy as np

from unlearn.metrics.columns import Column, add_column

add_column(Column("Shouts", lambda answers: np.array([text.count("!") for text in answers.generated], float),
                  heading="Shouts", bounded=False, meaning="exclamation marks of a generation"))
"""
FOLDER = """
from pathlib import Path

from unlearn.leaderboard.tracks import add_track
from unlearn.models.families import add_family

add_family("outside", hf_key="minibench/weights/qwen2vl-mini", rmu_layer=1)
add_track(Path(__file__).parent / "outside_pets.yaml")
"""


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a plugin registers is gone afterwards; the test runs in another folder than the project's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_METHODS", dict(registry._registry()))
    monkeypatch.setattr(columns, "COLUMNS", columns.COLUMNS)
    monkeypatch.setattr(families, "_ADDED", {})
    monkeypatch.setattr(tracks, "_ADDED", [])
    monkeypatch.setattr(plugins, "_LOADED", {})
    before = set(sys.modules)
    yield  # type: ignore[misc]
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_contributings_method_runs_from_another_folder_and_is_noted(tmp_path: Path) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    file = tmp_path / "ascent_until.py"
    file.write_text(re.search(r"```python\n(.*?)```", page, re.S)[1], encoding="utf-8")  # type: ignore[index]
    words = ("plugins=[ascent_until.py]", "forget_loss=ascent_until", "+method_args.ascent_until.ceiling=3",
             "model_path=minibench/weights/llava-mini", "max_steps=1", "batch_size=2", "save_dir=run")  # fmt: skip
    run_script("mm/forget.py", *words, "wrap=[project]")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished" and record["made_from"]["plugins"] == plugin_digests()
    assert list(plugin_digests()) == ["ascent_until.py"]
    run_script("publish.py", "model_path=run", "export=out", "merge=true", "plugins=[ascent_until.py]")
    assert "ascent_until" in (tmp_path / "out" / "README.md").read_text()
    file.write_text(file.read_text() + "\n# another one\n")
    with pytest.raises((SystemExit, ValueError), match=r"the plugin ascent_until.py"):
        run_script("mm/forget.py", *words, "wrap=[project]")


def test_a_column_of_a_plugin_is_in_the_row(tmp_path: Path) -> None:
    (tmp_path / "shouts.py").write_text(COLUMN)
    for name, seed in (("gold", 1), ("model", 2)):
        log = make_log(seed=seed)
        save_log(tmp_path / name, log, make_meta(log))
    file = "eval_log_aggregated.json"
    words = (f"retain_result=gold/{file}", f"ckpt_result=model/{file}", "picture=false", "report=false")
    run_script("aggregate_eval_stat.py", "plugins=[shouts.py]", "save_file=board.json", *words)
    rows = json.loads((tmp_path / "board.json").read_text())
    assert all("Shouts Forget" in row for row in rows)


def test_a_folder_brings_a_model_a_track_and_a_benchmark(tmp_path: Path) -> None:
    folder = tmp_path / "outside_pets"
    folder.mkdir()
    (folder / "__init__.py").write_text(FOLDER)
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    yaml, track = (
        re.search(r"```yaml\n(name: pets.*?)```", page, re.S),
        re.search(r'```python\n("""Pets.*?)```', page, re.S),
    )
    assert yaml is not None and track is not None
    (folder / "outside_pets.yaml").write_text(yaml[1].replace("name: pets", "name: outside_pets"))
    (folder / "track.py").write_text(track[1])
    sweep = Sweep(plugins=[], track="mm")
    load_plugins([str(folder)])
    assert families.load_family("outside").rmu_layer == 1
    assert "outside_pets" in {track.name for track in tracks.tracks()}
    assert find("outside_pets").gold_split("out") == "kept" and sweep.track == "mm"
    handed = Sweep(plugins=["outside_pets", "some.module"], track="outside_pets", forget=["max_steps=2"])
    assert handed.forget == [f"plugins=[{folder},some.module]", "max_steps=2"] and handed.eval == handed.forget[:1]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("gone.py", None, "plugins: gone.py is no Python file, no folder and no module"),
        ("no_such_module", None, "plugins: no_such_module is no Python file"),
        ("broken.py", "1 / 0", r"plugins: broken.py cannot be loaded \(ZeroDivisionError: division by zero\)"),
        ("typo.py", "def f(:", r"plugins: typo.py cannot be loaded \(SyntaxError"),
        ("needs.py", "import no_such_package", r"needs.py cannot be loaded \(it needs no_such_package"),
        ("json.py", "", "plugins: json.py has the name of another module, json; rename"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_named(tmp_path: Path, name: str, code: str | None, message: str) -> None:
    if code is not None:
        (tmp_path / name).write_text(code)
    with pytest.raises(ValueError, match=message):
        load_plugins([name])
    assert plugin_digests() == {}


def test_twice_is_once_and_a_list_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "shouts.py").write_text(COLUMN)
    load_plugins(["shouts.py"])
    load_plugins([str(tmp_path / "shouts.py")])  # a second time the column would be there already
    with pytest.raises(ValueError, match=r"plugins='shouts.py' is not a list; write plugins=\[shouts.py\]"):
        load_plugins("shouts.py")
