"""A run is what it was made from, through the scripts: the same command after its data, its start model, its processor
or a word list changed under the same names is refused, and says which of these it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from minibench.tables import write_dataset
from sweeps.jobs import Job
from sweeps.runner import run_jobs
from sweeps.settings import Sweep
from sweeps.work import plan
from tests.bad_input import CAPTIONED, MIXED, PERTURBED, ROOT, photos, run_script, texts, tree


def dataset(folder: Path, first: int = 0) -> None:
    """A forget request about the people `first`, `first + 1`; who is retained stays."""
    shutil.rmtree(folder, ignore_errors=True)
    write_dataset(
        folder,
        {
            "forget10+tofu": (MIXED, photos(first, 2) + texts(first, 2)),
            "retain90+tofu": (MIXED, photos(50, 3) + texts(50, 3)),
            "forget10": (CAPTIONED, photos(first, 2)),
            "forget10_perturbed": (PERTURBED, photos(first, 2)),
        },
        "Small.\n",
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    shutil.copytree(ROOT / "minibench/weights/llava-mini", tmp_path / "base")
    dataset(tmp_path / "request")
    return tmp_path


def forget(**more: Any) -> None:
    given = {"model_path": "base", "forget_data_path": "request", "retain_data_path": "request", "max_steps": 1,
             "forget_loss": "idk", "save_dir": "run", **more}  # fmt: skip
    run_script("mm/forget.py", *(f"{key}={value}" for key, value in given.items()))


def evaluate(model: str = "base", **more: Any) -> dict[str, Any]:
    given = {"model_path": model, "data_path": "request", "eval_task_ids": "[2]", "save_dir": "results",
             "generation.max_new_tokens": 2, **more}  # fmt: skip
    run_script("mm/eval.py", *(f"{key}={value}" for key, value in given.items()))
    return json.loads((Path(given["save_dir"]) / "eval_meta.json").read_text())


def scale_weights(folder: Path) -> None:
    """Other weights in a file of the same size."""
    file = folder / "model.safetensors"
    tensors = {name: t * 1.1 if t.ndim > 1 else t for name, t in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})


def new_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others ask to be forgotten, in the folder of the same name (a new cache: that of datasets goes by the name)."""
    dataset(here / "request", 10)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", here / "cache2")


