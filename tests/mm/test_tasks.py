"""Which rows, questions and answers an evaluation asks for, from each way of writing them down."""

import io
from pathlib import Path

import datasets
import pytest
import yaml

from mm.clear import FACE_PROMPT
from mm.tasks import default_tasks, eval_settings, load_tasks, task_specs
from tests.models import picture
from unlearn.data.items import select_rows
from unlearn.data.samples import read_lines

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = """
model_path: models/m
model_family: qwen-vl2-2b
save_dir: models/m/eval_results/
data_path: [therem/faces_v1, therem/faces_v1, therem/faces_v1, therem/faces_v1, therem/faces_v1, therem/faces_v1]
split: forget10_perturbed
split_list: [real_faces, real_world, forget10_perturbed, retain_perturbed, forget10_perturbed, retain_perturbed]
question_key: [question, question, question, question, question, question]
question_strategy: [random_faces, column, random_caption, random_caption, random_faces, random_faces]
answer_key: [answer, answer, caption, caption, name, name]
base_answer_key: [answer, answer, paraphrased_caption, paraphrased_caption, name, name]
perturbed_answer_key: [options, options, perturbed_captions, perturbed_captions, perturbed_names, perturbed_names]
eval_task: [eval_real_faces_wo_options, eval_real_world_wo_options, eval_log_forget, eval_log, eval_forget_facerec,
            eval_retain_facerec]
eval_task_ids: None
max_length: 4096
generation: {max_new_tokens: 300}
save_generated_text: true
ds_size: 300
overwrite: true
batch_size: 8
reinitialize_weights: false
retain_result: null
"""
NAMES = ["Ana Lima", "Jaime Vásquez", "Bo", "Ana Lima"]


def png(seed):
    picture(seed, side=16).save(buffer := io.BytesIO(), "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of two configs in CLEAR's columns; option columns and a row without a picture besides."""
    root = tmp_path_factory.mktemp("clear")
    captions = [f"{name} at home, {i}" for i, name in enumerate(NAMES)]
    faces = {
        "image": [png(i) for i in range(4)], "caption": captions, "name": NAMES,
        "paraphrased_caption": [f"at home: {name}" for name in NAMES],
        "perturbed_captions": [["Bo at sea", "Li at sea"], ["Bo at sea"], ["Li at sea"], ["x", "y", "z"]],
        "perturbed_names": [["Bo", "Ana Lima"], ["Bo"], ["Li"], ["Li", "Bo", "Jo"]],
        "empty": [["Bo"], [], ["Bo"], ["Bo"]], "blank": ["a", "b", " ", "d"],
    }  # fmt: skip
    world = {
        "image": [png(9), None], "question": ["What colour?", "Where?"], "answer": ["red", "Rome"],
        "option1": ["red", "Rome"], "option2": ["blue", "Oslo"],
    }  # fmt: skip
    broken = {key: column[:2] for key, column in faces.items()} | {
        "image": [png(1), {"bytes": b"half a file", "path": None}]
    }
    for name, columns in {"forget10_perturbed": faces, "real_world": world, "broken": broken}.items():
        rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
        (root / name).mkdir()
        rows.to_parquet(root / name / "train-00000-of-00001.parquet")
    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train-*.parquet"}]}
        for name in ("forget10_perturbed", "real_world", "broken")
    ]
    (root / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return str(root)


def load(folder, *specs, **config):
    defaults = {
        "eval_task": "t",
        "split": "forget10_perturbed",
        "question": "face",
        "answer": "name",
        "base_answer": "name",
        "wrong_answers": "perturbed_names",
    }
    listed = [{**defaults, "eval_task": f"t{i}", **spec} for i, spec in enumerate(specs or [{}])]
    return load_tasks(eval_settings({"model_path": "m", "data_path": folder, "tasks": listed, **config}))


def test_the_published_lists_say_the_six_default_tasks():
    settings = eval_settings(yaml.safe_load(PUBLISHED))
    assert [{k: v for k, v in task.items() if k != "images"} for task in settings.tasks] == default_tasks(
        "therem/CLEAR", "forget10_perturbed"
    )
    assert settings.eval_task_ids is None and settings.ds_size == 300 and settings.generation.max_new_tokens == 300
    specs, _ = task_specs({"data_path": "therem/faces_v1"})
    assert specs == settings.tasks


def test_the_default_config_composes_to_the_six_tasks_and_takes_the_published_lists_from_the_command_line():
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(ROOT / "config"), version_base=None):
        plain = OmegaConf.to_container(compose("mm/eval"), resolve=True)
        one = compose("mm/eval", [
            "eval_task=[mine]", "split_list=[real_world]", "question_key=[question]", "question_strategy=[column]",
            "answer_key=[answer]", "base_answer_key=[answer]", "perturbed_answer_key=[[option1,option2]]",
        ])  # fmt: skip
    settings = eval_settings(plain)
    assert [task["eval_task"] for task in settings.tasks] == [
        task["eval_task"] for task in default_tasks("data/clear-mini", "forget10_perturbed")
    ]
    assert settings.save_dir == "models/llava-mini/ft_full+tofu/eval_results"
    specs, _ = task_specs(OmegaConf.to_container(one, resolve=True))
    assert specs[0]["wrong_answers"] == ["option1", "option2"] and specs[0]["data_path"] == "data/clear-mini"


def test_list_mistakes_are_named():
    config = yaml.safe_load(PUBLISHED)
    with pytest.raises(ValueError, match="answer_key has 5"):
        task_specs(config | {"answer_key": config["answer_key"][:5]})
    with pytest.raises(ValueError, match="need question_strategy beside them"):
        task_specs({key: value for key, value in config.items() if key != "question_strategy"})
    with pytest.raises(ValueError, match="question_strategy 'captions' of eval_real_faces"):
        task_specs(config | {"question_strategy": ["captions"] * 6})
    with pytest.raises(ValueError, match="Both tasks and"):
        task_specs(config | {"tasks": [{}]})


