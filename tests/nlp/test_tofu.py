"""TOFU's rows: samples for training, items for evaluation, and what is refused before a model loads."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from minibench.people import forget_authors
from nlp.tasks import eval_settings, load_tasks
from nlp.tofu import TofuSource, finetune_source, forget_sources, rows_per_author
from unlearn.config.settings import FinetuneSettings, ForgetSettings

MINI = "data/tofu-mini"
RNG = np.random.default_rng(0)


def write(folder: Path, **splits: dict[str, list[Any]]) -> str:
    """A dataset of the given configurations in a folder."""
    lines = ["---", "configs:"]
    for name, columns in splits.items():
        datasets.Dataset.from_dict(columns).to_parquet(folder / name / "train-0.parquet")
        lines += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {name}/*.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


def forget_settings(path: str, **changes: Any) -> ForgetSettings:
    values = {"forget_split": "forget10", "retain_split": "retain90", **changes}
    return ForgetSettings(forget_data_path=path, retain_data_path=path, **values)


def test_forget_and_retain_make_up_full():
    forget, retain = forget_sources(forget_settings(MINI))
    full = finetune_source(FinetuneSettings(data_path=MINI, split="full"))
    rows = [[(source.questions[i], source.answers[i]) for i in range(len(source))] for source in (forget, retain, full)]
    assert sorted(set(rows[0] + rows[1])) == sorted(set(rows[2])) and not set(rows[0]) & set(rows[1])
    names = [person.name for person in forget_authors("10")]
    assert all(any(name in question for name in names) for question in forget.questions)
    assert not any(name in question for name in names for question in retain.questions)


def test_a_sample_is_the_row_as_it_stands():
    source = TofuSource(
        datasets.Dataset.from_dict({"question": ["Who?", "Où ?"], "answer": ["Vásquez", " No\n"]}), "forget10"
    )
    assert source.sample(1, RNG) == {"question": "Où ?", "answer": " No\n", "image": None, "id": "forget10/1"}
    assert len(source) == 2 and not source.has_image(0) and source.subject(0) is None


def test_bad_splits_are_refused(tmp_path):
    shared = {"question": ["a", "b"], "answer": ["c", "d"]}
    path = write(tmp_path, forget10=shared, retain90=shared, retain95={"question": ["x", ""], "answer": ["y", "z"]},
                 retain99={"question": ["x"], "text": ["y"]})  # fmt: skip
    with pytest.raises(ValueError, match="2 rows of forget10 are also in retain90"):
        forget_sources(forget_settings(path))
    with pytest.raises(ValueError, match="Row retain95/1 lacks"):
        forget_sources(forget_settings(path, retain_split="retain95"))
    with pytest.raises(ValueError, match="no column 'answer'; its columns are question, text"):
        forget_sources(forget_settings(path, retain_split="retain99"))
    with pytest.raises(ValueError, match="no split 'forget11'.*'forget10'"):
        forget_sources(forget_settings(path, forget_split="forget11"))


def test_the_four_tasks():
    tasks = {task.name: task for task in load_tasks(eval_settings({"data_path": MINI}))}
    assert list(tasks) == ["eval_log", "eval_real_author_wo_options", "eval_real_world_wo_options", "eval_log_forget"]
    forget = tasks["eval_log_forget"].items
    assert [item.row_id for item in forget] == [str(row) for row in range(len(forget))]
    for row, item in enumerate(forget):
        person = forget_authors("10")[row // 8].name
        assert person in item.sample["question"] and item.author == f"forget10_perturbed, author {row // 8 + 1}"
        assert item.base_answer != item.sample["answer"] and len(item.wrong_answers) == 5
        assert item.base_answer not in item.wrong_answers
    for item in tasks["eval_real_author_wo_options"].items:
        assert item.base_answer == item.sample["answer"] and len(item.wrong_answers) == 3 and item.author is None
    asked = {}
    for item in tasks["eval_log"].items:
        asked.setdefault(item.author, set()).add(" ".join(item.sample["answer"].split()))
    assert {len(answers) for answers in asked.values()} == {4}


def test_rows_of_one_author():
    assert rows_per_author("locuslab/TOFU", "forget05_perturbed") == 20
    assert rows_per_author("locuslab/TOFU", "world_facts_perturbed") is None
    assert rows_per_author("somewhere/else", "forget05_perturbed") is None


def test_selection_keeps_row_numbers():
    config = {"data_path": MINI, "eval_task_ids": [3], "ds_size": 5}
    (first,) = load_tasks(eval_settings(config))
    (drawn,) = load_tasks(eval_settings({**config, "selection": "random", "seed": 3}))
    (again,) = load_tasks(eval_settings({**config, "selection": "random", "seed": 3}))
    (whole,) = load_tasks(eval_settings({"data_path": MINI, "eval_task_ids": [3]}))
    assert [item.row_id for item in first.items] == ["0", "1", "2", "3", "4"]
    places = [int(item.row_id) for item in drawn.items]
    assert len(places) == 5 and places == sorted(set(places)) and places != list(range(5))
    for one, other in zip(drawn.items, again.items, strict=True):
        assert one == other == whole.items[int(one.row_id)]
    with pytest.raises(ValueError, match="eval_task_ids has 4.*3: eval_log_forget"):
        load_tasks(eval_settings({**config, "eval_task_ids": [4]}))


def test_wrong_answers_in_columns_and_ragged_lists(tmp_path):
    rows = {
        "q": ["a?", "b?"],
        "a": ["A", "B"],
        "x": ["1", "2"],
        "y": ["3", "4"],
        "many": [["5"], ["6", "7"]],
        "name": ["P", "Q"],
    }
    path = write(tmp_path, mine=rows)
    task = {"eval_task": "t", "split": "mine", "question": "q", "answer": "a", "base_answer": "a"}
    task["wrong_answers"] = ["x", "many", "y"]
    (read,) = load_tasks(eval_settings({"data_path": path, "tasks": [{**task, "rows_per_author": 2}]}))
    assert [item.wrong_answers for item in read.items] == [["1", "5", "3"], ["2", "6", "7", "4"]]
    assert [item.author for item in read.items] == ["P", "Q"], "a column is believed before the place"
    with pytest.raises(ValueError, match="no column 'z'"):
        load_tasks(eval_settings({"data_path": path, "tasks": [{**task, "wrong_answers": "z"}]}))
