"""Which layers are adapted and what is trained, on the paper's models: their real configs, built without memory."""

import copy
import functools
import logging
import re
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer

from tests.models import picture, tiny_llava, tiny_qwen2vl
from unlearn.config.settings import LoraSettings
from unlearn.data.collator import Collator
from unlearn.method import HiddenSpec
from unlearn.models.families import decoder_layers, inner_model, language_model_path, load_family
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.lora import all_finite, lora_targets, prepare_trainable, snapshot, trained_layers, trained_view
from unlearn.models.vision import vision_modules

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def llava_7b() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                              image_size=336, patch_size=14, projection_dim=768, vocab_size=32000)  # fmt: skip
    text = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32064
    )
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=32000))


def qwen2vl_2b() -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    text = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
            "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}  # fmt: skip
    vision = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4, "num_heads": 16, "patch_size": 14}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    return Qwen2VLForConditionalGeneration(config)


def qwen25vl_3b() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
            "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 2048, "num_heads": 16,
              "patch_size": 14}  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    return Qwen2_5_VLForConditionalGeneration(config)


@functools.cache
def on_meta(build: Any) -> Any:
    with torch.device("meta"):
        return build()


def fresh(build: Any) -> Any:
    with torch.device("meta"):
        return build()


REAL = {  # family -> (builder, decoder layers, billions of parameters, blocks of the vision tower, its linears a block)
    "llava": (llava_7b, 32, 7.06, 24, 6),
    "qwen-vl2-2b": (qwen2vl_2b, 28, 2.21, 32, 4),
    "qwen-vl-3b": (qwen25vl_3b, 36, 3.75, 32, 5),
}


@pytest.fixture(params=list(REAL))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_configs_are_those_of_the_real_models(family: str) -> None:
    build, layers, billions, *_ = REAL[family]
    model = on_meta(build)
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)
    assert decoder_layers(model) == layers


def test_targets_are_the_linears_of_the_language_model(family: str) -> None:
    build, layers, *_ = REAL[family]
    model = on_meta(build)
    names = lora_targets(model)
    path = language_model_path(model)
    assert path == "model.language_model"
    parts = ("self_attn", "mlp")
    expected = {f"{path}.layers.{i}.{part}.{name}" for i in range(layers) for part in parts for name in LINEARS
                if (part == "mlp") == (name in LINEARS[4:])}  # fmt: skip
    assert set(names) == expected and len(names) == 7 * layers
    modules = dict(model.named_modules())
    assert all(isinstance(modules[name], torch.nn.Linear) for name in names)


def test_all_adds_vision_projector_and_an_untied_head(family: str) -> None:
    """The published code adapts every linear; its LLaVA head too, its Qwen head (tied to the embeddings) not."""
    build, layers, _, depth, per_block = REAL[family]
    names = lora_targets(on_meta(build), "all")
    vision = [name for name in names if re.search(r"\.(vision_tower|visual)\.", name)]
    assert len([name for name in vision if re.search(r"\.(layers|blocks)\.\d+\.", name)]) == depth * per_block
    head = [name for name in names if name == "lm_head"]
    assert head == (["lm_head"] if family == "llava" else [])
    projector = [name for name in names if "projector" in name or ".merger." in name]
    assert len(projector) == 2
    assert len(names) == 7 * layers + depth * per_block + len(head) + len(projector)


def test_trained_share_and_frozen_modules_with_lora(family: str) -> None:
    build, layers, *_ = REAL[family]
    model = prepare_trainable(fresh(build), LoraSettings(r=8, alpha=32), freeze_vision=True)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * layers and all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert all("language_model.layers" in name for name in trained)
    config = inner_model(model).config.get_text_config()
    head = config.hidden_size // config.num_attention_heads
    d, kv, ff = config.hidden_size, config.num_key_value_heads * head, config.intermediate_size
    by_hand = layers * 8 * (2 * (d + d) + 2 * (d + kv) + 3 * (d + ff))
    assert sum(p.numel() for p in trained.values()) == by_hand
    published = {"llava": 19_988_480, "qwen-vl2-2b": 9_232_384, "qwen-vl-3b": 14_966_784}
    assert by_hand == published[family]


