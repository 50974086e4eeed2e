"""finetune and forget from settings to files: on tiny models saved to disk, for both families, with and without
LoRA."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny_llama, tiny_llava, tiny_qwen2vl
from tests.sources import ListSource
from tests.training import REFUSALS
from unlearn import pipeline
from unlearn.config.settings import FinetuneSettings, ForgetSettings, LoraSettings
from unlearn.models.families import Family
from unlearn.models.loading import load_model
from unlearn.models.start import Start
from unlearn.training import build as training

SMALL: dict[str, Any] = {"batch_size": 2, "num_epochs": 1, "logging_steps": 1, "lr": 1e-2, "save_steps": 1}
TINY = {"llava": tiny_llava, "qwen2vl": tiny_qwen2vl}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each tiny model with its processor in a folder, as a hub download would be."""
    root = tmp_path_factory.mktemp("bases")
    for name, tiny in TINY.items():
        model, processor = tiny()
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
    return {name: root / name for name in TINY}


def finetune(bases: dict[str, Path], folder: Path, name: str = "llava", source: Any = None, **changes: Any) -> Path:
    settings = FinetuneSettings(**{"save_dir": str(folder), "LoRA": LoraSettings(r=2), **SMALL, **changes})
    family = Family(name, str(bases[name]), rmu_layer=1)
    return pipeline.finetune(settings, family, lambda: source or ListSource(3, 3, "full"))


def forget(bases: dict[str, Path], folder: Path, name: str = "llava", sources: Any = None, **changes: Any) -> Path:
    defaults = {
        "save_dir": str(folder),
        "model_path": str(bases[name]),
        "LoRA": LoraSettings(r=2),
        "forget_loss": "npo",
    }
    settings = ForgetSettings(**{**defaults, **SMALL, **changes})
    family = Family(name, "not used", rmu_layer=1)
    pairs = sources or (lambda: (ListSource(3, 2, "forget"), ListSource(3, 3, "retain", offset=50)))
    return pipeline.forget(settings, family, pairs, REFUSALS)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was not to be done")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


def distance(one: Any, other: Any) -> float:
    names = dict(other.named_parameters())
    return max(float((p - names[name]).detach().abs().max()) for name, p in one.named_parameters())


@pytest.mark.parametrize("name", list(TINY))
@pytest.mark.parametrize("lora", [2, 0])
def test_finetuning_saves_a_whole_merged_model_with_its_processor(
    bases: Any, tmp_path: Path, name: str, lora: int
) -> None:
    folder = finetune(bases, tmp_path / "ft", name, LoRA=LoraSettings(r=lora))
    files = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "run.json", "train_log.jsonl", "tokenizer_config.json"} <= files
    assert not {"adapter_config.json", "model", "training_args.bin"} & files
    assert not list(folder.glob("checkpoint-*")) and not list(folder.glob(".incomplete*"))
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["kind"], record["steps"]) == ("finished", "finetune", 4)
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4] and "parts/retain" in lines[0]
    trained, base = load_model(str(folder)), load_model(str(bases[name]))
    assert distance(trained, base) > 1e-3
    vision = [n for n, p in trained.named_parameters() if "vision_tower" in n or ".visual." in n]
    frozen = dict(base.named_parameters())
    assert vision and all(torch.equal(dict(trained.named_parameters())[n], frozen[n]) for n in vision)


@pytest.mark.parametrize("name", list(TINY))
def test_forgetting_with_lora_saves_an_adapter_of_the_start_model(bases: Any, tmp_path: Path, name: str) -> None:
    folder = forget(bases, tmp_path / "run", name)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(bases[name])
    assert not (folder / "model.safetensors").exists() and (folder / "tokenizer_config.json").exists()
    assert distance(load_model(str(folder)), load_model(str(bases[name]))) > 1e-3
    assert pipeline.load_collator(Start.of(str(folder)), Family(name, "x"), 64).encode_answer("x")


