"""A full disk, a checkpoint copied in part, an adapter of another model, a second run in the folder: told, and
nothing lost."""

import contextlib
import copy
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny_llava, tiny_qwen2vl
from tests.training import make_trainer, trained_weights
from unlearn.atomic import whole_folder, write_json
from unlearn.config.settings import FinetuneSettings, ForgetSettings, LoraSettings
from unlearn.contents import Digests
from unlearn.distributed.signals import Stop
from unlearn.models.loading import load_model, load_weights
from unlearn.models.lora import prepare_trainable
from unlearn.models.start import Start
from unlearn.registry import build_method
from unlearn.runs import checkpoints
from unlearn.runs.checkpoints import fault, newest_usable, seal
from unlearn.runs.locks import NAME, hold
from unlearn.runs.record import check_start, start_run
from unlearn.training.build import resume_point, train


@contextlib.contextmanager
def full_disk(left: int) -> Iterator[None]:
    """No file can grow beyond `left` bytes: the kernel refuses the write to Python, torch and safetensors alike."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "log.json", ["old"])
    with (
        full_disk(1000),
        pytest.raises(OSError, match=r"log\.json could not be written .*make room.*same command again"),
    ):
        write_json(tmp_path / "log.json", ["x" * 5000])
    assert json.loads((tmp_path / "log.json").read_text()) == ["old"] and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("left", "lora"), [(3000, 2), (20_000, 0)])
def test_a_full_disk_costs_the_steps_since_the_last_checkpoint(tmp_path: Path, left: int, lora: int) -> None:
    """In the adapter's safetensors or the whole model's; Python and torch meet the same kernel."""
    options: dict[str, Any] = {"save_steps": 1, "lora": lora, "num_epochs": 2}
    whole = make_trainer(tmp_path / "whole", build_method("npo"), **options)
    whole.train()
    folder = tmp_path / "full"
    make_trainer(folder, build_method("npo"), **{**options, "steps": 1}).train()
    trainer = make_trainer(folder, build_method("npo"), **options)
    said = r"checkpoint-2 could not be written to .*full.*Make room.*training will go on from checkpoint-1\."
    with full_disk(left), pytest.raises(OSError, match=said):
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-1"))
    assert [path.name for path in folder.iterdir()] == ["checkpoint-1"]
    again = make_trainer(folder, build_method("npo"), **options)
    train(again, ForgetSettings(save_dir=str(folder)), Stop())
    expected = trained_weights(whole)
    assert whole.state.global_step == again.state.global_step
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained_weights(again).items())


def test_a_model_that_does_not_fit_on_the_disk_takes_no_room(tmp_path: Path) -> None:
    with full_disk(1000), pytest.raises(OSError), whole_folder(tmp_path / "model") as staging:
        (staging / "weights").write_bytes(b"x" * 5000)
    assert not list(tmp_path.iterdir())


# ---- checkpoints that are not whole ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints at steps 1 and 2."""
    folder = tmp_path_factory.mktemp("saved")
    make_trainer(folder, build_method("npo"), save_steps=1, steps=2, save_ckpts=True).train()
    return folder


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def remove(file: Path) -> None:
    file.unlink()


def spoil(file: Path) -> None:
    file.write_bytes(b"{" + file.read_bytes()[1:-1] + b",")