def test_full_finetuning_freezes_the_vision_tower_and_nothing_else(
    family: str, caplog: pytest.LogCaptureFixture
) -> None:
    build, _, billions, *_ = REAL[family]
    with caplog.at_level(logging.INFO):
        model = prepare_trainable(fresh(build), LoraSettings(r=0), freeze_vision=True)
    assert "vision tower frozen" in caplog.text
    towers = vision_modules(model)
    assert list(towers) == ["model.vision_tower" if family == "llava" else "model.visual"]
    prefix = next(iter(towers)) + "."
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(prefix)} and frozen
    loose = prepare_trainable(model, LoraSettings(r=0), freeze_vision=False)
    assert all(p.requires_grad for p in loose.parameters())


def test_the_layer_that_rmu_steers(family: str) -> None:
    """Block 7, counted from 0: its output is entry 8 of hidden_states."""
    assert load_family(family).rmu_layer == 7
    student = StudentForward(on_meta(REAL[family][0]), HiddenSpec(None), default_layer=load_family(family).rmu_layer)
    assert student.layer == 8


def test_all_respects_a_frozen_vision_tower() -> None:
    wanted = LoraSettings(r=2, targets="all")
    model = prepare_trainable(copy.deepcopy(tiny_llava()[0]), wanted, freeze_vision=True)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert not any("vision_tower" in name for name in trained)
    assert any("multi_modal_projector" in name for name in trained) and any("lm_head" in name for name in trained)
    loose = prepare_trainable(copy.deepcopy(tiny_llava()[0]), wanted, freeze_vision=False)
    assert any("vision_tower" in name for name, p in loose.named_parameters() if p.requires_grad)


