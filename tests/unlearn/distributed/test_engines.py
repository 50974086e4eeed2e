"""The launch files start what they are named after, and a launch that would become another one is refused."""

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from unlearn import ROOT
from unlearn.distributed.engines import check_engine, check_launch, check_needs, wanted_engine

FILES = {"cpu": None, "ddp": None, "fsdp2": "FSDP2", "zero2": "ZeRO-2", "zero3": "ZeRO-3"}


def parsed(*words: str) -> Namespace:
    return _validate_launch_command(
        launch_command_parser().parse_args([*words, "--main_process_port", "0", "mm/forget.py"])
    )[0]


def environment_of(file: str) -> dict[str, str]:
    """What accelerate would start the script with."""
    args = parsed("--config_file", str(ROOT / "config" / "accelerate" / f"{file}.yaml"))
    args.deepspeed_fields_from_accelerate_config = ""
    environment = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    assert args.multi_gpu or args.use_fsdp or args.use_deepspeed, "one process only"
    assert args.num_processes == (2 if file == "cpu" else 8)
    return environment


@pytest.mark.parametrize("file", FILES)
def test_each_launch_file_asks_for_its_engine_and_leaves_the_precision_to_the_run(file: str) -> None:
    environment = environment_of(file)
    assert wanted_engine(environment) == FILES[file] and environment["ACCELERATE_MIXED_PRECISION"] == "no"
    check_launch(environment, gpu=True)
    if FILES[file] is None:
        check_launch(environment, gpu=False)
    else:
        with pytest.raises(ValueError, match=f"asks for {FILES[file]}, but torch sees no GPU.*cpu.yaml"):
            check_launch(environment, gpu=False)


def test_the_list_is_that_of_the_folder() -> None:
    assert {path.stem for path in (ROOT / "config" / "accelerate").glob("*.yaml")} == set(FILES)


def test_zero_leaves_accumulation_and_clipping_to_the_run() -> None:
    for file in ("zero2", "zero3"):
        environment = environment_of(file)
        assert (
            environment["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"]
            == environment["ACCELERATE_GRADIENT_CLIPPING"]
            == "auto"
        )


def test_several_processes_on_a_cpu_of_which_one_starts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="starts only one.*cpu.yaml"):
        check_launch(prepare_simple_launcher_cmd_env(parsed("--cpu", "--num_processes", "2"))[1], gpu=False)
    check_launch(prepare_simple_launcher_cmd_env(parsed("--cpu", "--num_processes", "1"))[1], gpu=False)


def accelerator(kind: str, processes: int, version: int = 2) -> SimpleNamespace:
    plugin = SimpleNamespace(fsdp_version=version, zero_stage=version)
    return SimpleNamespace(
        distributed_type=SimpleNamespace(value=kind), num_processes=processes, is_main_process=True,
        device=SimpleNamespace(type="cuda"), state=SimpleNamespace(fsdp_plugin=plugin, deepspeed_plugin=plugin),
    )  # fmt: skip


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "WORLD_SIZE": "2"}
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3", "WORLD_SIZE": "2"}


@pytest.mark.parametrize(("got", "environment", "engine"), [
    (accelerator("NO", 1), {}, "one process"),
    (accelerator("MULTI_CPU", 2), {"WORLD_SIZE": "2"}, "DDP"),
    (accelerator("FSDP", 2), FSDP, "FSDP2"),
    (accelerator("DEEPSPEED", 2, 3), ZERO, "ZeRO-3"),
])  # fmt: skip
def test_a_run_knows_its_engine(got, environment, engine, caplog) -> None:
    with caplog.at_level("INFO"):
        assert check_engine(got, environment) == engine
    assert f"engine: {engine}{', 2 processes' * (engine != 'one process')} on cuda" in caplog.text


