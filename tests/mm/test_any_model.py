"""Any image-text-to-text model by its folder alone, through the scripts: two steps of finetuning, two of NPO, an
evaluation; and the models that are refused, before any weight is looked for."""

import importlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from minibench.tables import write_dataset
from tests.bad_input import BASE, CAPTIONED, MIXED, OPTIONS, PERTURBED, photos, run_script, texts
from tests.hub_cache import add_to_hub, fake_hub
from tests.vision_models import FAMILIES, TilesPil, pixtral_processor_class
from unlearn.results import read_log

QUICK = ("max_steps=2", "LoRA.r=2", "batch_size=2", "lr=1e-2", "save_steps=0")
FAST = ("internvl", "paligemma")  # all of them in the slow set; what a step computes: tests/unlearn/models/test_vision


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows of every split that two steps and a task need."""
    folder = tmp_path_factory.mktemp("world") / "clear"
    write_dataset(folder, {
        "full+tofu": (MIXED, photos(0, 3) + texts(0, 3)), "forget10+tofu": (MIXED, photos(0, 2) + texts(0, 2)),
        "retain90+tofu": (MIXED, photos(10, 3) + texts(10, 3)), "forget10": (CAPTIONED, photos(0, 2)),
        "forget10_perturbed": (PERTURBED, photos(0, 3)), "retain_perturbed": (PERTURBED, photos(10, 2)),
        "real_faces": (OPTIONS, [{**row, "image": photos(5, 1)[0]["image"]} for row in texts(5, 2)]),
        "real_world": (OPTIONS, [{**row, "image": photos(6, 1)[0]["image"]} for row in texts(6, 2)]),
    }, "Small.\n")  # fmt: skip
    return folder


@pytest.fixture
def no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two classes that exist with torchvision only (tests/vision_models.py)."""
    library = importlib.import_module("transformers")  # it replaces itself on import: the name may be an older object
    monkeypatch.setattr(library, "PixtralProcessor", pixtral_processor_class())
    monkeypatch.setattr(library, "TilesPil", TilesPil, raising=False)


def families() -> list[Any]:
    return [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in FAMILIES]


@pytest.mark.parametrize("family", families())
@pytest.mark.usefixtures("no_torchvision")
def test_finetune_forget_and_evaluate_from_a_folder_alone(family: str, clear: Path, tmp_path: Path) -> None:
    start, base, gone = (str(tmp_path / name) for name in ("start", "base", "gone"))
    for part in FAMILIES[family]():
        part.save_pretrained(start)
    run_script("mm/finetune.py", f"model_family={start}", f"data_path={clear}", f"save_dir={base}", *QUICK)
    run_script("mm/forget.py", f"model_family={start}", f"model_path={base}", "forget_loss=npo", f"save_dir={gone}",
               f"forget_data_path={clear}", f"retain_data_path={clear}", *QUICK)  # fmt: skip
    record = json.loads((Path(gone) / "run.json").read_text())
    assert record["status"] == "finished" and record["settings"]["model_family"] == start
    run_script("mm/eval.py", f"model_family={start}", f"model_path={gone}", f"data_path={clear}", "eval_task_ids=[2,4]",
               "generation.max_new_tokens=3", "batch_size=3", f"save_dir={tmp_path / 'log'}")  # fmt: skip
    tasks = read_log(tmp_path / "log" / "eval_log_aggregated.json").tasks
    assert set(tasks) == {"eval_log_forget", "eval_forget_facerec"}
    assert all(math.isfinite(loss) and loss > 0 for task in tasks.values() for loss in task["avg_gt_loss"].values())
    assert len(set(tasks["eval_log_forget"]["avg_gt_loss"].values())) == 3


