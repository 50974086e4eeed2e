"""The tasks of the multimodal evaluation: which rows, which question, which answers. Six by default, as in CLEAR.

A task is a mapping: `eval_task` (its name), `data_path`, `split`, `question` (caption: one of nine requests, fixed by
    the row's
id; face: the cue that asks for a name; else a column), and the columns `answer`, `base_answer` and `wrong_answers` (a
list column, several columns, or null: nothing is compared). `images: shuffled` is the control: does the model look?
`only_people`, `without_people`: names whose rows alone are asked about, or left out. The published config's parallel
lists say the same and are read as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import minibench
from mm.clear import CAPTION_QUESTIONS, FACE_PROMPT
from mm.people import chosen_rows, excluded_of, rows_per_author
from unlearn.config.settings import EvalSettings, read_settings
from unlearn.data.items import TableItems, select_rows, with_authors
from unlearn.data.pictures import check_images
from unlearn.data.samples import read_lines, stable_choice
from unlearn.data.sources import load_split
from unlearn.data.task_specs import KEYS, check_task, chosen_tasks, from_lists, identity, wrong_columns
from unlearn.evaluation.suite import EvalTask

STRATEGIES = {"random_caption": "caption", "random_faces": "face", "column": None}  # None: the column in question_key
PUBLISHED = (
    "eval_task", "data_path", "split_list", "question_key", "question_strategy", "answer_key", "base_answer_key",
    "perturbed_answer_key",
)  # fmt: skip
IMAGES = ("own", "shuffled")
ONLY_CLEAR = ("split", "text_data_path", "images", "holdout")  # of the config, not of the settings


def default_tasks(data_path: str, split: str) -> list[dict[str, Any]]:
    """The six tasks of the paper, in the published order. `split` is the forget split, e.g. forget10_perturbed; one of
    tuning (forget10_tuning_perturbed) has retained people of its own."""
    retain = "retain_tuning_perturbed" if split.endswith("_tuning_perturbed") else "retain_perturbed"

    def task(name: str, rows: str, *columns: str) -> dict[str, Any]:
        return dict(zip(KEYS, (name, data_path, rows, *columns), strict=True))

    captions = ("caption", "caption", "paraphrased_caption", "perturbed_captions")
    names = ("face", "name", "name", "perturbed_names")
    return [
        task("eval_real_faces_wo_options", "real_faces", "face", "answer", "answer", "options"),
        task("eval_real_world_wo_options", "real_world", "question", "answer", "answer", "options"),
        task("eval_log_forget", split, *captions),
        task("eval_log", retain, *captions),
        task("eval_forget_facerec", split, *names),
        task("eval_retain_facerec", retain, *names),
    ]


def text_tasks(data_path: str, split: str) -> list[dict[str, Any]]:
    """What the paper's evaluation never asks: TOFU's own questions, without a picture. Not part of any paper metric."""
    columns = ("question", "answer", "paraphrased_answer", "perturbed_answer")
    rows = {"eval_text_forget": split, "eval_text_retain": "retain_perturbed"}
    return [dict(zip(KEYS, (name, data_path, part, *columns), strict=True)) for name, part in rows.items()]


def holdout_tasks(data_path: str, split: str, text_data_path: str | None) -> list[dict[str, Any]]:
    """The twins of the forget tasks on people whom nobody was trained on; without wrong answers unless `split` has
    some (`_perturbed`)."""
    perturbed = split.endswith("_perturbed")
    base, wrong = ("paraphrased_caption", "perturbed_captions") if perturbed else ("caption", None)
    caption = (data_path, split, "caption", "caption", base, wrong)
    face = (data_path, split, "face", "name", "name", "perturbed_names" if perturbed else None)
    specs = {"eval_holdout": caption, "eval_holdout_facerec": face}
    if text_data_path is not None:
        base, wrong = ("paraphrased_answer", "perturbed_answer") if perturbed else ("answer", None)
        specs["eval_text_holdout"] = (text_data_path, split, "question", "answer", base, wrong)
    return [dict(zip(KEYS, (name, *columns), strict=True)) for name, columns in specs.items()]


def excluded_tasks(data_path: str, text_data_path: str | None, people: Sequence[str]) -> list[dict[str, Any]]:
    """`holdout_tasks` about people who were left out of training (`exclude_people`): from `default`, of the questions
    from `full`."""
    specs = holdout_tasks(data_path, "default", text_data_path)
    return [
        {**spec, "split": "full" if spec["question"] == "question" else "default", "only_people": list(people)}
        for spec in specs
    ]


def eval_settings(config: Mapping[str, Any]) -> EvalSettings:
    """The settings of `mm/eval.py` from its composed config; what describes tasks is gathered under `tasks`."""
    if config.get("benchmark") or (config.get("own_data") or {}).get("path"):
        from mm.benchmarks import eval_specs

        own = {key: value for key, value in config.items() if key not in (*PUBLISHED, "tasks", *ONLY_CLEAR)}
        return read_settings(EvalSettings, {**own, "tasks": eval_specs(config)})
    specs, rest = task_specs(config)
    return read_settings(EvalSettings, {**rest, "tasks": specs})


def task_specs(config: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(tasks, the rest of the config): from `tasks`, or the published lists, or the six of the paper.

    Raises ValueError for lists of different lengths, half of the lists, an unknown key or strategy.
    """
    own = (*PUBLISHED, "tasks", *ONLY_CLEAR)
    rest = {key: value for key, value in config.items() if key not in own}
    known = {key: config[key] for key in own if config.get(key) is not None}
    path, split = known.pop("data_path", "data/clear-mini"), known.pop("split", "forget10_perturbed")
    lists = {key: value for key, value in known.items() if key in PUBLISHED}
    lists |= {} if isinstance(path, str) else {"data_path": path}
    if lists and "tasks" in known:
        raise ValueError(f"Both tasks and {', '.join(lists)} are set; keep one of the two ways to describe the tasks.")
    if lists:
        specs = _from_lists(lists | {"data_path": path})
    elif "tasks" in known:
        specs = [{"data_path": path, "split": split, **task} for task in known["tasks"]]
    else:
        specs = default_tasks(path, split)
    texts = known.get("text_data_path")
    specs += text_tasks(texts, split) if texts else []
    people, one = excluded_of(str(config.get("model_path") or "")), path if isinstance(path, str) else path[0]
    if people and "holdout" in known:
        raise ValueError(f"holdout={known['holdout']}, but {config['model_path']} has a holdout of its own "
                         "(exclude_people); leave one of them out.")  # fmt: skip
    if people:
        specs = [{**spec, "without_people": people} for spec in specs] + excluded_tasks(one, texts, people)
    elif "holdout" in known:
        specs += holdout_tasks(one, known["holdout"], texts)
    return [_check({"images": known.get("images", "own"), **spec}) for spec in specs], rest


