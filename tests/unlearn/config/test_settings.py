"""Config -> settings: every published key has its meaning, everything else is refused with a way out."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from unlearn.config.settings import EvalSettings, FinetuneSettings, ForgetSettings, read_settings
from unlearn.models.families import ROOT

# The configs of the published system: keys, values and spellings.
PUBLISHED_FINETUNE = """
model_family: qwen-vl2-2b
LoRA: {r: 8, alpha: 32, dropout: 0.0}
data_path: therem/faces_v1
split: full+tofu
batch_size: 4
gradient_accumulation_steps: 2
num_epochs: 3
lr: 1e-5
weight_decay: 0.01
max_length: 2048
seed: 42
freeze_vision_module: true
resume_from_checkpoint: false
save_dir: models/qwen-vl2-2b/ft_full+tofu
"""
PUBLISHED_FORGET = """
model_family: qwen-vl2-2b
model_path: models/qwen-vl2-2b/ft_full+tofu
LoRA: {r: 0, alpha: 32, dropout: 0.0}
lr: 1e-5
weight_decay: 0.01
num_epochs: 5
batch_size: 2
gradient_accumulation_steps: 4
forget_data_path: therem/faces_v1
forget_split: forget10+tofu
retain_data_path: therem/faces_v1
retain_split: retain90+tofu
forget_loss: grad_diff_forget_ce_retain_ce
loss_beta: 1.0
l_norm_from: zero
l1_lambda: 0.0
l0_lambda: 0.0
max_length: 2048
seed: 42
save_dir: models/x
overwrite_dir: true
save_ckpts: false
save_model: true
eval_while_train: false
freeze_vision_module: true
"""
PUBLISHED_EVAL = """
model_path: models/x
processor_path: models/y
model_family: qwen-vl2-2b
save_dir: models/x/eval_results/
eval_task_ids: None
max_length: 4096
generation: {max_new_tokens: 300}
ds_size: 300
overwrite: true
batch_size: 8
save_generated_text: true
reinitialize_weights: false
retain_result: null
"""
CASES = {FinetuneSettings: PUBLISHED_FINETUNE, ForgetSettings: PUBLISHED_FORGET, EvalSettings: PUBLISHED_EVAL}


@pytest.mark.parametrize("cls", list(CASES), ids=lambda cls: cls.__name__)
def test_every_key_of_the_published_configs_is_accepted_and_kept(cls: Any) -> None:
    values = yaml.safe_load(CASES[cls])
    settings = read_settings(cls, values)
    renamed = {"therem/faces_v1": "therem/CLEAR", "None": None, "1e-5": 1e-5}
    for key, value in values.items():
        got = getattr(settings, key)
        if isinstance(value, dict):
            assert all(getattr(got, inner) == expected for inner, expected in value.items()), key
        else:
            assert got == renamed.get(value, value), key
    assert type(settings.batch_size) is int


def test_the_old_name_of_the_dataset_means_the_new_one() -> None:
    assert read_settings(FinetuneSettings, {"data_path": "therem/faces_v1"}).data_path == "therem/CLEAR"
    assert read_settings(ForgetSettings, {"forget_data_path": "therem/faces_v1"}).forget_data_path == "therem/CLEAR"
    assert read_settings(FinetuneSettings, {"data_path": "my/faces_v1"}).data_path == "my/faces_v1"


@pytest.mark.parametrize(("key", "value", "expected"), [
    ("freeze_vision_module", "true", True), ("freeze_vision_module", "False", False),
    ("freeze_vision_module", True, True),
    ("lr", "1e-5", 1e-5), ("lr", 1, 1.0), ("batch_size", 4.0, 4), ("batch_size", "4", 4), ("seed", "42", 42),
    ("max_steps", "None", None), ("max_steps", "null", None), ("max_steps", None, None), ("max_steps", 3, 3),
    ("loss_beta", "0.5", 0.5), ("loss_beta", "None", None), ("report_to", "none", "none"), ("report_to", None, "none"),
    ("report_to", "wandb", "wandb"), ("resume_from_checkpoint", "true", True), ("resume_from_checkpoint", False, False),
    ("resume_from_checkpoint", "models/x/checkpoint-3", "models/x/checkpoint-3"), ("modality", "None", None),
    ("data_revision", "None", None), ("num_epochs", 0.5, 0.5), ("save_steps", 0, 0),
])  # fmt: skip
def test_spellings(key: str, value: Any, expected: Any) -> None:
    got = getattr(read_settings(ForgetSettings, {key: value}), key)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(("key", "value"), [
    ("batch_size", 2.5), ("batch_size", "many"), ("batch_size", True), ("batch_size", None), ("batch_size", [1]),
    ("lr", "fast"), ("lr", float("nan")), ("lr", float("inf")), ("lr", True), ("lr", None),
    ("freeze_vision_module", "yes"),
    ("freeze_vision_module", 1), ("LoRA", 8), ("method_args", "npo"), ("forget_split", ["a"]), ("forget_split", None),
])  # fmt: skip
def test_wrong_types_name_the_key_and_the_value(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{key}=.*is not a .*correct it"):
        read_settings(ForgetSettings, {key: value})


@pytest.mark.parametrize(("values", "message"), [
    ({"forget_los": "npo"}, "Unknown config key 'forget_los'. Did you mean 'forget_loss'?"),
    ({"learning_rate": 1}, "Unknown config key 'learning_rate'"),
    ({"LoRA": {"rank": 8}}, "Unknown config key 'LoRA.rank'. Known keys: alpha, dropout, init_noise, layers, r,"),
    ({"LoRA": {"alhpa": 8}}, "Did you mean 'LoRA.alpha'?"),
    ({"LoRA": {"r": -1}}, "LoRA.r=-1 is too small; it must be at least 0"),
    ({"LoRA": {"targets": "vision"}}, "LoRA.targets='vision' is not one of language, all"),
    ({"batch_size": 0}, "batch_size=0 is too small; it must be at least 1"),
    ({"modality": "audio"}, "modality='audio' is not one of None, text, visual, both"),
    ({"retain_partner": "same"}, "retain_partner='same' is not one of any, same_modality"),
    ({"report_to": "mlflow"}, "report_to='mlflow' is not one of none, wandb, tensorboard"),
    ({"eval_while_train_items": 0}, "eval_while_train_items=0 is too small; it must be at least 1"),
    ({"stop_early": 0}, "stop_early=0 is too small; it must be at least 1"),
    ({"loss_beta": -1}, "loss_beta=-1.0 is too small"),
])  # fmt: skip
def test_what_is_refused_says_what_to_do(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        read_settings(ForgetSettings, values)
    assert message in str(error.value)


def test_a_preset_may_carry_the_other_scripts_keys() -> None:
    preset = {
        "by_script": {"forget": {}},
        "split": "full",
        "data_path": "x",
        "generation": {"max_new_tokens": 3},
        "lr": 1,
    }
    assert read_settings(ForgetSettings, preset).lr == 1.0
    with pytest.raises(ValueError, match="Unknown config key 'generations'"):
        read_settings(ForgetSettings, {**preset, "generations": {}})


# ---- the files of config/mm ---------------------------------------------------------------------------------------


def compose(script: str, *overrides: str) -> dict[str, Any]:
    """The composed config of an entry script, as `hydra.main` would hand it over."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    with initialize_config_dir(str(ROOT / "config"), version_base=None, job_name=script):
        config = hydra_compose(f"mm/{script}", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def settings_of(script: str, *overrides: str) -> Any:
    cls = {"finetune": FinetuneSettings, "forget": ForgetSettings}[script]
    return read_settings(cls, compose(script, *overrides))


def test_the_defaults_are_the_embedded_benchmark_and_hold_every_setting() -> None:
    import dataclasses

    for script, cls in (("finetune", FinetuneSettings), ("forget", ForgetSettings)):
        settings = settings_of(script)
        assert settings.model_family == "llava-mini" and "mini" in (
            compose(script).get("data_path") or settings.forget_data_path
        )
        missing = {field.name for field in dataclasses.fields(cls)} - set(compose(script))
        assert not missing, f"config/mm/{script}.yaml leaves out {missing}"
    forget = settings_of("forget", "forget_loss=npo", "method_args.npo.beta=0.3")
    assert forget.save_dir == "models/llava-mini/ft_full+tofu/npo_forget10+tofu_L1_0.0_fromzero"
    assert forget.method_args["npo"]["beta"] == 0.3 and forget.model_path == "models/llava-mini/ft_full+tofu"


def test_every_method_builds_with_the_options_of_its_yaml() -> None:
    from unlearn.registry import build_method, method_names, options_of

    args = settings_of("forget").method_args
    assert {name.lower() for name in args} == {name.lower() for name in method_names()}
    for name in method_names():
        assert build_method(name, options_of(name, args)) == build_method(name)


@pytest.mark.parametrize(("preset", "family", "rank"), [("llava", "llava", 8), ("qwen2vl", "qwen-vl2-2b", 0)])
def test_presets_are_the_papers_appendices(preset: str, family: str, rank: int) -> None:
    base = settings_of("finetune", f"+experiment={preset}")
    assert (base.num_epochs, base.batch_size, base.global_batch_size, base.accumulation(1)) == (3, 12, 12, 1)
    assert (base.data_path, base.split, base.model_path) == ("therem/CLEAR", "full+tofu", None)
    forget = settings_of("forget", f"+experiment={preset}")
    assert (forget.num_epochs, forget.batch_size, forget.global_batch_size) == (5, 1, 2)
    assert (forget.accumulation(1), forget.accumulation(2)) == (2, 1)
    assert (forget.forget_data_path, forget.retain_data_path) == ("therem/CLEAR", "therem/CLEAR")
    assert (forget.forget_split, forget.retain_split) == ("forget10+tofu", "retain90+tofu")
    assert forget.model_path == base.save_dir == f"models/{family}/ft_full+tofu"
    for run in (base, forget):
        assert (run.model_family, run.lr, run.weight_decay) == (family, 1e-5, 0.01)
        assert (run.LoRA.r, run.LoRA.alpha, run.LoRA.dropout, run.LoRA.targets) == (rank, 32, 0.0, "language")
        assert run.freeze_vision_module and run.optim == "adamw_torch" and run.LoRA.init_noise == 0
    gold = settings_of("finetune", f"+experiment={preset}", "split=retain90+tofu")
    assert (gold.split, gold.save_dir) == ("retain90+tofu", f"models/{family}/ft_retain90+tofu")


@pytest.mark.parametrize("preset", ["llava", "qwen2vl"])
@pytest.mark.parametrize("script", ["finetune", "forget"])
def test_presets_say_what_the_appendices_leave_open(preset: str, script: str) -> None:
    """They do not inherit it from the demo's configs, which may change."""
    text = (ROOT / "config" / "mm" / "experiment" / f"{preset}.yaml").read_text(encoding="utf-8")
    for key in ("lr_scheduler", "warmup_epochs", "max_grad_norm", "weight_decay"):
        assert f"\n{key}: " in text
    run = settings_of(script, f"+experiment={preset}")
    assert (run.lr_scheduler, run.warmup_epochs, run.max_grad_norm, run.weight_decay) == ("linear", 1.0, 1.0, 0.01)


@pytest.mark.parametrize(("total", "size", "processes", "accumulation"), [
    (12, 12, 1, 1), (12, 3, 1, 4), (12, 3, 2, 2), (12, 3, 4, 1), (2, 1, 1, 2), (2, 1, 2, 1), (None, 3, 4, 5),
])  # fmt: skip
def test_accumulation_follows_from_the_global_batch(
    total: int | None, size: int, processes: int, accumulation: int
) -> None:
    settings = ForgetSettings(
        global_batch_size=total, batch_size=size, gradient_accumulation_steps=5 if total is None else 1
    )
    assert settings.accumulation(processes) == accumulation
    assert total is None or size * processes * accumulation == total


@pytest.mark.parametrize(("total", "size", "processes", "ways"), [
    (12, 12, 8, "Take 1 process(es) with batch_size=12; or global_batch_size=96 or 192."),  # the presets on eight GPUs
    (12, 12, 4, "Take batch_size=1 or 3 on 4; or 1 process(es) with batch_size=12; or global_batch_size=48 or 96."),
    (2, 1, 8, "Take 1 or 2 process(es) with batch_size=1; or global_batch_size=8 or 16."),
    (20, 3, 2, "Take batch_size=1 or 2 or 5 or 10 on 2; or global_batch_size=18 or 24."),
])  # fmt: skip
def test_a_global_batch_that_cannot_be_met_names_what_can(total: int, size: int, processes: int, ways: str) -> None:
    with pytest.raises(ValueError, match=f"global_batch_size={total} cannot be met: .*{re.escape(ways)}"):
        ForgetSettings(global_batch_size=total, batch_size=size).accumulation(processes)


@pytest.mark.parametrize("preset", ["llava", "qwen2vl"])
def test_presets_serve_evaluation_too(preset: str) -> None:
    from mm.tasks import eval_settings

    settings = eval_settings(compose("eval", f"+experiment={preset}"))
    assert (settings.generation.max_new_tokens, settings.batch_size, settings.max_length) == (300, "auto", 4096)
    assert settings.model_path.endswith("ft_full+tofu")


def test_a_real_script_composes_a_preset_without_a_model_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "mm" / "forget.py"), "--cfg", "job", "--resolve", "+experiment=llava"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert (config["batch_size"], config["global_batch_size"], config["num_epochs"]) == (1, 2, 5)
    assert not list(tmp_path.iterdir())