def test_task_mistakes_are_named():
    whole = default_tasks("d", "s")[0]
    with pytest.raises(ValueError, match="Unknown key 'wrong_answer' in a task. Did you mean 'wrong_answers'"):
        task_specs({"tasks": [whole | {"wrong_answer": "x"}]})
    with pytest.raises(ValueError, match="The task t lacks question, answer"):
        task_specs({"tasks": [{"eval_task": "t"}]})
    with pytest.raises(ValueError, match="images='none' is not one of own, shuffled"):
        task_specs({"images": "none"})


def test_one_question_per_item_fixed_by_its_id(folder):
    caption = {"question": "caption", "answer": "caption", "base_answer": "paraphrased_caption",
               "wrong_answers": "perturbed_captions"}  # fmt: skip
    first, again = load(folder, caption)[0], load(folder, caption)[0]
    few = load(folder, caption, ds_size=2, selection="random")[0]
    asked = {item.row_id: item.sample["question"] for item in first.items}
    assert set(asked.values()) <= set(read_lines(ROOT / "data" / "caption_questions.txt"))
    assert len(set(asked.values())) > 1
    assert asked == {item.row_id: item.sample["question"] for item in again.items}
    assert all(asked[item.row_id] == item.sample["question"] for item in few.items)


def test_answers_ragged_wrong_answers_author_and_picture(folder):
    task = load(folder)[0]
    items = list(task.items)
    assert [item.row_id for item in items] == ["0", "1", "2", "3"]
    assert items[0].sample["question"] == FACE_PROMPT and items[0].sample["image"].size == (16, 16)
    assert items[1].sample["answer"] == items[1].base_answer == items[1].author == "Jaime Vásquez"
    assert [item.wrong_answers for item in items] == [["Bo", "Ana Lima"], ["Bo"], ["Li"], ["Li", "Bo", "Jo"]]
    assert [item.row_id for item in load(folder, ds_size=2)[0].items] == ["0", "1"]


def test_options_in_several_columns_and_rows_without_a_picture(folder):
    world = {"split": "real_world", "question": "question", "answer": "answer", "base_answer": "answer",
             "wrong_answers": ["option1", "option2"]}  # fmt: skip
    task = load(folder, world)[0]
    assert task.items[0].wrong_answers == ["red", "blue"]  # the right one is among them: scored, and marked in the meta
    assert task.items[0].author is None
    assert task.items[1].sample["image"] is None and task.items[0].sample["image"] is not None
    assert task.lengths[0] > 1000 > task.lengths[1]
    with pytest.raises(ValueError, match="Row 1 of .*real_world has no picture to ask about"):
        load(folder, world | {"question": "face"})


def test_shuffled_images_show_another_person_and_keep_everything_else(folder):
    own, shuffled = load(folder)[0], load(folder, images="shuffled")[0]
    pixels = {item.sample["image"].tobytes(): item.author for item in own.items}
    for true, item in zip(own.items, shuffled.items, strict=True):
        assert pixels[item.sample["image"].tobytes()] != item.author == true.author
        assert item.wrong_answers == true.wrong_answers and item.row_id == true.row_id
        assert item.sample["id"] != true.sample["id"]  # processed pictures are kept by id
    with pytest.raises(ValueError, match="pictures of two people"):
        load(folder, images="shuffled", ds_size=1)


def test_selection_is_first_or_seeded():
    assert select_rows(5, None, "first", 0) == select_rows(5, 9, "random", 0) == [0, 1, 2, 3, 4]
    assert select_rows(100, 3, "first", 0) == [0, 1, 2]
    drawn = select_rows(100, 30, "random", 0)
    assert drawn == sorted(set(drawn)) == select_rows(100, 30, "random", 0) != select_rows(100, 30, "random", 1)


def test_task_ids_choose_in_order_and_are_checked(folder):
    chosen = load(folder, {}, {}, {}, eval_task_ids=[2, 0])
    assert [task.name for task in chosen] == ["t2", "t0"]
    with pytest.raises(ValueError, match="eval_task_ids has 3, but the tasks are 0: t0"):
        load(folder, {}, {}, {}, eval_task_ids=[3])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"answer": "nome"}, "no column 'nome'; its columns are image, caption, name"),
        ({"question": "query"}, "no column 'query'"),
        ({"wrong_answers": ["perturbed_names", "option9"]}, "no column 'option9'"),
        ({"split": "forget10_perturb"}, "Did you mean 'forget10_perturbed'"),
        ({"wrong_answers": "empty"}, "Row 1 of .*: no wrong answer, or an empty one, in empty"),
        ({"split": "broken"}, "The image of row 1 of .*broken is broken"),
        ({"answer": "blank"}, "Row 2 of .*: blank is ' ', not a text"),
    ],
)
def test_what_the_data_lack_is_said_before_a_model_loads(folder, spec, message):
    with pytest.raises(ValueError, match=message):
        load(folder, spec)


def test_text_tasks_are_added_by_their_path():
    specs, rest = task_specs({"text_data_path": "locuslab/TOFU", "split": "forget05_perturbed", "seed": 1})
    assert [spec["eval_task"] for spec in specs[6:]] == ["eval_text_forget", "eval_text_retain"]
    assert (specs[6]["data_path"], specs[6]["split"], specs[6]["question"]) == (
        "locuslab/TOFU",
        "forget05_perturbed",
        "question",
    )
    assert rest == {"seed": 1}