def test_a_hub_id_is_enough(clear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in FAMILIES["qwen3_vl"]():
        part.save_pretrained(tmp_path / "start")
    fake_hub(monkeypatch, tmp_path / "cache")
    add_to_hub(tmp_path / "cache", "someone/qwen3", tmp_path / "start")
    shutil.rmtree(tmp_path / "start")
    run_script("mm/finetune.py", "model_family=someone/qwen3", f"data_path={clear}", f"save_dir={tmp_path / 'base'}",
               *QUICK)  # fmt: skip
    assert json.loads((tmp_path / "base" / "config.json").read_text())["model_type"] == "qwen3_vl"
    run_script(*evaluation(clear, tmp_path / "log", "model_family=someone/qwen3", "model_path=someone/qwen3"))
    assert len(losses(tmp_path / "log")) == 3


def write(file: Path, **changes: Any) -> None:
    """A JSON file with some keys changed, those given None removed."""
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def evaluation(clear: Path, folder: Path, *words: str) -> tuple[str, ...]:
    return ("mm/eval.py", f"data_path={clear}", "eval_task_ids=[4]", "generation.max_new_tokens=2", "batch_size=3",
            f"save_dir={folder}", *words)  # fmt: skip


def losses(folder: Path) -> dict[str, float]:
    return dict(read_log(folder / "eval_log_aggregated.json").tasks["eval_forget_facerec"]["avg_gt_loss"])


@pytest.mark.parametrize("known", [(), ("patch_size",)])
def test_a_llava_processor_saved_before_4_46_reads_like_a_new_one(known: Any, clear: Path, tmp_path: Path) -> None:
    """It says nothing of patch_size, vision_feature_select_strategy and num_additional_image_tokens, or only the
    first."""
    for file in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "old").mkdir(exist_ok=True)
        (tmp_path / "old" / file).write_bytes((Path(BASE) / file).read_bytes())
    silent = {"patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"} - set(known)
    write(tmp_path / "old" / "processor_config.json", **dict.fromkeys(silent))
    run_script(*evaluation(clear, tmp_path / "new_log", f"model_path={BASE}"))
    run_script(*evaluation(clear, tmp_path / "old_log", f"model_path={BASE}", f"processor_path={tmp_path / 'old'}"))
    assert losses(tmp_path / "old_log") == losses(tmp_path / "new_log")


@pytest.mark.usefixtures("no_torchvision")
def test_models_that_cannot_run_are_refused_by_type_before_weights(
    clear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders without weights: a message about weights would mean that they had been looked for."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    llava = Path(BASE)

    def folder(name: str, config: dict[str, Any], processor: dict[str, Any] | None = None) -> str:
        made = tmp_path / name
        made.mkdir()
        for file in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (made / file).write_bytes((llava / file).read_bytes())
        (made / "config.json").write_text(json.dumps(config))
        if processor:
            write(made / "processor_config.json", **processor)
        return str(made)

    plain = json.loads((llava / "config.json").read_text())
    rows = {
        folder("mllama", {"model_type": "mllama"}): "'mllama' is not supported.*Supported are llava, llava_next",
        folder("florence2", {"model_type": "florence2"}): "'florence2' is not supported: it has an encoder",
        folder("next", FAMILIES["llava_next"]()[0].config.to_dict()): "'llava_next'.*LlavaProcessor.*image_sizes",
        folder("clip", {"model_type": "clip"}): "'clip' is not supported: transformers has no image-text-to-text",
        folder("silent", {**plain, "vision_config": {**plain["vision_config"], "patch_size": None}},
               {"patch_size": None}): "LlavaProcessor has no patch_size.*processor_config.json",
        folder("nobody", plain, {"processor_class": "NoProcessor"}): "NoProcessor, which this transformers does not",
        "lava-mini": "Unknown model_family 'lava-mini'. Did you mean 'llava-mini'.*hub id",
    }  # fmt: skip
    for name, message in rows.items():
        with pytest.raises(ValueError, match=f"(?s){message}"):
            run_script("mm/finetune.py", f"model_family={name}", f"data_path={clear}", f"save_dir={tmp_path / 'out'}")
        if "/" in name:
            with pytest.raises(ValueError, match=f"(?s){message}"):
                run_script(*evaluation(clear, tmp_path / "log", f"model_path={name}"))
    assert not (tmp_path / "out").exists()
