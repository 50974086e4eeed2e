"""The flat keys of the published text track and this project's files mean the same; presets are Appendix F."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from nlp.tasks import eval_settings
from nlp.tofu import forget_keys, retain_split, rows_per_author
from tests.nlp.published import EVAL, FINETUNE, FORGET
from unlearn.config.settings import FinetuneSettings, ForgetSettings, read_settings
from unlearn.models.families import ROOT, load_family
from unlearn.registry import build_method, method_names, options_of

READ = {
    "finetune": lambda config: read_settings(FinetuneSettings, config),
    "forget": lambda config: read_settings(ForgetSettings, forget_keys(config)),
    "eval": eval_settings,
}


def composed(script: str, *overrides: str, folder: Path = ROOT / "config", name: str | None = None) -> dict[str, Any]:
    """The config a script would see, as a plain dict."""
    with initialize_config_dir(str(folder), version_base=None):
        config = compose(name or f"nlp/{script}", [*overrides, f"hydra.job.name={script}"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return OmegaConf.to_container(config, resolve=True)


def published(tmp_path: Path, script: str, config: dict[str, Any]) -> Any:
    """Settings from a published file alone, as `--config-path` would use it."""
    (tmp_path / f"{script}.yaml").write_text(yaml.safe_dump(config))
    return READ[script](composed(script, folder=tmp_path, name=script))


def test_published_finetune_file(tmp_path):
    settings = published(tmp_path, "finetune", FINETUNE)
    assert (settings.batch_size, settings.num_epochs, settings.lr, settings.data_path) == (
        128,
        5,
        1e-5,
        "locuslab/TOFU",
    )
    assert settings.save_dir == "models/llama2-7b/ft_full_epoch5_lr1e-05__wd0.01_lora"
    assert (settings.LoRA.r, settings.LoRA.alpha, settings.LoRA.dropout) == (8, 32, 0.0)


def test_published_forget_file(tmp_path):
    settings = published(tmp_path, "forget", FORGET)
    assert (settings.forget_split, settings.retain_split) == ("forget10", "retain90")
    assert settings.forget_data_path == settings.retain_data_path == "locuslab/TOFU"
    assert (settings.batch_size, settings.gradient_accumulation_steps, settings.loss_beta) == (4, 2, 1.0)
    assert settings.forget_loss == "RMU" and settings.l_norm_from == "init" and settings.modality == "text"
    assert settings.save_dir.endswith("/RMU_beta1.0_lr1e-05_5_L10.0_L00.0")


def test_published_evaluation_file_equals_the_defaults(tmp_path):
    theirs = published(tmp_path, "eval", EVAL)
    ours = READ["eval"](composed("eval", "data_path=locuslab/TOFU"))
    assert theirs.tasks == ours.tasks and len(theirs.tasks) == 4
    assert (theirs.ds_size, theirs.batch_size, theirs.max_length, theirs.generation.max_new_tokens) == (
        300,
        32,
        1024,
        200,
    )


@pytest.mark.parametrize(("script", "config"), [("finetune", FINETUNE), ("forget", FORGET), ("eval", EVAL)])
def test_every_published_key_is_a_key_of_ours(script, config):
    ours = composed(script)
    assert set(config) <= set(ours) and set(config.get("generation", {})) <= set(ours.get("generation", {}))
    READ[script]({**ours, **OmegaConf.to_container(OmegaConf.create(config), resolve=True)})


@pytest.mark.parametrize("script", list(READ))
def test_a_misspelt_key_is_named(script):
    with pytest.raises(ValueError, match="batchsize.*batch_size"):
        READ[script]({**composed(script), "batchsize": 4})


@pytest.mark.parametrize(("change", "message"), [
    ({"use_pretrained": True}, "hub id"),
    ({"generation": {"max_length": 500, "max_new_tokens": 200}}, "generation.max_length=500.*never cut"),
    ({"question_key": ["question"] * 3}, "question_key has 3"),
    ({"answer_key": None}, "need answer_key"),
    ({"tasks": [{"eval_task": "eval_log"}]}, "Both tasks and"),
    ({"reinitialize_weights": True}, "no effect"),
])  # fmt: skip
def test_bad_evaluation_files(change, message):
    config = OmegaConf.to_container(OmegaConf.create(copy.deepcopy(EVAL)), resolve=True)
    with pytest.raises(ValueError, match=message):
        eval_settings({**config, **change})


def test_tasks_as_mappings():
    task = {
        "eval_task": "mine",
        "split": "world_facts",
        "base_answer": "answer",
        "wrong_answers": ["option1", "option2"],
    }
    (read,) = eval_settings({"tasks": [task], "data_path": "here"}).tasks
    assert read == {**task, "data_path": "here", "question": "question", "answer": "answer", "rows_per_author": None}
    with pytest.raises(ValueError, match="'splits'.*'split'"):
        eval_settings({"tasks": [{**task, "splits": "x"}]})
    with pytest.raises(ValueError, match="mine lacks base_answer"):
        eval_settings({"tasks": [{**task, "base_answer": None}]})


@pytest.mark.parametrize(
    ("split", "retain"), [("forget10", "retain90"), ("forget05", "retain95"), ("forget01", "retain99")]
)
def test_retain_split_follows(split, retain):
    assert retain_split(split) == retain
    assert forget_keys({**FORGET, "split": split})["retain_split"] == retain


def test_retain_split_can_be_named():
    assert forget_keys({**FORGET, "split": "mine", "retain_split": "rest"})["retain_split"] == "rest"
    with pytest.raises(ValueError, match="'full' is not a forget split"):
        forget_keys({**FORGET, "split": "full"})


@pytest.mark.parametrize(("preset", "family"), [("llama2", "llama2-7b"), ("mistral", "mistral")])
def test_presets_are_appendix_f(preset, family):
    for script in ("finetune", "forget"):
        settings = READ[script](composed(script, f"+experiment={preset}"))
        lora = settings.LoRA
        assert (settings.model_family, settings.num_epochs, settings.lr, settings.weight_decay) == (
            family,
            5,
            1e-5,
            0.01,
        )
        assert (settings.batch_size, settings.global_batch_size, settings.accumulation(1)) == (4, 4, 1)
        assert (lora.r, lora.alpha, lora.dropout) == (8, 32, 0.0)
    assert settings.forget_data_path == settings.retain_data_path == "locuslab/TOFU"
    assert settings.model_path == f"models/{family}/ft_full"
    evaluation = READ["eval"](composed("eval", f"+experiment={preset}"))
    assert {task["data_path"] for task in evaluation.tasks} == {"locuslab/TOFU"}
    assert [rows_per_author(task["data_path"], task["split"]) for task in evaluation.tasks] == [20, None, None, 20]
    assert evaluation.generation.max_new_tokens == 200


def test_every_method_and_family_is_within_reach():
    options = composed("forget")["method_args"]
    for name in method_names():
        build_method(name, options_of(name, options))
    for name in ("llama2-7b", "mistral", "phi", "stablelm", "pythia-1.4", "llama3.2-1b", "qwen2.5-1.5b", "llama-mini"):
        family = load_family(name)
        assert family.text_only and family.hf_key
    assert load_family("mistral").tags == ("[INST] ", " [/INST]", "")
    assert load_family("phi").tags == ("Question: ", "\n", "Answer: ")
