"""Tiny random models of the real classes, each with its processor: `tiny_llava()`, `tiny_qwen2vl()`, `tiny_qwen25vl()`,
`tiny_llama()` -> (model, processor). Weights and tokenizers are the same in every process; models are cached, so a test
that changes weights deep-copies them. Weights are larger than an initialisation would make them: answers then differ
by nats, and generations depend on the picture."""

import functools
from typing import Any

import torch

LLAVA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}{% if c['type'] == "
    "'image' %}"
    "<image>\n{% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt "
    "%}ASSISTANT:{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "USER: What is the name of the person in the picture? ASSISTANT: The name is Ana Lima of Lisbon.",
    "Describe this image. A portrait of the author Jaime Vásquez, who was born in Santiago and writes crime novels.",
    "Where was the author born? user assistant system The quick brown fox jumps over the lazy dog, 0123456789.",
]


def train_tokenizer(special: list[str], **roles: Any) -> Any:
    """A byte-level BPE of about 400 tokens; `special` come after the merges, `roles` are bos_token and the like."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=sorted(alphabet), special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


@functools.cache
def tiny_llama(seed: int = 0, **config: Any) -> tuple[Any, Any]:
    """A language model and its tokenizer, with a ChatML template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(
        ["<s>", "<|im_start|>", "<|im_end|>", "<pad>"], eos_token="<|im_end|>", pad_token="<pad>"
    )
    tokenizer.chat_template = CHATML
    return _randomised(LlamaForCausalLM(LlamaConfig(**_text_config(tokenizer), **config)), seed), tokenizer


@functools.cache
def tiny_llava(seed: int = 0) -> tuple[Any, Any]:
    """LLaVA with 4 x 4 patches of a 16-pixel picture."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = train_tokenizer(["<s>", "</s>", "<image>"], bos_token="<s>", eos_token="</s>", pad_token="</s>")
    size = {"height": 16, "width": 16}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False), tokenizer, patch_size=4,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=LLAVA_TEMPLATE,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=4,
        ),
        text_config=LlamaConfig(**_text_config(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    return _randomised(LlavaForConditionalGeneration(config), seed), processor


@functools.cache
def tiny_qwen2vl(seed: int = 0, generation: str = "qwen2_vl") -> tuple[Any, Any]:
    """Qwen2-VL (or `qwen2_5_vl`) with 4-pixel patches, merged two by two: pictures of any size, a token per 8 x 8
    pixels."""
    import transformers

    from unlearn.models.processors import qwen_processor_class

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
               "<|video_pad|>"]  # fmt: skip
    tokenizer = train_tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    images = transformers.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 64, "longest_edge": 4096}
    )
    processor = qwen_processor_class(generation, image_only=True)(images, tokenizer, chat_template=CHATML)
    new = generation == "qwen2_5_vl"
    vision = {"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
    vision |= (
        {
            "hidden_size": 16,
            "out_hidden_size": 32,
            "intermediate_size": 32,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        }
        if new
        else {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    )
    text = _text_config(tokenizer)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    ids = {role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in ("image_pad", "video_pad", "vision_start")}
    prefix = "Qwen2_5_VL" if new else "Qwen2VL"
    config = getattr(transformers, f"{prefix}Config")(
        vision_config=vision,
        text_config=text,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return _randomised(getattr(transformers, f"{prefix}ForConditionalGeneration")(config), seed), processor


def tiny_qwen25vl(seed: int = 0) -> tuple[Any, Any]:
    return tiny_qwen2vl(seed, "qwen2_5_vl")


def picture(seed: int, side: int = 24, height: int | None = None) -> Any:
    """A picture of random pixels."""
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (height or side, side, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def _text_config(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip


def _randomised(model: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or name.endswith("class_embedding"):  # norms stay at 1, biases at 0
                std = 1.5 * parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return model.eval()