def _from_lists(lists: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The published parallel lists as task mappings; their strategy says what `question` says here."""
    tasks = []
    for name, path, split, column, strategy, *columns in from_lists(lists, PUBLISHED):
        if strategy not in STRATEGIES:
            raise ValueError(f"question_strategy {strategy!r} of {name} is not one of {', '.join(STRATEGIES)}.")
        tasks.append(dict(zip(KEYS, (name, path, split, STRATEGIES[strategy] or column, *columns), strict=True)))
    return tasks


def _check(task: Mapping[str, Any]) -> dict[str, Any]:
    if task["images"] not in IMAGES:
        raise ValueError(f"images={task['images']!r} is not one of {', '.join(IMAGES)}.")
    return check_task(task, also=("images", "only_people", "without_people"))


def load_tasks(settings: EvalSettings) -> list[EvalTask]:
    """The tasks chosen by `eval_task_ids` (all by default), their rows and pictures checked, nothing tokenised yet.

    Raises ValueError for an id without a task, and for whatever is wrong with a split, column, row or picture.
    """
    if settings.benchmark or settings.own_data.path:
        from mm.benchmarks import load_tasks as load_others

        return load_others(settings)
    chosen = chosen_tasks(settings)
    splits = {(task["data_path"], task["split"]) for task in chosen}
    for path, split in splits:  # once each, not once per task
        check_images(_load_rows(path, split, settings), f"{path}, split {split}")
    requests = read_lines(CAPTION_QUESTIONS)
    return [_load_task(task, settings, requests) for task in chosen]


def _load_rows(path: str, split: str, settings: EvalSettings, columns: Sequence[str] = ()) -> Any:
    return load_split(str(minibench.ensure_dataset(path)), split, revision=settings.data_revision, columns=columns)


def _load_task(task: Mapping[str, Any], settings: EvalSettings, requests: Sequence[str]) -> EvalTask:
    kind, split = task["question"], task["split"]
    shows_picture = kind in ("caption", "face")
    wrong = wrong_columns(task)
    needed = [task["answer"], task["base_answer"], *wrong, "image" if shows_picture else kind]
    rows = _load_rows(task["data_path"], split, settings, needed)
    asked = chosen_rows(rows, task, settings.data_revision)
    if not shows_picture and (size := rows_per_author(task["data_path"], split)):
        rows = with_authors(rows, size, split)

    def question(row: Mapping[str, Any], place: int) -> str:
        if kind == "caption":
            return stable_choice(requests, f"{split}/{place}")
        return FACE_PROMPT if kind == "face" else row[kind]

    items = TableItems(
        rows,
        [asked[place] for place in select_rows(len(asked), settings.ds_size, settings.selection, settings.seed)],
        question,
        name=f"{task['data_path']}/{split}",
        answer=task["answer"],
        base_answer=task["base_answer"],
        wrong_answers=wrong,
        needs_image=shows_picture,
    )
    if task["images"] == "shuffled":
        items.shuffle_images(settings.seed)
    return EvalTask(task["eval_task"], items, items.lengths(), identity(task, settings, items.places))
