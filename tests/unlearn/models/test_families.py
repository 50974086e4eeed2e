"""Model families by name, and models by folder, adapter or hub id."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hub_cache import add_to_hub, fake_hub
from tests.models import tiny_llama, tiny_llava, tiny_qwen2vl, tiny_qwen25vl
from unlearn import ROOT
from unlearn.config.settings import LoraSettings
from unlearn.models.families import decoder_layers, language_model_path, load_family
from unlearn.models.loading import choose_attention, load_model
from unlearn.models.lora import prepare_trainable
from unlearn.models.start import Start, adapter_base, is_adapter, resolve_path
from unlearn.models.vision import vision_modules

IDS = torch.tensor([[7, 30, 41, 9]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_the_published_families_are_there() -> None:
    hubs = {"llava": "llava-hf/llava-1.5-7b-hf", "qwen-vl2-2b": "Qwen/Qwen2-VL-2B-Instruct",
            "qwen-vl-3b": "Qwen/Qwen2.5-VL-3B-Instruct"}  # fmt: skip
    for name, hub in hubs.items():
        family = load_family(name)
        assert (family.name, family.hf_key, family.text_only, family.tags) == (name, hub, False, None)


def test_an_unknown_family_names_the_nearest_and_the_list() -> None:
    with pytest.raises(ValueError, match=r"Unknown model_family 'lava'. Did you mean 'llava'\? .*qwen-vl2-2b"):
        load_family("lava")


def test_a_hub_id_or_a_folder_is_a_family_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OpenGVLab/InternVL3-1B-hf", "OpenGVLab/InternVL3-1B-hf@main"):
        family = load_family(name)
        assert (family.name, family.hf_key, family.text_only, family.tags) == (name, name, False, None)
    assert load_family("minibench/weights/llama-mini").text_only
    assert not load_family("minibench/weights/qwen2vl-mini").text_only
    assert load_family("llava-mini").rmu_layer == 1  # an entry comes before a folder of its name
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "minibench" / "weights" / "llama-mini", tmp_path / "llava-mini")
    assert load_family("llava-mini").rmu_layer == 1 and load_family(str(tmp_path / "llava-mini")).text_only
    for name in ("models/nothing/here", "./nothing", "", "nothing"):
        with pytest.raises(ValueError, match="Unknown model_family.*A hub id .* folder of a model works too"):
            load_family(name)
    fake_hub(monkeypatch, tmp_path / "cache")
    add_to_hub(tmp_path / "cache", "someone/text", tmp_path / "llava-mini")
    assert load_family("someone/text").text_only and not load_family("someone/unknown").text_only


def test_an_entry_is_checked_like_any_setting(tmp_path: Path) -> None:
    file = tmp_path / "families.yaml"
    file.write_text("a: {hf_key: x/y, rmu_layers: 3}\nb: {hf_key: x/y, question_start_tag: 'Q: ', answer_tag: 'A: '}\n")
    with pytest.raises(ValueError, match=r"Unknown config key 'a.rmu_layers'. Did you mean 'a.rmu_layer'\?"):
        load_family("a", file)
    assert load_family("b", file).tags == ("Q: ", "", "A: ")


@pytest.mark.parametrize("path", ["models/none", "./none", "/none/there", "a/b/c", "", "minibench/weights/none"])
def test_a_path_that_is_not_there_says_which_step_makes_it(path: str) -> None:
    with pytest.raises(ValueError, match=r"does not exist\. Run the step that makes it .*hub id"):
        resolve_path(path)


def test_paths_are_taken_from_here_or_from_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert resolve_path("mine") == "mine"
    assert Path(resolve_path("data")).is_absolute() and resolve_path("owner/name") == "owner/name"


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl, tiny_qwen25vl, tiny_llama])
def test_a_saved_model_comes_back_in_eval_mode_through_its_own_class(tmp_path: Path, tiny: Any) -> None:
    model = tiny()[0]
    model.save_pretrained(tmp_path / "model")
    loaded = load_model(str(tmp_path / "model"))
    assert type(loaded) is type(model) and not loaded.training and loaded.dtype == torch.float32
    torch.testing.assert_close(logits(loaded), logits(model))
    assert load_model(str(tmp_path / "model"), dtype=torch.bfloat16).dtype == torch.bfloat16
    assert Start.of(str(tmp_path / "model")).layers == decoder_layers(model) == 2


def test_an_adapter_is_merged_into_the_model_it_was_trained_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny_llava()[0].save_pretrained(tmp_path / "base")
    base = load_model(str(tmp_path / "base"))
    adapted = prepare_trainable(base, LoraSettings(r=2, init_noise=0.5), freeze_vision=True)
    adapted.save_pretrained(tmp_path / "adapter")
    expected = logits(adapted)
    assert is_adapter(str(tmp_path / "adapter")) and not is_adapter(str(tmp_path / "base"))
    assert adapter_base(str(tmp_path / "adapter")) == str(tmp_path / "base")
    assert Start.of(str(tmp_path / "adapter")).layers == 2
    merged = load_model(str(tmp_path / "adapter"))
    assert not hasattr(merged, "disable_adapter") and not merged.training
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(tiny_llava()[0])).abs().max() > 0.1
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="adapter of a model that is missing"):
        load_model(str(tmp_path / "adapter"))


def test_pickled_weights_are_never_loaded(tmp_path: Path) -> None:
    model = tiny_llama()[0]
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises((OSError, ValueError)):
        load_model(str(tmp_path))


def test_where_the_parts_of_a_model_are() -> None:
    assert language_model_path(tiny_llama()[0]) == "model" and not vision_modules(tiny_llama()[0])
    for tiny, tower in ((tiny_llava, "model.vision_tower"), (tiny_qwen2vl, "model.visual")):
        model = tiny()[0]
        assert language_model_path(model) == "model.language_model" and list(vision_modules(model)) == [tower]
        wrapped = prepare_trainable(copy.deepcopy(model), LoraSettings(r=2), freeze_vision=True)
        assert language_model_path(wrapped) == "model.language_model" and list(vision_modules(wrapped)) == [tower]
        assert decoder_layers(wrapped) == 2


def test_attention_without_a_gpu_is_torchs_own() -> None:
    from transformers import LlamaForCausalLM

    assert choose_attention("eager", LlamaForCausalLM, torch.bfloat16) == "eager"
    if not torch.cuda.is_available():
        assert choose_attention("auto", LlamaForCausalLM, torch.bfloat16) == "sdpa"