def test_full_forgetting_saves_a_whole_model(bases: Any, tmp_path: Path) -> None:
    folder = forget(bases, tmp_path / "run", LoRA=LoraSettings(r=0))
    assert (folder / "model.safetensors").exists() and not (folder / "adapter_config.json").exists()
    assert distance(load_model(str(folder)), load_model(str(bases["llava"]))) > 1e-3
    nothing = forget(bases, tmp_path / "nothing", save_model=False)
    assert (
        not list(nothing.glob("*.safetensors"))
        and json.loads((nothing / "run.json").read_text())["status"] == "finished"
    )


def test_a_finished_run_is_left_alone(bases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in (finetune, forget):
        folder = tmp_path / run.__name__
        run(bases, folder)
        before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "build_trainer", never)
            assert run(bases, folder) == folder
            with pytest.raises(ValueError, match="holds another run .seed: 42 there, 1 here"):
                run(bases, folder, seed=1)
        assert before == {file: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_overwriting_an_adapter_by_a_full_model_leaves_no_adapter(bases: Any, tmp_path: Path) -> None:
    forget(bases, tmp_path / "run")
    folder = forget(bases, tmp_path / "run", LoRA=LoraSettings(r=0), overwrite_dir=True)
    assert not (folder / "adapter_config.json").exists() and (folder / "model.safetensors").exists()


@pytest.mark.parametrize("lora", [2, 0])
def test_a_killed_run_goes_on_from_its_checkpoint_by_the_same_call(
    bases: Any, tmp_path: Path, lora: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 steps at once, and 2 steps, a kill and 2 more, end in the same files. SKU also needs the weights of the
    start."""
    run = functools.partial(forget, bases, forget_loss="SKU", LoRA=LoraSettings(r=lora), num_epochs=2, max_steps=4)
    whole = tensors(run(tmp_path / "whole"))
    plain = training.UnlearnTrainer.compute_loss

    def killed(self: Any, *inputs: Any, **options: Any) -> Any:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return plain(self, *inputs, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.UnlearnTrainer, "compute_loss", killed)
        run(tmp_path / "killed")
    folder = tmp_path / "killed"
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]
    steps: list[int] = []

    def counted(self: Any, *inputs: Any, **options: Any) -> Any:
        steps.append(self.state.global_step)
        return plain(self, *inputs, **options)

    monkeypatch.setattr(training.UnlearnTrainer, "compute_loss", counted)
    resumed = tensors(run(folder))
    assert steps == [2, 3] and resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("lora", [2, 0])
def test_a_run_killed_while_its_model_is_saved_is_finished_by_the_same_call(
    bases: Any, tmp_path: Path, lora: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = functools.partial(forget, bases, forget_loss="SKU", LoRA=LoraSettings(r=lora))
    whole = tensors(run(tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", interrupted)
        run(tmp_path / "killed", save_steps=0)
    folder = tmp_path / "killed"
    assert not list(folder.glob("*.safetensors")) and not (folder / "model").exists()
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    resumed = tensors(run(folder, save_steps=0))
    assert all(torch.allclose(resumed[name], tensor, atol=1e-6) for name, tensor in whole.items())
    assert not list(folder.glob(".incomplete*"))


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("lora", [2, 0])
def test_sku_saves_the_negated_model(bases: Any, tmp_path: Path, lora: int) -> None:
    """Saved = original - (trained - original), against the same run without the second stage (s = -1 saves
    `trained`)."""
    import unlearn.methods.sku as sku

    run = functools.partial(forget, bases, forget_loss="SKU", LoRA=LoraSettings(r=lora))
    negated = load_model(str(run(tmp_path / "negated")))
    finalize = sku.SKU.finalize
    try:
        sku.SKU.finalize = lambda self, original, trained: dict(trained)  # type: ignore[method-assign]
        trained = load_model(str(run(tmp_path / "trained")))
    finally:
        sku.SKU.finalize = finalize  # type: ignore[method-assign]
    original = dict(load_model(str(bases["llava"])).named_parameters())
    after = dict(trained.named_parameters())
    assert distance(trained, load_model(str(bases["llava"]))) > 1e-3
    for name, p in negated.named_parameters():
        torch.testing.assert_close(p, original[name] - (after[name] - original[name]), atol=1e-5, rtol=1e-4, msg=name)


def test_a_stop_is_written_to_the_record(bases: Any, tmp_path: Path) -> None:
    folder = forget(bases, tmp_path / "run", forget_loss="grad_ascent", stop_when=0.5)
    record = json.loads((folder / "run.json").read_text())
    assert (
        record["steps"] == 1 and "above stop_when=0.5 at step 1" in record["stopped"] and record["status"] == "finished"
    )


@pytest.mark.parametrize(("changes", "message"), [
    ({"forget_loss": "nopo"}, "unknown forget_loss 'nopo'; did you mean 'npo'"),
    ({"method_args": {"npo": {"betta": 1}}}, "did you mean 'beta'"),
    ({"loss_beta": 0.5, "forget_loss": "idk"}, "loss_beta=0.5 has no meaning for idk"),
    ({"l0_lambda": 0.1}, "l0_lambda=0.1: the number of non-zero weights has no gradient"),
    ({"l1_lambda": 0.1, "l_norm_from": "zero"}, "L1 norm from zero needs full finetuning"),
    ({"forget_loss": "RMU", "method_args": {"RMU": {"layer": 2}}}, "layer=2 is out of range: .*0 to 1"),
    ({"forget_loss": "dpo", "method_args": {"dpo": {"reference_path": "models/none"}}}, "models/none' does not exist"),
    ({"model_path": "models/none"}, "model_path='models/none' does not exist"),
    ({"model_path": ""}, "model_path='' does not exist"),
    ({"save_dir": ""}, "save_dir is empty"),
])  # fmt: skip
def test_bad_input_is_refused_before_data_or_a_model_is_loaded(
    bases: Any, tmp_path: Path, changes: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "load_model", never)
    with pytest.raises(ValueError, match=message):
        forget(bases, tmp_path / "run", sources=never, **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("changes", "pair", "message"), [
    ({"forget_loss": "SKU"}, (ListSource(0, 3), ListSource(0, 3)), "3 random answers are asked for.*only 2 other"),
    ({"forget_loss": "npo", "num_epochs": 0}, (ListSource(0, 3), ListSource(0, 3)),
     "num_epochs=0 leaves no step to train"),
    ({"resume_from_checkpoint": "models/none"}, None, "resume_from_checkpoint=models/none is not a checkpoint folder"),
])  # fmt: skip
def test_bad_input_that_only_the_data_shows(bases: Any, tmp_path: Path, changes: Any, pair: Any, message: str,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(training, "load_model", never)
    with pytest.raises(ValueError, match=message):
        forget(bases, tmp_path / "run", sources=(lambda: pair) if pair else None, **changes)


def test_a_language_model_with_tags_goes_the_same_way(tmp_path: Path) -> None:
    model, tokenizer = tiny_llama()
    model.save_pretrained(tmp_path / "base")
    tokenizer.chat_template = None
    try:
        tokenizer.save_pretrained(tmp_path / "base")
    finally:
        from tests.models import CHATML

        tokenizer.chat_template = CHATML
    family = Family(
        "llama", "x", text_only=True, question_start_tag="[INST] ", question_end_tag=" [/INST]", rmu_layer=0
    )
    settings = ForgetSettings(save_dir=str(tmp_path / "run"), model_path=str(tmp_path / "base"), forget_loss="RMU",
                              LoRA=LoraSettings(r=2), max_steps=2, **{**SMALL, "save_steps": 0})  # fmt: skip
    pair = ListSource(0, 4, "forget"), ListSource(0, 4, "retain", offset=50)
    folder = pipeline.forget(settings, family, lambda: pair, REFUSALS)
    assert distance(load_model(str(folder)), load_model(str(tmp_path / "base"))) > 1e-4
    picture = dataclasses.replace(settings, save_dir=str(tmp_path / "pictures"))
    with pytest.raises(ValueError, match="reads text only"):
        pipeline.forget(picture, family, lambda: (ListSource(4, 0, "f"), ListSource(0, 4, "r")), REFUSALS)
