"""Tiny random models of every tested vision-language family, each of the real class with a processor of the real class:
`FAMILIES[name]()` -> (model, processor). Built once a process; a test that changes weights deep-copies them.

Pictures are read through the PIL image processors, and where the class insists on a video processor through its
image-only form. Two things do not exist without torchvision and stand in here: the image processor of Llama 4
(`TilesPil`), and the module that PixtralProcessor takes one function from.
"""

import functools
import importlib
import sys
from typing import Any

import torch
import transformers
from transformers import (
    CLIPVisionConfig,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature

from tests.models import CHATML, _randomised, _text_config, tiny_llava, tiny_qwen2vl, tiny_qwen25vl, train_tokenizer
from unlearn.models import compat

SQUARE = {"height": 16, "width": 16}
PINPOINTS = [[16, 32], [32, 16], [32, 32]]
CLIP = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 4}  # fmt: skip


def _template(image: str, start: str = "{{ bos_token }}", user: str = "USER: ", between: str = " ",
              assistant: str = "ASSISTANT:", end: str = "") -> str:  # fmt: skip
    """A chat template of one style: pictures before the question, the answer after `assistant` and a space."""
    return (
        start + "{% for m in messages %}{% if m['role'] == 'user' %}" + user + "{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}" + image + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}" + between
        + "{% else %}" + assistant + " {{ m['content'][0]['text'] }}" + end + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + assistant + "{% endif %}"
    )  # fmt: skip


def _tokens(special: list[str], names: dict[str, str] | None = None, **roles: Any) -> Any:
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **roles}
    special = ["<s>", "</s>", "<pad>", *special]
    extra = {"extra_special_tokens": names} if names else {"additional_special_tokens": special}
    return train_tokenizer(list(dict.fromkeys([*special, *roles.values()])), **roles, **extra)


def _model(config: Any, tokenizer: Any) -> Any:
    """The class of a config, its weights random and large enough to tell answers apart."""
    return _randomised(compat.image_text_class(config)(config), 0)


def _ids(tokenizer: Any, **tokens: str) -> dict[str, int]:
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}


@functools.cache
def llava_next() -> tuple[Any, Any]:
    tokenizer = _tokens(["<image>"])
    images = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
    )
    processor = transformers.LlavaNextProcessor(
        images, tokenizer, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=_template("<image>\n"),
    )  # fmt: skip
    config = transformers.LlavaNextConfig(
        vision_config=CLIPVisionConfig(**CLIP), text_config=LlamaConfig(**_text_config(tokenizer)),
        image_grid_pinpoints=PINPOINTS, image_seq_length=16, **_ids(tokenizer, image_token_index="<image>"),
    )  # fmt: skip
    return _model(config, tokenizer), processor


@functools.cache
def llava_onevision() -> tuple[Any, Any]:
    tokenizer = _tokens(["<image>", "<video>"])
    images = transformers.LlavaOnevisionImageProcessorPil(size=SQUARE, image_grid_pinpoints=PINPOINTS)
    processor = compat.image_only(transformers.LlavaOnevisionProcessor)(
        images,
        tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=_template("<image>\n"),
    )
    config = transformers.LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**CLIP, vision_use_head=False),
        text_config=Qwen2Config(**_text_config(tokenizer)), image_grid_pinpoints=PINPOINTS,
        **_ids(tokenizer, image_token_index="<image>", video_token_index="<video>"),
    )  # fmt: skip
    return _model(config, tokenizer), processor


@functools.cache
def qwen3_vl() -> tuple[Any, Any]:
    special = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokens(special, eos_token="<|im_end|>")
    images = transformers.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 64, "longest_edge": 4096}
    )
    processor = compat.image_only(transformers.Qwen3VLProcessor)(images, tokenizer, chat_template=CHATML)
    text = {**_text_config(tokenizer), "head_dim": 8}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 4,
              "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32,
              "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}  # fmt: skip
    ids = _ids(tokenizer, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>",
               vision_start_token_id="<|vision_start|>", vision_end_token_id="<|vision_end|>")  # fmt: skip
    config = transformers.Qwen3VLConfig(vision_config=vision, text_config=text, **ids)
    return _model(config, tokenizer), processor