DAMAGE = [
    (cut, "adapter_model.safetensors", r"adapter_model\.safetensors has \d+ of \d+ bytes"),
    (remove, "optimizer.pt", "optimizer.pt is missing"), (cut, "optimizer.pt", r"optimizer\.pt has \d+ of"),
    (remove, "scheduler.pt", "scheduler.pt is missing"), (remove, "rng_state.pth", "rng_state.pth is missing"),
    (spoil, "trainer_state.json", "trainer_state.json is no JSON"), (remove, checkpoints.SEAL, "files.json is missing"),
    (cut, checkpoints.SEAL, "files.json is no JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "name", "words"), DAMAGE, ids=[f"{d.__name__} {name}" for d, name, _ in DAMAGE])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    saved: Path, tmp_path: Path, damage: Any, name: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    for step in (1, 2):
        shutil.copytree(saved / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    settings = ForgetSettings(save_dir=str(tmp_path))
    assert resume_point(settings) == tmp_path / "checkpoint-2"
    damage(tmp_path / "checkpoint-2" / name)
    assert resume_point(settings) == tmp_path / "checkpoint-1"
    assert "checkpoint-2 is damaged" in caplog.text and "going on from checkpoint-1" in caplog.text
    with pytest.raises(ValueError, match=rf"checkpoint-2 is damaged: {words}"):
        resume_point(ForgetSettings(save_dir=str(tmp_path), resume_from_checkpoint=str(tmp_path / "checkpoint-2")))
    damage(tmp_path / "checkpoint-1" / name)
    with pytest.raises(
        ValueError, match=rf"(?s)checkpoint-2 is damaged: {words}.*checkpoint-1.*resume_from_checkpoint=false"
    ):
        resume_point(settings)
    assert resume_point(ForgetSettings(save_dir=str(tmp_path), resume_from_checkpoint=False)) is None


@pytest.mark.parametrize("spelling", [True, "auto"])
def test_resuming_is_automatic_and_can_be_said_so(saved: Path, spelling: Any) -> None:
    assert resume_point(ForgetSettings(save_dir=str(saved), resume_from_checkpoint=spelling)) == saved / "checkpoint-2"
    assert ForgetSettings().resume_from_checkpoint == "auto"


def test_a_seal_knows_files_in_folders_too(tmp_path: Path) -> None:
    (tmp_path / "global_step2").mkdir()
    for name in ("trainer_state.json", "global_step2/shard"):
        (tmp_path / name).write_text("{}")
    seal(tmp_path, 4)
    assert fault(tmp_path, 4) is None
    (tmp_path / "global_step2" / "shard").write_text("")
    assert fault(tmp_path, 4) == "is damaged: global_step2/shard has 0 of 2 bytes" and newest_usable(tmp_path) is None


# ---- adapters -------------------------------------------------------------------------------------------------------


def adapter(folder: Path, base: Path, r: int = 2, tiny: Any = tiny_llava) -> Path:
    """A model under `base` and an adapter of it under `folder`."""
    model, _ = tiny()
    model.save_pretrained(base)
    prepared = prepare_trainable(copy.deepcopy(model), LoraSettings(r=r), freeze_vision=True)
    prepared.peft_config["default"].base_model_name_or_path = str(base)
    prepared.save_pretrained(folder)
    return folder


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_an_adapter_of_another_model_says_which(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", tmp_path / "base")
    load_model(str(folder))
    tiny_qwen2vl()[0].save_pretrained(tmp_path / "other")
    edit(folder / "adapter_config.json", base_model_name_or_path=str(tmp_path / "other"))
    said = rf"adapter {folder} does not fit the model it names, {tmp_path / 'other'} \(trained on a Llava"
    with pytest.raises(ValueError, match=said):
        load_model(str(folder))
    edit(folder / "adapter_config.json", base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(ValueError, match="is an adapter of a model that is missing.*gone"):
        load_model(str(folder))


def test_an_adapter_of_other_sizes_names_the_first_tensor(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", tmp_path / "base")
    edit(folder / "adapter_config.json", r=4)
    with pytest.raises(ValueError, match=r"does not fit the model it names.*size mismatch for .*lora_A"):
        load_model(str(folder))


def test_an_adapter_in_part_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = adapter(tmp_path / "adapter", tmp_path / "base")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, file)
    with pytest.raises(ValueError, match="does not fit the model it names.*missing adapter keys"):
        load_model(str(folder))
    cut(file)
    with pytest.raises(ValueError, match=f"adapter {folder} cannot be read"):
        load_model(str(folder))


def test_an_adapter_with_the_names_of_an_older_library_is_loaded_right_or_refused(tmp_path: Path) -> None:
    """Before transformers 4.52 a LLaVA's layers were `language_model.model.layers`; PEFT skips names that it lacks."""
    from safetensors.torch import load_file, save_file

    folder = adapter(tmp_path / "adapter", tmp_path / "base")
    file = folder / "adapter_model.safetensors"
    tensors = {name: torch.randn_like(tensor) for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    today = dict(load_model(str(folder)).named_parameters())
    new, old = "base_model.model.model.language_model.", "base_model.model.language_model.model."
    assert all(name.startswith(new) for name in tensors)
    save_file({name.replace(new, old): tensor for name, tensor in tensors.items()}, file)
    assert all(torch.equal(p, today[name]) for name, p in load_model(str(folder)).named_parameters())
    save_file({**tensors, min(tensors).replace(".layers.0.", ".layers.9."): tensors[min(tensors)].clone()}, file)
    with pytest.raises(ValueError, match=r"does not fit the model it names.*layers\.9\..*is no layer of that model"):
        load_model(str(folder))
    save_file({name: tensor * torch.inf for name, tensor in tensors.items()}, file)
    with pytest.raises(ValueError, match=f"{folder} holds NaN or infinity"):
        load_model(str(folder))


def test_adapters_of_one_another_end(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        edited = json.dumps({"base_model_name_or_path": str(tmp_path / base)})
        (tmp_path / name / "adapter_config.json").write_text(edited)
    with pytest.raises(ValueError, match=f"b is an adapter of {tmp_path / 'a'}, which is an adapter of it"):
        Start.of(str(tmp_path / "a"))


def test_a_face_model_of_nan_is_no_model(tmp_path: Path) -> None:
    """It answers nothing, and would be scored as perfect forgetting."""
    from safetensors.torch import save_file

    from cv.network.weights import load_weights

    file = tmp_path / "000.safetensors"
    save_file({"w": torch.tensor([1.0, torch.nan])}, file, {"architecture": "resnet-mini", "made_by": "x"})
    with pytest.raises(ValueError, match="000.safetensors: w holds NaN or infinity; train this model again"):
        load_weights(file)


def test_a_model_that_was_copied_in_part_is_named(tmp_path: Path) -> None:
    tiny_llava()[0].save_pretrained(tmp_path)
    cut(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"weights in {tmp_path}/model.safetensors cannot be read"):
        load_model(str(tmp_path))


def test_a_checkpoint_of_another_model_or_adapter_is_refused(tmp_path: Path, saved: Path) -> None:
    def model(r: int, targets: str = "language") -> Any:
        return prepare_trainable(copy.deepcopy(tiny_llava()[0]), LoraSettings(r=r, targets=targets), freeze_vision=True)

    with pytest.raises(ValueError, match=r"weights in .*checkpoint-2 do not fit this run's model.*size mismatch"):
        load_weights(model(4), saved / "checkpoint-2")
    with pytest.raises(ValueError, match="of different layers, e.g. .*lora_.*LoRA.targets"):
        load_weights(model(2, "all"), saved / "checkpoint-2")
    with pytest.raises(ValueError, match="do not fit this run's model"):
        load_weights(model(0), saved / "checkpoint-2")
    named = adapter(tmp_path / "adapter", tmp_path / "base")
    other = model(2)
    other.peft_config["default"].base_model_name_or_path = str(tmp_path / "mine")
    with pytest.raises(
        ValueError, match=rf"adapter of {tmp_path / 'base'}, but this run starts from {tmp_path / 'mine'}"
    ):
        load_weights(other, named)


def test_an_adapter_whose_base_was_made_anew_is_refused(tmp_path: Path) -> None:
    base = FinetuneSettings(save_dir=str(tmp_path / "base"))
    start_run(base, kind="finetune", overwrite=False, main=True).finish()
    chosen = ForgetSettings(save_dir=str(tmp_path / "run"), model_path=str(tmp_path / "base"))
    start_run(chosen, kind="forget", overwrite=False, main=True).finish()
    folder = adapter(tmp_path / "run", tmp_path / "base")
    start = Start.of(str(folder))
    check_start(start, Digests())
    start_run(
        FinetuneSettings(save_dir=str(tmp_path / "base"), seed=1), kind="finetune", overwrite=True, main=True
    ).finish()
    with pytest.raises(
        ValueError, match=f"{folder} is an adapter of {tmp_path / 'base'} as run .* has replaced that model"
    ):
        check_start(start, Digests())


# ---- one run at a time ----------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from unlearn.runs.locks import hold
lock = hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_run_in_a_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    chosen = ForgetSettings(save_dir=str(tmp_path / "run"), model_path="x")
    other = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "run"], stdin=-1, stdout=-1, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        for overwrite in (False, True):
            with pytest.raises(ValueError, match=rf"save_dir=.*run is in use by another run \(process {other.pid} on "):
                start_run(chosen, kind="forget", overwrite=overwrite, main=True)
        assert [path.name for path in (tmp_path / "run").iterdir()] == [NAME]
        start_run(chosen, kind="forget", overwrite=False, main=False)  # another rank of the same run asks for no lock
    finally:
        other.kill()
        other.wait()
    assert (tmp_path / "run" / NAME).exists()  # what a killed run leaves behind locks nobody out
    run = start_run(chosen, kind="forget", overwrite=False, main=True)
    run.finish()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_run_that_failed_may_be_tried_again_in_the_same_process(tmp_path: Path) -> None:
    first = hold(tmp_path)
    assert hold(tmp_path / "x" / "..") is first
    first.release()
    assert not (tmp_path / NAME).exists() and hold(tmp_path) is not first


def test_where_locks_do_not_exist_a_run_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import errno
    import fcntl

    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    hold(tmp_path).release()
    assert "has no locks" in caplog.text