@pytest.mark.parametrize(("got", "environment", "message"), [
    (accelerator("MULTI_GPU", 2), FSDP, "asks for FSDP2, but accelerate set up DDP"),
    (accelerator("DEEPSPEED", 2, 2), ZERO, "asks for ZeRO-3, but accelerate set up ZeRO-2"),
    (accelerator("NO", 1), {"WORLD_SIZE": "2"}, "started 2 processes, but 1 take part"),
])  # fmt: skip
def test_a_run_that_got_another_engine_stops(got, environment, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_engine(got, environment)


def test_what_needs_whole_weights_is_refused_where_they_lie_in_parts() -> None:
    with pytest.raises(ValueError, match="l1_lambda.*FSDP2"):
        check_needs("FSDP2", penalty=True, grad_norms=False)
    with pytest.raises(ValueError, match="log_grad_norms.*ZeRO-2"):
        check_needs("ZeRO-2", penalty=True, grad_norms=True)
    with pytest.raises(ValueError, match="SKU.*ZeRO-3.*fsdp2.yaml"):
        check_needs("ZeRO-3", penalty=False, grad_norms=False, start_weights=True)
    with pytest.raises(ValueError, match="quantised base.*ZeRO-2.*quantization=null"):
        check_needs("ZeRO-2", penalty=False, grad_norms=False, quantized=True)
    with pytest.raises(
        ValueError, match=r"gradients of the forget and the retain side apart, and ZeRO-2 .* fsdp2.yaml"
    ):
        check_needs("ZeRO-2", sided=True)
    with pytest.raises(ValueError, match="edits weights as a whole, and FSDP2 cuts them up"):
        check_needs("FSDP2", edits=True)
    check_needs("FSDP2", sided=True)
    check_needs("", sided=True, edits=True)
    check_needs("FSDP2", penalty=False, grad_norms=False, start_weights=True)
    check_needs("ZeRO-2", penalty=True, grad_norms=False)
    check_needs("DDP", penalty=True, grad_norms=True)
    check_launch(
        {"ACCELERATE_USE_CPU": "False", "MASTER_PORT": "1", "MASTER_ADDR": "node1"}, gpu=True
    )  # a batch script's own
    with pytest.raises(ValueError, match="FSDP1; set fsdp_version: 2"):
        check_launch({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, gpu=True)


def test_the_table_of_memory_is_worked_out_as_by_hand() -> None:
    import importlib.util

    file = Path(ROOT) / "benchmarks" / "memory_model.py"
    spec = importlib.util.spec_from_file_location("memory_model", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["memory_model"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    small = module.Shape("small", layers=2, width=8, mlp=16, keys=4, vocabulary=100, vision=50)
    # a block: 2 * 64 + 2 * 32 + 3 * 128 = 576; all: 2 * 576 + 2 * 800 + 50 = 2802
    assert small.block == 576 and small.parameters == 2802
    # rank 1: q, o 16 each; k, v 12 each; the MLP's three 24 each: 128 a block
    assert small.adapter(1) == 256
    assert module.states(small, "DDP", "LoRA", 4, rank=1) == 2 * 2802 + 256 * 22
    assert module.states(small, "FSDP2 / ZeRO-3", "full", 4) == 2802 * (4 + 4 + 8) / 4 + 4 * 2802 / 4
    assert module.states(small, "ZeRO-2", "full", 2, teacher=False) == 2802 * (2 + 14 / 2)
    # rows 3, tokens 10, answer 2: inputs 2 * 3 * 10 * 8 * 2; inside 3 * 10 * (80 + 64) * 2; logits 3 * 2 * 100 * 10
    assert module.passing(small, "DDP", "LoRA", rows=3, tokens=10, answer=2) == 960 + 8640 + 6000
    llava = module.SHAPES[1]
    assert llava.parameters == pytest.approx(7.06e9, rel=0.01) and module.SHAPES[4].parameters == pytest.approx(
        73.4e9, rel=0.01
    )


def test_zero_with_a_sided_method_is_refused_before_a_model_is_looked_up(monkeypatch) -> None:
    from unlearn.config.settings import ForgetSettings
    from unlearn.training.choose import choose_method

    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    args = {"npo": {"retain_weight": 1.0}}
    choose_method(ForgetSettings(forget_loss="npo", method_args=args))
    with pytest.raises(ValueError, match="the forget and the retain side apart, and ZeRO-3"):
        choose_method(ForgetSettings(forget_loss="npo", wrap=["project"], method_args=args))