@functools.cache
def internvl() -> tuple[Any, Any]:
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    tokenizer = _tokens(["<|im_start|>", "<|im_end|>", *names.values()], names, eos_token="<|im_end|>")
    images = transformers.GotOcr2ImageProcessorPil(size=SQUARE, crop_to_patches=True, min_patches=1, max_patches=4)
    template = CHATML.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n")
    processor = compat.image_only(transformers.InternVLProcessor)(
        images, tokenizer, image_seq_length=4, chat_template=template
    )
    vision = {**CLIP, "image_size": [16, 16], "patch_size": [4, 4]}
    config = transformers.InternVLConfig(
        vision_config=vision, text_config=Qwen2Config(**_text_config(tokenizer)), image_seq_length=4,
        downsample_ratio=0.5, **_ids(tokenizer, image_token_id="<IMG_CONTEXT>"),
    )  # fmt: skip
    return _model(config, tokenizer), processor


@functools.cache
def gemma3(window: int = 12) -> tuple[Any, Any]:
    """Every second layer sees `window` tokens back; the tokens of a picture see each other both ways."""
    names = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = _tokens(["<start_of_turn>", "<end_of_turn>", *names.values()], names)
    images = transformers.Gemma3ImageProcessorPil(size=SQUARE)
    template = _template("<start_of_image>", user="<start_of_turn>user\n", between="<end_of_turn>\n",
                         assistant="<start_of_turn>model\n", end="<end_of_turn>\n")  # fmt: skip
    template = template.replace("\n {{ m", "\n{{ m")
    processor = transformers.Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=template)
    text = Gemma3TextConfig(**_text_config(tokenizer), head_dim=8, sliding_window=window, query_pre_attn_scalar=8,
                            layer_types=["sliding_attention", "full_attention"])  # fmt: skip
    config = transformers.Gemma3Config(
        vision_config=SiglipVisionConfig(**CLIP, vision_use_head=False), text_config=text, mm_tokens_per_image=4,
        **_ids(tokenizer, image_token_index="<image_soft_token>", boi_token_index="<start_of_image>",
               eoi_token_index="<end_of_image>"),
    )  # fmt: skip
    return _model(config, tokenizer), processor


@functools.cache
def idefics3(kind: str = "Idefics3") -> tuple[Any, Any]:
    """A picture of up to 32 pixels becomes tiles of 16 and the whole in small, four tokens each."""
    special = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>"]
    special += [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    tokenizer = _tokens(special, eos_token="<end_of_utterance>")
    images = getattr(transformers, f"{kind}ImageProcessorPil")(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}
    )
    template = _template("<image>", user="User:", between="<end_of_utterance>\n", assistant="Assistant:",
                         end="<end_of_utterance>\n")  # fmt: skip
    official = getattr(transformers, f"{kind}Processor")
    if kind == "SmolVLM":  # it asks for the package num2words, which only videos need
        module = importlib.import_module("transformers.models.smolvlm.processing_smolvlm")
        module.num2words = module.num2words or str  # type: ignore[attr-defined]
        official = compat.image_only(official)
    processor = official(images, tokenizer, image_seq_len=4, chat_template=template)
    vision = {**CLIP, "model_type": "idefics3_vision" if kind == "Idefics3" else "smolvlm_vision"}
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision, text_config=LlamaConfig(**_text_config(tokenizer)), scale_factor=2,
        pad_token_id=tokenizer.pad_token_id, **_ids(tokenizer, image_token_id="<image>"),
    )  # fmt: skip
    return _model(config, tokenizer), processor


def smolvlm() -> tuple[Any, Any]:
    return idefics3("SmolVLM")


@functools.cache
def paligemma() -> tuple[Any, Any]:
    """PaliGemma 2: its prompt is read in both directions, and it has no chat template."""
    from unlearn.models.vision import TEMPLATES

    tokenizer = _tokens(["<image>"], {"image_token": "<image>"})
    images = transformers.SiglipImageProcessorPil(size=SQUARE)
    images.image_seq_length = 16
    processor = transformers.PaliGemmaProcessor(images, tokenizer, chat_template=TEMPLATES["PaliGemmaProcessor"])
    text = Gemma2Config(**_text_config(tokenizer), head_dim=8, query_pre_attn_scalar=8, sliding_window=4096)
    config = transformers.PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**CLIP, vision_use_head=False), text_config=text, projection_dim=32,
        **_ids(tokenizer, image_token_index="<image>"),
    )  # fmt: skip
    return _model(config, tokenizer), processor


