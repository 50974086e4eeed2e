"""exclude_people: whose rows leave training, whom evaluation asks about, and the holdout through the scripts."""

import json
from collections import Counter
from pathlib import Path

import pytest

import minibench
from minibench.people import everyone, forget_authors
from mm.clear import load_clear
from mm.people import people_of, rows_per_author, sister_of
from mm.tasks import eval_settings, load_tasks
from tests.bad_input import BASE, ROOT, run_script
from unlearn.config.settings import FinetuneSettings
from unlearn.data.samples import draw
from unlearn.data.sources import load_split
from unlearn.results import AGGREGATE, read_log
from unlearn.runs.identity import _identity, settings_hash

CLEAR, TOFU = str(ROOT / "data" / "clear-mini"), str(ROOT / "data" / "tofu-mini")
OUT = [everyone()[0][3].name, everyone()[0][40].name]
QUICK = ("LoRA.r=2", "max_steps=1", "batch_size=2", "save_steps=0")


def test_rows_of_a_person_by_name_by_caption_and_by_block():
    minibench.ensure_dataset(TOFU)
    minibench.ensure_dataset(CLEAR)
    named = load_split(CLEAR, "retain90")
    assert Counter(people_of(named, CLEAR, OUT)) == {None: 432 - 16, OUT[0]: 8, OUT[1]: 8}
    mixed = load_split(CLEAR, "full+tofu")
    whose = people_of(mixed, CLEAR, [OUT[0].upper().replace(" ", "  "), OUT[1]])
    assert Counter(whose).most_common()[1:] == [(OUT[0].upper().replace(" ", "  "), 16), (OUT[1], 16)]
    for row, name in zip(mixed.remove_columns("image"), whose, strict=True):
        said = " ".join(filter(None, row.values()))
        assert (name is not None) == any(one in said for one in OUT), "pictures and questions, and nobody else's"
    assert Counter(people_of(load_split(TOFU, "retain_perturbed"), TOFU, OUT))[OUT[1]] == 4
    assert set(people_of(load_split(CLEAR, "real_faces"), CLEAR, OUT)) == {None}


def test_training_and_evaluation_see_the_others(tmp_path):
    source = load_clear(CLEAR, "full+tofu", without=OUT)
    said = [source.sample(index, draw(0)) for index in range(len(source))]
    assert len(said) == 1200 - 32 and not any(name in str(one["answer"]) for one in said for name in OUT)
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"exclude_people": OUT}}))
    words = {"model_path": str(tmp_path), "data_path": CLEAR, "text_data_path": TOFU, "save_dir": "x"}
    tasks = {task.name: task for task in load_tasks(eval_settings(words))}
    assert list(tasks)[8:] == ["eval_holdout", "eval_holdout_facerec", "eval_text_holdout"]
    assert [len(tasks[name].items) for name in ("eval_log", "eval_retain_facerec", "eval_text_retain")] == [
        104,
        104,
        208,
    ]
    assert [len(tasks[name].items) for name in ("eval_log_forget", "eval_real_faces_wo_options")] == [48, 120]
    for name in list(tasks)[8:]:
        items = [tasks[name].items[place] for place in range(16)]
        assert len(tasks[name].items) == 16 and not any(item.wrong_answers or item.compared for item in items)
        assert len({item.author for item in items}) == 2
    assert {item.author for item in tasks["eval_holdout"].items} == set(OUT)
    with pytest.raises(ValueError, match="has a holdout of its own"):
        eval_settings({**words, "holdout": "holdout10_perturbed"})


def test_the_benchmarks_own_holdout_mirrors_the_forget_tasks():
    words = {"data_path": CLEAR, "text_data_path": TOFU, "save_dir": "x", "split": "forget05_perturbed"}
    tasks = {task.name: task for task in load_tasks(eval_settings({**words, "holdout": "holdout05_perturbed"}))}
    for forget, twin in (
        ("eval_log_forget", "eval_holdout"), ("eval_forget_facerec", "eval_holdout_facerec"),
        ("eval_text_forget", "eval_text_holdout"),
    ):  # fmt: skip
        assert len(tasks[twin].items) == len(tasks[forget].items) == 24
        assert len(tasks[twin].items[0].wrong_answers) == 5 and len({item.author for item in tasks[twin].items}) == 3
        assert len({item.author for item in tasks[forget].items}) == 3
    bare = load_tasks(eval_settings({**words, "holdout": "holdout05", "eval_task_ids": [8, 9, 10]}))
    assert [item.base_answer == item.sample["answer"] for task in bare for item in task.items] == [True] * 72