def test_what_is_trained_is_fp32_and_what_is_frozen_keeps_its_type() -> None:
    half = copy.deepcopy(tiny_llava()[0]).to(torch.bfloat16)
    lora = prepare_trainable(copy.deepcopy(half), LoraSettings(r=2), freeze_vision=True)
    assert {p.dtype for p in lora.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in lora.parameters() if not p.requires_grad} == {torch.bfloat16}
    full = prepare_trainable(half, LoraSettings(r=0), freeze_vision=True)
    assert {p.dtype for p in full.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
@pytest.mark.parametrize("half", [False, True])
def test_adapters_that_keep_their_inputs_type_give_the_same_bits(tiny: Any, half: bool) -> None:
    """In fp32 there is nothing to cast; under bf16 autocast the cast to fp32 is undone by the cast back."""

    def bits(casts: bool, dropout: float) -> list[torch.Tensor]:
        base, processor = tiny()
        base = copy.deepcopy(base).to(torch.bfloat16 if half else torch.float32)
        torch.manual_seed(0)
        lora = LoraSettings(r=2, init_noise=0.3, dropout=dropout)
        model = prepare_trainable(base, lora, freeze_vision=True).train()
        layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        assert len(layers) == 14 and {layer.cast_input_dtype_enabled for layer in layers} == {dropout > 0}
        for layer in layers:
            layer.cast_input_dtype_enabled = casts
        samples: Any = [
            {"question": "Who is it?", "answer": "Ana Lima.", "image": picture(1, 16), "id": "a"},
            {"question": "Where was Ana Lima born?", "answer": "In Lisbon.", "image": None, "id": "b"},
        ]
        rows = Collator(processor).rows(samples)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = score_views(StudentForward(model)({"forget": rows}))["forget"].cross_entropy()
        return [loss, *torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])]

    one = bits(casts=True, dropout=0.0)
    other = bits(casts=False, dropout=0.0)
    assert one[0] > 0.1 and sum(g.abs().sum() for g in one[1:]) > 0.1
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    bits(casts=True, dropout=0.1)  # with dropout PEFT's cast stays


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
def test_merging_an_adapter_on_all_linears_keeps_the_function(tiny: Any) -> None:
    """An adapter on a head that shares its weight with the embeddings would change the merged model's input as well."""
    base = copy.deepcopy(tiny()[0])
    if hasattr(base.model, "visual"):
        base.config.tie_word_embeddings = base.config.text_config.tie_word_embeddings = True
        base.tie_weights()
        base.lm_head.weight = base.get_input_embeddings().weight
    model = prepare_trainable(base, LoraSettings(r=2, targets="all", init_noise=0.3), freeze_vision=False)
    ids = torch.tensor([[7, 30, 41, 9]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        torch.testing.assert_close(model.merge_and_unload()(input_ids=ids).logits, before, atol=1e-4, rtol=1e-4)


def test_a_noisy_start_is_seeded_and_off_by_default() -> None:
    def factors(noise: float, seed: int) -> list[torch.Tensor]:
        lora = LoraSettings(r=2, init_noise=noise)
        model = prepare_trainable(copy.deepcopy(tiny_llava()[0]), lora, freeze_vision=True, seed=seed)
        return [p.detach() for name, p in model.named_parameters() if ".lora_B." in name]

    assert all(not b.any() for b in factors(0.0, 1))
    one, same, other = factors(0.1, 1), factors(0.1, 1), factors(0.1, 2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True)) and not torch.equal(one[0], other[0])
    assert torch.cat([b.flatten() for b in one]).std().item() == pytest.approx(0.1, rel=0.2)


def test_what_a_penalty_sees() -> None:
    model = prepare_trainable(
        copy.deepcopy(tiny_llava()[0]), LoraSettings(r=2, alpha=8, init_noise=0.1), freeze_vision=True
    )
    start = snapshot(model)
    seen = trained_view(model, start)
    assert len(seen.lora) == 14 and set(seen.parameters) == set(start)
    held = {id(p) for p in seen.parameters.values()}
    assert all(id(pair.A) in held and id(pair.B) in held and pair.scaling == 4.0 for pair in seen.lora.values())
    with torch.no_grad():
        next(iter(seen.parameters.values())).add_(1.0)
    assert not torch.equal(next(iter(seen.parameters.values())), next(iter(start.values())))  # the snapshot is a copy


def test_all_finite_looks_at_what_is_trained() -> None:
    model = prepare_trainable(copy.deepcopy(tiny_llava()[0]), LoraSettings(r=2), freeze_vision=True)
    assert all_finite(model)
    with torch.no_grad():
        inner_model(model).lm_head.weight[0, 0] = float("nan")  # frozen
        assert all_finite(model)
        next(p for p in model.parameters() if p.requires_grad)[0, 0] = float("inf")
    assert not all_finite(model)


@pytest.mark.parametrize("rank", [4, 0])
@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
def test_only_the_mlps_of_some_blocks_are_trained(tiny: Any, rank: int) -> None:
    def trained(layers: Any, mlps_only: bool) -> set[str]:
        settings = LoraSettings(r=rank, layers=layers)
        model = prepare_trainable(copy.deepcopy(tiny()[0]), settings, freeze_vision=True, mlps_only=mlps_only)
        names = {name for name, p in model.named_parameters() if p.requires_grad}
        return {re.sub(r"^base_model\.model\.|\.lora_[AB]\.default|\.weight$|\.bias$", "", name) for name in names}

    block = "model.language_model.layers.{}."
    mlp = {f"{block}mlp.{name}_proj" for name in ("gate", "up", "down")}
    assert trained([1], True) == {name.format(1) for name in mlp}
    assert trained(None, True) == {name.format(0) for name in mlp}  # of 2 blocks the second quarter is block 0
    whole = trained([1], False)
    assert {name.format(1) for name in mlp} < whole and all(name.startswith(block.format(1)) for name in whole)
    assert trained(None, False) > whole | {f"{block.format(0)}self_attn.q_proj"}


@pytest.mark.parametrize(("blocks", "expected"), [(32, range(8, 16)), (28, range(7, 14)), (3, [0]), (2, [0]), (1, [0])])
def test_the_second_quarter_where_a_method_trains_mlps_and_nothing_is_said(blocks: int, expected: Any) -> None:
    assert trained_layers(LoraSettings(), blocks, mlps_only=True) == list(expected)
    assert trained_layers(LoraSettings(), blocks, mlps_only=False) is None
