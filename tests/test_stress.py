"""mm/stress.py and nlp/stress.py through the scripts: all tests on a few rows, kept results, and what is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import ROOT, run_script
from unlearn.stress_log import read_unit

SMALL = ("leak.samples=3", "leak.k=[1,3]", "leak.max_new_tokens=3", "relearn.steps=[0,1]", "relearn.batch_size=2",
         "generation.max_new_tokens=3", "quantisation=[rtn4]")  # fmt: skip
MM, NLP = (str(ROOT / "minibench" / "weights" / name) for name in ("llava-mini", "llama-mini"))
TRACKS = {
    "mm": (MM, "ds_size=4", "variants=[insist,grey,prefill]", f"data_path={ROOT}/data/clear-mini",
           f"text_data_path={ROOT}/data/tofu-mini"),
    "nlp": (NLP, "ds_size=4", "variants=[insist,paraphrase]", f"data_path={ROOT}/data/tofu-mini"),
}  # fmt: skip
TESTS = {"mm": ["variants", "leak", "matrix", "quantisation", "relearning", "depth", "probe"],
         "nlp": ["variants", "leak", "quantisation", "relearning", "depth"]}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def stress(track: str, *more: str) -> None:
    model, *words = TRACKS[track]
    paths = (f"model_path={model}", f"base_path={model}", f"gold_path={model}", "save_dir=out")
    given = dict(word.split("=", 1) for word in (*paths, *words, *SMALL, *more))
    run_script(f"{track}/stress.py", *(f"{key}={value}" for key, value in given.items()))


@pytest.mark.parametrize("track", [pytest.param("mm", marks=pytest.mark.slow), "nlp"])
def test_every_test_through_the_script(track: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One model in all three places: no difference anywhere, and a second call has nothing to do."""
    stress(track)
    folder, name = tmp_path / "out", Path(TRACKS[track][0]).name
    said = capsys.readouterr().out
    assert "| test | what | base | gold |" in said and "stress: out/stress.html" in said
    files = {one: {test: folder / one / f"{test}.json" for test in TESTS[track]} for one in ("base", "gold", name)}
    assert all(file.is_file() for own in files.values() for file in own.values())
    summary = json.loads((folder / "stress_summary.json").read_text())
    assert list(summary["tests"]) == TESTS[track]
    for test in TESTS[track]:
        for entry in summary["tests"][test]:
            numbers = entry["models"]
            assert numbers["base"]["mean"] == numbers["gold"]["mean"] == numbers[name]["mean"], (test, entry["label"])
            assert numbers[name].get("difference", [0])[0] in (0, None)
    labels = {entry["label"] for entry in summary["tests"]["variants"]}
    assert labels == {"plain", "worst prompt", *TRACKS[track][2].removeprefix("variants=[").rstrip("]").split(",")}
    if track == "mm":
        tasks = {entry["task"] for entry in summary["tests"]["matrix"]}
        assert {"eval_named_forget", "eval_twohop_forget", "eval_named_retain", "eval_twohop_retain"} < tasks
        log = json.loads((folder / "base" / "matrix" / "eval_twohop_forget.json").read_text())
        assert all("this person" in text[0].lower() for text in log["generated_text"].values())
    else:
        stress(track, "tests=[gradient]", "save_dir=norms")  # named only
        (entry, _) = json.loads((tmp_path / "norms" / "stress_summary.json").read_text())["tests"]["gradient"]
        assert entry["label"] == "AUC" and 0 <= entry["models"][name]["mean"] == entry["models"]["gold"]["mean"] <= 1
        assert "| gradient | membership AUC of log_forget, total |" in (tmp_path / "norms" / "stress.md").read_text()
    times = {file: file.stat().st_mtime_ns for own in files.values() for file in own.values()}
    files[name]["leak"].unlink()
    stress(track)
    changed = {file for file, time in times.items() if file.stat().st_mtime_ns != time}
    assert changed == {files[name]["leak"]}, "the rest is kept"


@pytest.mark.parametrize(("track", "wrong", "said"), [
    ("mm", "leak.k=[1,4]", r"leak.k=\[1, 4\] of leak.samples=3: each k must be 1 to the number of samples"),
    ("mm", "tests=[leek]", "tests has 'leek', and there is no such test. There are variants, leak"),
    ("nlp", "tests=[probe]", "tests has 'probe': there is nothing here to ask in it. There are variants, leak"),
    ("nlp", "variants=[grey]", "eval_log_forget@grey changes nothing of any row.*no pictures"),
    ("mm", "variants=[gray]", "variants has 'gray'; there are paraphrase"),
    ("mm", "quantisation=[rtn3]", "quantisation has 'rtn3'; there are rtn8, rtn4, bnb8, bnb4"),
    ("mm", "gold_path=", "gold_path is empty"),
    ("mm", "gold_path=models/none", "model_path='models/none' does not exist"),
    ("mm", f"model_path=[{MM},{MM}]", "another model; run it with a save_dir of its own"),
    ("mm", "relearn.steps=[1,2]", r"relearn.steps=\[1, 2\] must be two or more, increasing from 0"),
    ("mm", "relearn.data=[some]", "relearn.data has 'some'; there are few, text, retain, stranger"),
    ("mm", "text_data_path=null relearn.data=[text]", "set text_data_path"),
    ("nlp", "split=forget05_perturbed relearn.data=[few] ds_size=2", "none is left to ask"),
    ("nlp", "max_length=20", "more than max_length=20"),
])  # fmt: skip
def test_what_is_refused_before_a_model_loads(
    track: str, wrong: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unlearn.stress_suite.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(ValueError, match=said):
        stress(track, *wrong.split(" "))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.json"))


@pytest.mark.slow
def test_interrupted_and_on_two_processes_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values per row of every test: a run that was stopped in the middle of rows and went on, and one on two ranks."""
    from unlearn.evaluation.partial import PartialRows

    more = ("ds_size=7", "batch_size=2", "relearn.data=[few,retain]", "relearn.batch_size=3")
    stress("nlp", *more)
    written, open_writer = 0, PartialRows.writer

    @contextmanager
    def stopping(self: PartialRows, process: int) -> Iterator[Any]:
        with open_writer(self, process) as write:

            def count(batch: Any) -> None:
                nonlocal written
                write(batch)
                written += 1
                if written % 7 == 0:
                    raise KeyboardInterrupt

            yield count

    monkeypatch.setattr(PartialRows, "writer", stopping)
    stops = 0
    while True:
        try:
            stress("nlp", *more, "save_dir=again")
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 5
    model, *words = TRACKS["nlp"]
    given = dict(word.split("=", 1) for word in (f"model_path={model}", f"base_path={model}", f"gold_path={model}",
                                                 "save_dir=two", *words, *SMALL, *more))  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(ROOT / "nlp" / "stress.py"), *(f"{key}={value}" for key, value in given.items())]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for one in ("base", "gold", Path(model).name):
        for test in TESTS["nlp"]:
            units = [read_unit(tmp_path / folder / one / f"{test}.json") for folder in ("out", "again", "two")]
            assert units[0].people == units[1].people == units[2].people
            for key, number in units[0].numbers.items():
                assert units[1].numbers[key].rows == pytest.approx(number.rows, rel=1e-4, abs=1e-6), (test, key)
                assert units[2].numbers[key].rows == pytest.approx(number.rows, rel=1e-4, abs=1e-6), (test, key)