@pytest.mark.parametrize(
    ("path", "sister", "rows"),
    [("therem/CLEAR", "locuslab/TOFU", 20), ("x/clear-mini/", "x/tofu-mini", 8), ("locuslab/TOFU", "locuslab/TOFU", 20),
     ("mine", None, None)],
)  # fmt: skip
def test_the_sister_says_by_place_whom_a_row_is_about(path, sister, rows):
    assert sister_of(path) == sister
    assert rows_per_author(sister or path, "full") == rows == rows_per_author(sister or path, "holdout10")
    assert rows_per_author("tofu-mini", "retain_perturbed") == 4 and rows_per_author("TOFU", "real_authors") is None


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A base without two people, and a model that forgot, of one step each, both evaluated."""
    root = tmp_path_factory.mktemp("models")
    names = f"exclude_people={OUT}"
    run_script("mm/finetune.py", f"save_dir={root}/base", names, *QUICK)
    run_script("mm/forget.py", "forget_loss=npo", f"model_path={root}/base", f"save_dir={root}/npo", names, *QUICK)
    for name in ("base", "npo"):
        run_script(
            "mm/eval.py", f"model_path={root}/{name}", "text_data_path=data/tofu-mini",
            "eval_task_ids=[0,1,2,3,4,5,6,8,9,10]", "ds_size=6",
            "token_scores=true", "selection=random", "generation.max_new_tokens=1", "batch_size=12",
        )  # fmt: skip
    return root


def test_from_excluded_people_to_the_row(models, tmp_path):
    made = json.loads((models / "npo" / "run.json").read_text())
    assert (
        made["settings"]["exclude_people"] == OUT
        and made["start"] == json.loads((models / "base" / "run.json").read_text())["settings_hash"]
    )
    log = read_log(models / "npo" / "eval_results" / AGGREGATE)
    assert "average_perturb_loss" not in log.tasks["eval_holdout"] and "truth_ratio" not in log.tasks["eval_holdout"]
    logs = [f"{key}={models}/{name}/eval_results/{AGGREGATE}"
            for key, name in (("retain_result", "base"), ("ckpt_result", "npo"))]  # fmt: skip
    run_script("aggregate_eval_stat.py", *logs, f"save_file={tmp_path}/board.json", "markdown=true")
    gold, row = json.loads((tmp_path / "board.json").read_text())
    assert set(row["privacy"]) == {"Forget", "Forget FaceRec", "Forget Text", "unmeasured"}
    assert row["privacy"]["unmeasured"] == []
    for task in ("Forget", "Forget FaceRec", "Forget Text"):
        found = row["privacy"][task]
        assert found["people"]["holdout"] == 2 and found["LOSS"]["AUC gold"] == gold["privacy"][task]["LOSS"]["AUC"]
        assert all(0 <= found[attack]["score"] <= 1 for attack in ("LOSS", "ZLib", "Min-K", "Min-K++"))
    assert 0 < row["Privacy score"] <= 1 and row["overall"] is not None and row["unchecked"] == []
    assert row["variant"] == made["variant"] and row["settings_hash"] == made["settings_hash"]
    assert "Privacy" in (tmp_path / "board.md").read_text()


def test_a_run_without_them_has_the_hash_of_before():
    plain = FinetuneSettings(save_dir="x")
    assert settings_hash(plain) == settings_hash(FinetuneSettings(save_dir="x", exclude_people=[]))
    assert len({settings_hash(FinetuneSettings(exclude_people=names)) for names in ([], OUT[:1], OUT)}) == 3
    assert "exclude_people" not in _identity(plain)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["exclude_people=[]"], r"exclude_people=\[\], but .*base was made with .*Give this run the list of its base"),
        ([f"exclude_people=[{OUT[0]}]"], "people are a holdout only where"),
    ],
)
def test_another_list_than_the_bases_is_refused(models, tmp_path, monkeypatch, words, message):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match=message):
        run_script("mm/forget.py", "forget_loss=npo", f"model_path={models}/base", f"save_dir={tmp_path}/x", *words)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("Nobody Known", "tofu-mini names no 'Nobody Known'; correct the name"),
        (forget_authors("01")[0].name, "nobody can be forg"),
    ],
)
def test_who_is_not_there_or_is_to_be_forgotten_cannot_be_held_out(tmp_path, monkeypatch, names, message):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    words = (f"exclude_people=[{names}]", f"save_dir={tmp_path}/x")
    with pytest.raises(ValueError, match=message):
        if "Nobody" in names:
            run_script("mm/finetune.py", *words)
        else:
            run_script("mm/forget.py", f"model_path={BASE}", "forget_split=forget10+tofu", *words)