class TilesPil(PilBackend):
    """What Llama 4's image processor returns, which exists with torchvision only: a picture wider (or higher) than a
    tile as a row (column) of two tiles and the whole in small."""

    model_input_names = ["pixel_values"]

    def __call__(self, images: Any, **options: Any) -> Any:
        tiles, ratios = [], []
        for image in [image for own in images for image in (own if isinstance(own, list) else [own])]:
            wide, high = image.width > image.height, image.height > image.width
            columns, rows = (2, 1) if wide else (1, 2) if high else (1, 1)
            large = image.resize((16 * columns, 16 * rows))
            cuts = [large.crop((16 * x, 16 * y, 16 * x + 16, 16 * y + 16)) for y in range(rows) for x in range(columns)]
            cuts += [image.resize((16, 16))] if rows * columns > 1 else []
            tiles += [_pixels(cut) for cut in cuts]
            ratios.append([rows, columns])
        return BatchFeature({"pixel_values": torch.stack(tiles), "aspect_ratios": torch.tensor(ratios)})


def _pixels(image: Any) -> torch.Tensor:
    data = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return data.view(image.height, image.width, 3).permute(2, 0, 1) / 127.5 - 1


@functools.cache
def llama4() -> tuple[Any, Any]:
    """Two experts, attention in chunks of 32 in the first layer, none of the positions in the second."""
    special = ["<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>",
               "<|tile_y_separator|>", "<|header_start|>", "<|header_end|>", "<|eot|>"]  # fmt: skip
    tokenizer = _tokens(special, eos_token="<|eot|>")
    template = _template("<|image|>", user="<|header_start|>user<|header_end|>\n\n", between="<|eot|>",
                         assistant="<|header_start|>assistant<|header_end|>\n\n", end="<|eot|>")  # fmt: skip
    processor = transformers.Llama4Processor(
        TilesPil(), tokenizer, patch_size=4, chat_template=template.replace("\n {{ m", "\n{{ m")
    )
    text = {**_text_config(tokenizer), "num_local_experts": 2, "intermediate_size_mlp": 48, "head_dim": 8,
            "attention_chunk_size": 32, "no_rope_layers": [1, 0], "interleave_moe_layer_step": 2,
            "layer_types": ["chunked_attention", "full_attention"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 16, "patch_size": 4, "vision_output_dim": 32, "projector_input_dim": 32,
              "projector_output_dim": 32, "pixel_shuffle_ratio": 0.5}  # fmt: skip
    ids = _ids(tokenizer, image_token_index="<|patch|>", boi_token_index="<|image_start|>",
               eoi_token_index="<|image_end|>")  # fmt: skip
    config = transformers.Llama4Config(vision_config=vision, text_config=text, **ids)
    return _model(config, tokenizer), processor


def pixtral_processor_class() -> Any:
    """PixtralProcessor, whose module takes one function from the torchvision form of its image processor."""
    pil = importlib.import_module("transformers.models.pixtral.image_processing_pil_pixtral")
    sys.modules.setdefault("transformers.models.pixtral.image_processing_pixtral", pil)
    return importlib.import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor


@functools.cache
def mistral3(merge: int = 2) -> tuple[Any, Any]:
    """Pictures of any size up to 32 pixels, a token per 8 x 8 pixels and one at the end of each row of them."""
    tokenizer = _tokens(["[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]"])
    images = transformers.PixtralImageProcessorPil(patch_size=4, size={"longest_edge": 32})
    processor = pixtral_processor_class()(
        images, tokenizer, patch_size=4, spatial_merge_size=merge,
        chat_template=_template("[IMG]", user="[INST]", between="[/INST]", assistant="", end="{{ eos_token }}"),
    )  # fmt: skip
    vision = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 2, "head_dim": 8, "image_size": 32, "patch_size": 4}  # fmt: skip
    text, ids = (
        MistralConfig(**_text_config(tokenizer), head_dim=8, sliding_window=None),
        _ids(tokenizer, image_token_index="[IMG]"),
    )
    if merge == 1:  # Pixtral-12B is a LLaVA with another tower
        config: Any = transformers.LlavaConfig(vision_config=vision, text_config=text, vision_feature_layer=-1,
                                               vision_feature_select_strategy="full", **ids)  # fmt: skip
    else:
        config = transformers.Mistral3Config(vision_config=vision, text_config=text, spatial_merge_size=merge, **ids)
    return _model(config, tokenizer), processor


def pixtral() -> tuple[Any, Any]:
    return mistral3(1)


FAMILIES = {
    "llava": tiny_llava, "llava_next": llava_next, "llava_onevision": llava_onevision, "qwen2_vl": tiny_qwen2vl,
    "qwen2_5_vl": tiny_qwen25vl, "qwen3_vl": qwen3_vl, "internvl": internvl, "gemma3": gemma3, "idefics3": idefics3,
    "smolvlm": smolvlm, "paligemma": paligemma, "llama4": llama4, "mistral3": mistral3, "pixtral": pixtral,
}  # fmt: skip
