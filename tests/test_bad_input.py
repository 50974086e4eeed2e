"""What users get wrong, over all scripts, configs and files: an error that names the culprit and the way out, and no
trace.

A row is what is run, what is wrong, and words of the message. `@` is a folder with good data and with all that is
broken (tests/bad_input.py). Each row runs the script itself, in this process, and must leave every file as it was.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import BASE, run_script, tree, write_world
from tests.bad_settings import SETTINGS

MM = {"finetune": ("data_path=@/clear", "split=full+tofu"),
      "forget": (f"model_path={BASE}", "forget_data_path=@/clear", "retain_data_path=@/clear"),
      "eval": (f"model_path={BASE}", "data_path=@/clear", "generation.max_new_tokens=2")}  # fmt: skip
NLP = {
    "finetune": ("data_path=@/tofu", "split=full"),
    "forget": ("model_path=minibench/weights/llama-mini", "data_path=@/tofu"),
    "eval": ("model_path=minibench/weights/llama-mini", "data_path=@/tofu"),
}
GOOD = {
    **{f"mm/{name}": (*words, "save_dir=@/out") for name, words in MM.items()},
    **{f"nlp/{name}": (*words, "save_dir=@/out") for name, words in NLP.items()},
    "aggregate_eval_stat": (
        "retain_result=@/gold/eval_log_aggregated.json",
        "ckpt_result=@/log/eval_log_aggregated.json",
        "save_file=@/new.json",
    ),
    "cv/prepare": ("data_path=@/faces", "save_dir=@/out", "models=4"),
    "cv/pretrain": ("data_path=@/faces", "save_dir=@/out"),
    "cv/finetune": ("splits=@/bad_splits", "save_dir=@/out"),
    "cv/forget": ("splits=@/bad_splits", "save_dir=@/out"),
    "cv/score": (),
    "cv/attack": (),
    "cv/run": ("root=@/out",),
    "run_exps": ("save_dir=@/out",),
}

LOG, CKPT = "/eval_log_aggregated.json", "ckpt_result=@/"
ALIKE = f"retain_result=@/asked_alike{LOG}"


FILES = [
    ("mm/finetune", "data_path=@/nothing", "data_path=", "nothing is neither a folder nor a hub id", "minibench.build"),
    ("mm/finetune", "data_path=@/not_a_dataset", "not_a_dataset"),
    ("mm/finetune", "data_path=someone/missing", "someone/missing cannot be read", "hf download someone/missing"),
    ("mm/finetune", "split=full+tof", "clear has no split 'full+tof'. Did you mean 'full+tofu'"),
    ("mm/finetune", "split=empty", "clear, split empty", "empty"),
    ("mm/finetune", "split=no_caption", "split no_caption: no column 'caption'; its columns are image, name"),
    ("mm/finetune", "split=named_only", "split named_only: no column 'question'"),
    ("mm/finetune", "split=broken", "image of row 1 of ", "split broken is broken", "replace or remove it"),
    ("mm/finetune", "split=half", "Row ", "clear/half/1 has neither", "remove or mend it"),
    ("mm/finetune", "split=narrow", "The image of row 1 of ", "1 x 300 pixels is narrower than 200:1"),
    ("mm/finetune", "split=asked", "clear/asked/0 has a text in question but not an answer to go with it"),
    (
        "mm/finetune",
        "data_path=@/own split=lists",
        "own/lists/1: answer is a list, ['She.', 'He.']",
        "one text is wanted",
    ),
    ("mm/finetune", "data_path=@/own split=stored", "own/stored/1: answer is a list stored as text"),
    ("mm/finetune", "data_path=@/own split=numbers", "own/numbers/0: answer is 3, of type int, not a text"),
    (
        "mm/finetune",
        "data_path=@/own split=names",
        "The image of row 0",
        "own/gone.png; file names are relative to the",
    ),
    (
        "mm/finetune",
        "data_path=@/own split=elsewhere",
        "its pictures are in column 'image_path'; call that column image",
    ),
    ("mm/finetune", "data_path=@/own split=several", "The image of row 0", "is a list of 2 pictures"),
    ("mm/finetune", "data_path=@/own split=full", "own has no split 'full'", "It has: elsewhere, lists, "),
    ("mm/finetune", "data_path=@/own/lists.jsonl split=full", "lists.jsonl has no split 'full'. It has: lists"),
    ("mm/finetune", "save_dir=@/file/run", "save_dir=", "file/run cannot be written"),
    ("mm/finetune", "save_dir=''", "save_dir is empty; say where"),
    ("mm/finetune", "save_dir=@/bad_run", "bad_run/run.json is damaged", "remove it or choose another save_dir"),
    ("mm/finetune", "save_dir=@/text_run", "text_run/run.json is no record of a run (it holds a str)", "remove it"),
    ("mm/finetune", "save_dir=@/list_run", "list_run/run.json is no record of a run (it holds a list)"),
    ("mm/finetune", "save_dir=@/odd_run", "odd_run/run.json is no record of a run (status is 3)"),
    ("mm/finetune", "save_dir=@/latin_run", "latin_run/run.json is damaged ("),
    ("mm/finetune", "save_dir=@/no_tokenizer", "no_tokenizer holds a model that no run of this project made"),
    ("mm/eval", "model_path=@/weights_lacking", "weights_lacking lack 9 tensors of the model, e.g. ", ".layers.1."),
    ("mm/forget", "model_path=@/weights_lacking", "weights_lacking lack 9 tensors of the model"),
    (
        "mm/eval",
        "model_path=@/weights_more",
        "weights_more have 9 tensors of blocks that its config.json does not know",
    ),
    ("mm/eval", "model_path=@/weights_nan", "weights_nan holds NaN or infinity", "Make the model again"),
    ("mm/eval", "model_path=@/weights_bin", "weights_bin holds no weights", "only pytorch_model.bin", "can run code"),
    (
        "mm/finetune",
        "model_path=@/weights_gguf",
        "weights_gguf holds no weights",
        "GGUF is quantised for other programs",
    ),
    ("mm/eval", "model_path=@/weights_code", "weights_code", "brings code of its own, which is never run"),
    ("mm/eval", "model_path=@/adapter_self", "adapter_self is an adapter of ", "which is itself"),
    ("mm/eval", "model_path=@/adapter_pickle", "adapter_pickle holds no weights", "only adapter_model.bin"),
    ("mm/finetune", "save_dir=@/other_run", "other_run holds another run", "overwrite_dir=true"),
    (
        "mm/finetune",
        "save_dir=@/cut_run",
        "checkpoint-4 is damaged: optimizer.pt has 4 of 400 bytes",
        "resume_from_checkpoint=false",
    ),
    ("mm/finetune", "save_dir=@/two_run", "checkpoint-4 was made by 2 processes, this run has 1"),
    (
        "mm/finetune",
        "resume_from_checkpoint=@/nothing",
        "nothing is not a checkpoint folder (it has no trainer_state.json)",
    ),
    ("mm/finetune", "model_path=@/nothing", "nothing' does not exist", "Run the step that makes it"),
    ("mm/finetune", "model_path=@/no_model", "no_model", "not a saved model"),
    (
        "mm/finetune",
        "model_path=@/cut",
        "weights in ",
        "cut/model.safetensors cannot be read",
        "copy or make it again",
    ),
    ("mm/finetune", "model_path=@/bad_config", "bad_config/config.json"),
    ("mm/finetune", "model_path=@/no_weights", "no_weights", "safetensors"),
    (
        "nlp/finetune",
        "model_path=@/mamba",
        "mamba is a mamba: it keeps a recurrent state",
        "use a model that only attends",
    ),
    ("nlp/forget", "model_path=@/mamba", "mamba is a mamba: it keeps a recurrent state"),
    ("nlp/eval", "model_path=@/mamba", "mamba is a mamba: it keeps a recurrent state"),
    ("mm/finetune", "model_path=@/no_tokenizer", "no_tokenizer", "tokenizer"),
    ("mm/forget", "save_dir=@/cut model_path=@/cut", "cut is the folder of the model that training starts from"),
    ("mm/forget", "retain_split=full+tofu", "4 rows of forget10+tofu are also in full+tofu", "Choose a retain split"),
    ("mm/forget", "forget_split=forget11", "clear has no split 'forget11'. Did you mean 'forget10'"),
    ("mm/forget", "model_path=@/adapter_gone", "adapter_gone is an adapter of a model that is missing", "models/gone"),
    ("mm/eval", "model_path=@/adapter_other", "adapter_other does not fit the model it names", "Llava", "Qwen2VL"),
    ("mm/eval", "model_path=@/adapter_cut", "adapter_cut cannot be read", "copy or make it again"),
    (
        "mm/eval",
        "model_path=@/adapter_sizes",
        "adapter_sizes does not fit the model it names",
        "size mismatch for",
        "lora_A",
    ),
    ("mm/eval", "model_path=@/adapter_config", "adapter_config/adapter_config.json"),
    ("mm/eval", "split=forget11_perturbed", "no split 'forget11_perturbed'"),
    ("mm/eval", "retain_result=@/nothing.json", "nothing.json"),
    ("mm/eval", "retain_result=@/log_cut/eval_log_aggregated.json", "log_cut/eval_log_aggregated.json"),
    ("mm/eval", "save_dir=@/log overwrite=false", "log holds results of another model", "overwrite=true"),
    ("mm/eval", "save_dir=@/file/run", "file/run cannot be written"),
    ("mm/eval", "processor_path=@/no_tokenizer", "no_tokenizer"),
    ("nlp/finetune", "split=no_answer", "split no_answer: no column 'answer'; its columns are question"),
    (
        "mm/forget",
        "forget_split=forget10 retain_split=retyped",
        "One person of forget10 is also in retyped",
        "PERSON 1 ",
    ),
    ("nlp/finetune", "data_path=@/own split=missing", "Row missing/1 lacks a question or an answer"),
    ("nlp/finetune", "data_path=@/own split=nan", "Row nan/0 lacks a question or an answer"),
    ("nlp/finetune", "data_path=@/own split=numbers", "Row numbers/0: answer is 3, of type int"),
    ("nlp/finetune", "data_path=@/clear split=pictured", "Row 0 of ", "has a picture", "use the mm/ scripts"),
    (
        "nlp/eval",
        "data_path=@/own tasks=[{eval_task:a,split:wrong,base_answer:answer,wrong_answers:perturbed_answer}]",
        "Row 0 of ",
        "own/wrong: no wrong answer, or an empty one, in perturbed_answer, which is None",
    ),
    ("nlp/finetune", "split=half", "Row half/1 lacks a question or an answer"),
    ("nlp/forget", "retain_split=leaky", "1 rows of forget10 are also in leaky"),
    ("aggregate_eval_stat", "retain_result=@/nothing.json", "nothing.json"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG}]", "takes two different models: [A,B]"),
    ("aggregate_eval_stat", f"compare=@/gold{LOG}", "takes two different models: [A,B]"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG},npoo]", "'npoo' is no file, and no row of ", "no row"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG},@/log_rows{LOG}]", "task eval_log_forget: the logs", "same split"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG},@/log_cut{LOG}]", "log_cut/eval_log_aggregated.json"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG},@/log{LOG}] margin=0", "margin=0 must lie above 0"),
    (
        "aggregate_eval_stat",
        f"compare=[@/gold{LOG},@/log{LOG}] base_result=@/log_rows{LOG}",
        "task eval_log_forget: the logs",
    ),
    ("aggregate_eval_stat", "ckpt_result=@/no*/log.json", "names no file", "glob"),
    ("aggregate_eval_stat", "ckpt_result=@/log_cut/eval_log_aggregated.json", "log_cut/eval_log_aggregated.json"),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_nan/eval_log_aggregated.json",
        "log_nan",
        "task eval_log, row 3: avg_gt_loss is None",
    ),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_no_key/eval_log_aggregated.json",
        "task eval_log: no average_perturb_loss",
    ),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_no_task/eval_log_aggregated.json",
        "no task eval_forget_facerec",
        "eval_task_ids",
    ),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_rows/eval_log_aggregated.json",
        "task eval_log_forget: the logs",
        "3",
        "same split",
    ),
    ("aggregate_eval_stat", "ckpt_result=@/log_reference/eval_log_aggregated.json", "other reference texts in rows 3"),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_meta/eval_log_aggregated.json",
        "eval_meta.json: expected schema_version",
        "Delete it",
    ),
    ("aggregate_eval_stat", f"{CKPT}log_negative{LOG}", "log_negative", "row 3: avg_gt_loss is -5.0", "cannot be"),
    ("aggregate_eval_stat", f"{CKPT}log_no_tokens{LOG}", "log_no_tokens", "row 3: num_token_gt is -4", "at least 1"),
    ("aggregate_eval_stat", f"{CKPT}log_recall{LOG}", "log_recall", "rougeL_recall is 1.5", "at most 1"),
    ("aggregate_eval_stat", f"{CKPT}log_list{LOG}", "log_list", "avg_gt_loss is [1.0, 2.0], not values by row"),
    ("aggregate_eval_stat", f"{CKPT}log_text{LOG}", "log_text", "row 3: avg_gt_loss is '0.5', not a finite number"),
    ("aggregate_eval_stat", f"{CKPT}text_huge{LOG}", f"text_huge{LOG}", "row 0: avg_gt_loss is", "not a finite number"),
    ("aggregate_eval_stat", f"{CKPT}text_digits{LOG}", f"text_digits{LOG}", "not valid JSON"),
    ("aggregate_eval_stat", f"{CKPT}text_deep{LOG}", f"text_deep{LOG}", "nested too deeply"),
    ("aggregate_eval_stat", f"{CKPT}text_latin{LOG}", f"text_latin{LOG}", "not UTF-8"),
    ("aggregate_eval_stat", f"{CKPT}text_task_twice{LOG}", "text_task_twice", "'eval_log.json' occurs twice"),
    ("aggregate_eval_stat", f"{CKPT}text_row_twice{LOG}", "text_row_twice", "'0' occurs twice"),
    ("aggregate_eval_stat", f"{CKPT}asked_types{LOG}", "asked_types/eval_meta.json", "row 3: wrong_answers is 'one'"),
    ("aggregate_eval_stat", f"{ALIKE} {CKPT}asked_briefly{LOG}", "max_new_tokens", "8 against 64", "asked_briefly"),
    (
        "aggregate_eval_stat",
        f"{ALIKE} {CKPT}asked_question{LOG}",
        "task eval_log: another question in rows 3",
        "'Who is not here?' against 'Who?'",
    ),
    ("aggregate_eval_stat", f"{ALIKE} {CKPT}asked_base{LOG}", "another base answer in rows 3", "'in other words'"),
    (
        "aggregate_eval_stat",
        f"retain_result=@/asked_pictures{LOG} {CKPT}asked_picture{LOG}",
        "another picture in rows 3",
        "feed",
        "against none",
    ),
    ("aggregate_eval_stat", f"{ALIKE} {CKPT}asked_thumbnail{LOG}", "another picture in rows 3", "0123456789abcdef.jpg"),
    (
        "aggregate_eval_stat",
        f"{ALIKE} {CKPT}asked_alike{LOG} base_result=@/asked_briefly{LOG}",
        "max_new_tokens",
        "64 against 8",
    ),
    (
        "aggregate_eval_stat",
        f"{CKPT}asked_start{LOG} base_result=@/asked_alike{LOG}",
        "started from models/npo as run old",
        "the base was trained anew since",
    ),
    ("aggregate_eval_stat", "save_file=@/new.html", "save_file=", "new.html is where the rows go", ".json or .csv"),
    ("aggregate_eval_stat", "save_file=@/new.png", "new.png is where the rows go"),
    ("aggregate_eval_stat", "picture=@/new.json", "picture=", "new.json is the file of save_file too"),
    ("aggregate_eval_stat", "markdown=@/a.txt latex=@/a.txt", "a.txt is the file of markdown too"),
    ("aggregate_eval_stat", "save_file=@/utf16.json", "utf16.json: not UTF-8", "Choose another save_file"),
    ("aggregate_eval_stat", "save_file=@/board.json", "board.json", "Choose another save_file"),
    ("aggregate_eval_stat", "refusals=@/nothing.txt", "nothing.txt: no such file", "refusals=null"),
    ("cv/prepare", "modells=4", "unknown config key 'modells'", "Did you mean 'models'"),
    ("cv/forget", "options.alhpa=1", "unknown config key 'options.alhpa'", "Did you mean 'options.alpha'"),
    ("cv/prepare", "data_path=@/nothing", "nothing"),
    ("cv/prepare", "data_path=@/one_face", "fewer than two people"),
    ("cv/prepare", "data_path=@/phone_face num_enroll=1", "person 3/3.HEIC is a kind of picture that is not read here"),
    ("cv/prepare", "data_path=@/broken_face num_enroll=1", "person 2/1.png cannot be opened"),
    ("cv/finetune", "splits=@/nothing", "nothing", "cv/prepare.py"),
    ("cv/finetune", "model_path=@/nothing", "bad_splits"),
    ("cv/score", "model_path=@/nothing splits=@/nothing", "nothing", "cv/prepare.py"),
]


def family(text: str) -> Callable[[Path], Any]:
    """An entry of model_config.yaml."""

    def load(world: Path) -> Any:
        from unlearn.models.families import load_family

        (config := world.parent / "model_config.yaml").write_text(text)
        return load_family("mine", config)

    return load


def _minibench(name: str) -> Callable[[Path], Any]:
    def build(world: Path) -> Any:
        import minibench.folders

        return minibench.folders.build(name, world / "built")

    return build


CALLS: list[tuple[str, Callable[[Path], Any], tuple[str, ...]]] = [
    (
        "model_config: unknown key",
        family("mine: {hf_key: a/b, rmu_layers: 3}"),
        ("'mine.rmu_layers'", "'mine.rmu_layer'"),
    ),
    ("model_config: wrong type", family("mine: {hf_key: a/b, rmu_layer: low}"), ("mine.rmu_layer='low' is not a int",)),
    ("model_config: no hf_key", family("mine: {rmu_layer: 3}"), ("mine", "hf_key")),
    (
        "model_config: no entry",
        family("other: {hf_key: a/b}"),
        ("Unknown model_family 'mine'", "model_config.yaml has: other"),
    ),
    ("model_config: no YAML", family("mine: {hf_key: a/b"), ("model_config.yaml",)),
    ("model_config: a list", family("- mine"), ("model_config.yaml",)),
    (
        "minibench: unknown dataset",
        _minibench("clear-maxi"),
        ("No embedded dataset 'clear-maxi'", "clear-mini and tofu-mini"),
    ),
]
ROWS = SETTINGS + FILES


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "world"
    folder.mkdir()
    write_world(folder)
    return folder


@pytest.fixture(autouse=True)
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def check(error: BaseException, words: tuple[str, ...]) -> None:
    """The message says what a user must know; it is no library's own inner trouble."""
    message = str(error)
    assert not isinstance(error, (KeyError, IndexError, AttributeError, TypeError, AssertionError)), repr(error)
    for word in words:
        assert word in message, f"{word!r} is not in: {type(error).__name__}: {message}"