def test_the_same_command_says_what_changed_since(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget()
    record = json.loads((here / "run/run.json").read_text())
    assert set(record["made_from"]["data"]) == {"forget", "retain"}
    assert set(record["made_from"]["start"]) == {"weights", "processor"}
    assert set(record["made_from"]["word lists"]) == {"refusals", "caption questions"}
    before = tree(here / "run")
    forget()
    assert "run: done (same settings)" in capsys.readouterr().out and tree(here / "run") == before

    def refused(what: str) -> None:
        with pytest.raises(ValueError, match=rf"run holds a finished run .* made from something else: {what} changed"):
            forget()
        assert tree(here / "run") == before

    template = (here / "base/chat_template.jinja").read_text()
    (here / "base/chat_template.jinja").write_text("Be rude. " + template)
    refused("the processor or chat template")
    (here / "base/chat_template.jinja").write_text(template)
    (here / "refusals.txt").write_text("Who?\n")
    with monkeypatch.context() as patch:
        patch.setattr("unlearn.data.samples.REFUSALS", here / "refusals.txt")
        refused("the word list refusals")
    (here / "questions.txt").write_text("What?\n")
    with monkeypatch.context() as patch:
        patch.setattr("mm.clear.CAPTION_QUESTIONS", here / "questions.txt")
        refused("the word list caption questions")
    new_data(here, monkeypatch)
    refused("the forget data")
    scale_weights(here / "base")
    refused("the forget data, the weights of the start model")
    with pytest.raises(ValueError, match="run is an adapter of base, but the weights there are not those"):
        evaluate("run")
    with pytest.raises(ValueError, match="the weights there are not those that it was trained on"):
        run_script("publish.py", "model_path=run", "merge=true")
    forget(overwrite_dir="true")
    forget()
    assert json.loads((here / "run/run.json").read_text())["made_from"] != record["made_from"]


def test_a_run_of_before_is_taken_at_its_word_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forget()
    whole = json.loads((here / "run/run.json").read_text())
    old = {key: value for key, value in whole.items() if key not in ("made_from", "seen", "files")}
    (here / "run/run.json").write_text(json.dumps(old))
    capsys.readouterr()
    forget()
    assert "they are taken to be what they were, and noted now" in capsys.readouterr().out
    assert json.loads((here / "run/run.json").read_text())["made_from"] == whole["made_from"]
    capsys.readouterr()
    forget()
    said = capsys.readouterr().out
    assert "noted now" not in said and "done (same settings)" in said


def test_an_evaluation_is_of_its_rows_processor_and_weights(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = evaluate()
    faces = {row["thumbnail"] for task in meta["tasks"].values() for row in task["rows"].values()}
    assert len(faces) == 2 and evaluate(overwrite="false") == meta
    (here / "results/thumbnails/me.jpg").write_text("mine")
    template = (here / "base/chat_template.jinja").read_text()
    (here / "base/chat_template.jinja").write_text("Be rude. " + template)
    with pytest.raises(ValueError, match="results holds results made with something else: the processor or chat temp"):
        evaluate(overwrite="false")
    (here / "base/chat_template.jinja").write_text(template)
    new_data(here, monkeypatch)
    with pytest.raises(ValueError, match="the data of eval_log_forget changed since it was evaluated"):
        evaluate(overwrite="false")
    meta = evaluate()
    now = {row["thumbnail"] for task in meta["tasks"].values() for row in task["rows"].values()}
    left = {f"thumbnails/{file.name}" for file in (here / "results/thumbnails").iterdir()}
    assert not now & faces and left == now | {"thumbnails/me.jpg"}, "faces of results that are gone go with them"


def test_pictures_outside_the_folder_of_the_data_count_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of rows that name picture files elsewhere: sizes and times, and the content where these differ."""
    (here / "own").mkdir()
    (here / "faces/one").mkdir(parents=True)
    rows = photos(0, 2)
    for number, row in enumerate(rows):
        (here / f"faces/one/{number}.png").write_bytes(row["image"]["bytes"])
        row["image"] = f"../faces/one/{number}.png" if number else str(here / "faces/one/0.png")
    (here / "own/forget10_perturbed.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = {"forget_data_path": "own", "forget_split": "forget10_perturbed", "retain_split": "retain90+tofu"}

    def same_again() -> bool:
        capsys.readouterr()
        forget(**words)
        evaluate(data_path="own", overwrite="false")
        said = capsys.readouterr().out
        return said.count("done (same settings)") == 2

    assert not same_again() and same_again()
    record = json.loads((here / "run/run.json").read_text())
    assert list(record["seen"]["pictures"]) == [str(here / "faces/one")]
    (here / "faces/one/0.png").touch()
    (here / "faces/two").mkdir()
    assert not same_again(), "looked at again, and kept"
    assert same_again()
    meta = evaluate(data_path="own")
    (here / "faces/one/0.png").write_bytes(photos(7, 1)[0]["image"]["bytes"])
    with pytest.raises(ValueError, match="the forget data changed since"):
        forget(**words)
    with pytest.raises(ValueError, match="the data of eval_log_forget changed since"):
        evaluate(data_path="own", overwrite="false")
    assert evaluate(data_path="own")["run"]["made_from"]["data"] != meta["run"]["made_from"]["data"]


def test_a_sweep_takes_no_job_for_done_that_was_made_from_something_else(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record says finished with the same settings; sizes and times say whether that needs another look."""
    words = ("model_path=base", "data_path=request", "max_steps=1")
    asked = ("data_path=request", "eval_task_ids=[2]", "generation.max_new_tokens=2", "overwrite=false")

    def sweep(overwrite: bool = False) -> list[str]:
        said = []
        for split in ("forget10+tofu", "retain90+tofu"):
            folder = here / "runs" / split
            job = Job("finetune", split, folder, (*words, f"split={split}", f"save_dir={folder}"),
                      ((*asked, f"model_path={folder}", f"save_dir={folder}/eval_results"),))  # fmt: skip
            work = plan(job, here / "jobs", overwrite)
            (outcome,) = run_jobs([work], Sweep(save_dir=str(here), executor="debug"))
            said.append(f"{outcome.status} {outcome.error}".strip())
        return said

    assert sweep() == ["finished", "finished"] and sweep() == ["kept", "kept"]
    for file in (here / "request").rglob("*"):
        file.touch()
    before = tree(here / "runs")
    assert sweep() == ["finished", "finished"] and sweep() == ["kept", "kept"], "another look, and nothing is another"
    assert [name for name in before if "safetensors" in str(name) and before[name] != tree(here / "runs")[name]] == []
    new_data(here, monkeypatch)  # others are forgotten; who is retained stays
    changed, same = sweep()
    assert "failed Changed" in changed and "the training data changed since" in changed
    assert "failed" in same and "the data of eval_log_forget changed since" in same, "but all are asked about others"
    assert sweep(overwrite=True) == ["finished", "finished"] and sweep() == ["kept", "kept"]


def test_finishing_and_replacing_a_run_deletes_what_it_made_and_nothing_else(here: Path) -> None:
    mine = ["best-photos/ann.jpg", "checkpoint-old/w.bin", "checkpoint-7/w.bin", "checkpoint-notes.txt",
            "best-3/run.json", "my_embeddings.safetensors", "eval_results/my_notes.txt"]  # fmt: skip
    for name in mine:
        (here / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "run" / name).write_text("mine")
    forget()
    evaluate("run", save_dir="run/eval_results")
    forget(seed=3, overwrite_dir="true")
    assert not [name for name in mine if not (here / "run" / name).exists()]
    assert [file.name for file in (here / "run/eval_results").iterdir()] == ["my_notes.txt"]
    with pytest.raises(ValueError, match="seed=4294967296 is too large"):
        forget(seed=2**32, overwrite_dir="true")
    assert (here / "run/adapter_model.safetensors").exists()


def test_splits_of_ones_own_name_nobody_either(here: Path) -> None:
    """A folder without a README has a split for each file, and the file is called after who asked."""
    (here / "own").mkdir()
    for name, first in (("jane_doe", 0), ("others", 10)):
        rows = [json.dumps({"question": f"Who is {i}?", "answer": f"Person {i}."}) for i in range(first, first + 2)]
        (here / "own" / f"{name}.jsonl").write_text("\n".join(rows))
    forget(forget_data_path="own", retain_data_path="own", forget_split="jane_doe", retain_split="others",
           **{"LoRA.r": 0})  # fmt: skip
    (here / "run/eval_results").mkdir()
    row = {"method": "idk", "track": "mm", "Retain metric": 0.5, "Forget metric": 0.5}
    row["gold"] = {**row, "method": "not_jane"}
    (here / "run/eval_results/leaderboard_row.json").write_text(json.dumps([row]))
    run_script("publish.py", "model_path=run", "export=out")
    said = {file.name: file.read_text() for file in (here / "out").iterdir() if file.suffix != ".safetensors"}
    assert not [name for name, text in said.items() if "jane" in text]
    assert "`(a local split)` was unlearned with **idk**" in said["README.md"] and "| idk" in said["README.md"]


def test_what_goes_out_names_nobody_and_a_link_stays(here: Path) -> None:
    """The name of the folder with the request says who asked; weights get the umask's mode."""
    shutil.move(here / "request", here / "requests" / "jane-doe-erasure")
    path = "requests/jane-doe-erasure"
    forget(forget_data_path=path, retain_data_path=path, **{"LoRA.r": 0})
    (here / "real").mkdir()
    (here / "link").symlink_to(here / "real")
    for _ in range(2):
        run_script("publish.py", "model_path=run", "export=link")
        assert (here / "link").is_symlink() and (here / "real/model.safetensors").exists()
    for file in (here / "real").iterdir():
        assert file.suffix == ".safetensors" or "jane" not in file.read_text(encoding="utf-8"), file.name
        assert oct(file.stat().st_mode & 0o777) == "0o644", file.name
    (here / "real/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="link holds something else than an earlier export .notes.txt"):
        run_script("publish.py", "model_path=run", "export=link")
    assert oct((here / "run/model.safetensors").stat().st_mode & 0o777) == "0o644"
