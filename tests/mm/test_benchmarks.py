"""Other benchmarks by name: their published forms, through the four scripts."""

import json
from pathlib import Path
from typing import Any

import pytest

from mm.benchmarks import find
from tests.bad_input import BASE, run_script
from tests.mm import published
from unlearn.data.samples import draw

MAKERS = {"mllmu": published.mllmu, "umu": published.umu, "fiubench": published.fiubench, "remem": published.remem}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def pixels(sample: Any) -> tuple[Any, ...]:
    return sample["question"], sample["answer"], sample["image"] and sample["image"].tobytes()


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_both_forms_hold_the_same_rows(name: str, tmp_path: Path) -> None:
    """Parquet with a card (the hub's form) and JSON beside pictures: same questions, answers and pixels."""
    found = []
    for hub in (True, False):
        path = str(MAKERS[name](tmp_path / str(hub), hub=hub))
        benchmark = find(name)
        rows = benchmark.training_rows(path, benchmark.BASE_SPLIT)
        samples = [rows.sample(place, draw(0, place)) for place in range(len(rows))]
        asked = {task.name: [task.items[place] for place in range(len(task.items))]
                 for task in benchmark.tasks(path, benchmark.FORGET_SPLIT)}  # fmt: skip
        assert set(asked) == set(benchmark.TASKS)
        found.append((
            [pixels(sample) for sample in samples],
            {task: [(*pixels(i.sample), i.base_answer, i.wrong_answers, i.keywords, i.author) for i in items]
             for task, items in asked.items()},
        ))  # fmt: skip
    assert found[0] == found[1]


def test_mllmu_asks_what_was_published(tmp_path: Path) -> None:
    path = str(published.mllmu(tmp_path / "d", hub=True))
    tasks = {task.name: task.items for task in find("mllmu").tasks(path, "forget_5")}
    choice = tasks["mllmu_forget_choice_image"][1]
    assert choice.sample["question"].splitlines() == [
        "Where does this person live?", "A. Lyon", "B. Porto", "C. Graz", "D. Bergen",
        "Answer with the letter of the right option.",
    ]  # fmt: skip
    assert (choice.sample["answer"], choice.wrong_answers) == ("A. Lyon", ["B. Porto", "C. Graz", "D. Bergen"])
    assert choice.sample["image"] is not None and tasks["mllmu_forget_choice_text"][1].sample["image"] is None
    cloze = tasks["mllmu_retain_cloze_text"][0]
    assert (cloze.sample["question"], cloze.sample["answer"]) == ("Di Vale lives in [Blank].", "Graz")
    assert sorted(cloze.wrong_answers) == ["Bergen", "Tartu"]  # of the others who stay
    assert [item.author for item in tasks["mllmu_test_generation_image"]] == ["000", "001", "002"]  # who leave
    assert len(find("mllmu").training_rows(path, "ft_Data")) == 2


QUICK = ("fiubench", "mllmu")  # the others differ from these in how a row is read, which is tested above


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MAKERS])
def test_the_four_commands(name: str, tmp_path: Path) -> None:
    path, benchmark = MAKERS[name](tmp_path / "data", hub=False), find(name)
    retain = benchmark.retain_of(benchmark.FORGET_SPLIT)
    few = ["max_steps=1", "batch_size=2", f"benchmark={name}"]
    run_script("mm/finetune.py", *few, f"data_path={path}", f"model_path={BASE}", f"split={retain}",
               f"save_dir={tmp_path}/gold")  # fmt: skip
    run_script("mm/forget.py", *few, f"forget_data_path={path}", f"retain_data_path={path}", f"model_path={BASE}",
               "forget_loss=npo", f"save_dir={tmp_path}/npo")  # fmt: skip
    for model in ("gold", "npo"):
        run_script("mm/eval.py", f"benchmark={name}", f"data_path={path}", f"model_path={tmp_path}/{model}",
                   "generation.max_new_tokens=2")  # fmt: skip
    log = "eval_results/eval_log_aggregated.json"
    run_script("aggregate_eval_stat.py", f"retain_result={tmp_path}/gold/{log}", f"ckpt_result={tmp_path}/npo/{log}",
               "method_name=npo", f"save_file={tmp_path}/board.json")  # fmt: skip
    (row,) = [row for row in json.loads((tmp_path / "board.json").read_text()) if row["method"] == "npo"]
    assert row["track"] == name and row["forget_split"] == benchmark.FORGET_SPLIT
    assert 0 <= row["Forget Quality"] <= 1 and 0 <= row["Forget metric"] <= 1
    assert row["modality"] == benchmark.MODALITY
    accuracies = [value for key, value in row.items() if key.startswith("Accuracy ")]
    assert accuracies and all(value is None or 0 <= value <= 1 for value in accuracies)


WRONG: dict[str, tuple[str, Any]] = {
    "an unknown benchmark": ("benchmark=mlmu is not one of fiubench, mllmu, remem, umu", {"benchmark": "mlmu"}),
    "an unknown split": ("'forget_7' is no forget split of MLLMU", {"benchmark": "mllmu", "forget_split": "forget_7"}),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_what_cannot_be_run_is_told_before_a_model_loads(what: str, tmp_path: Path) -> None:
    said, keys = WRONG[what]
    with pytest.raises(ValueError, match=said):
        run_script("mm/forget.py", *(f"{key}={value}" for key, value in keys.items()), f"save_dir={tmp_path}/x")