@pytest.mark.parametrize("row", ROWS, ids=[re.sub(r"\W+", "-", f"{row[0]} {row[1]}") for row in ROWS])
def test_a_script_says_what_is_wrong_and_leaves_no_trace(row: tuple[str, ...], world: Path) -> None:
    script, wrong, *words = row
    given = dict(word.split("=", 1) for word in GOOD[script])
    given |= dict(word.split("=", 1) for word in wrong.split(" "))
    overrides = [f"{key}={value}".replace("@", str(world)) for key, value in given.items()]
    before = tree(world)
    try:
        with pytest.raises((Exception, SystemExit)) as caught:
            run_script(f"{script}.py", *overrides)
        check(caught.value, tuple(words))
        assert tree(world) == before
    finally:
        shutil.rmtree(world / "out", ignore_errors=True)  # or the next rows would stumble over it


@pytest.mark.parametrize(("load", "words"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_a_config_says_what_is_wrong(load: Callable[[Path], Any], words: tuple[str, ...], world: Path) -> None:
    before = tree(world)
    with pytest.raises((ValueError, OSError)) as caught:
        load(world)
    check(caught.value, words)
    assert tree(world) == before


def test_the_table_covers_every_script() -> None:
    assert len(ROWS) + len(CALLS) >= 60 and {row[0] for row in ROWS} == set(GOOD)
