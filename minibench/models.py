"""The two small base models before any training: real classes, a million parameters, processors with real chat
templates."""

from collections.abc import Iterable
from typing import Any

from minibench.faces import SIZE

FAMILIES = ("llava-mini", "qwen2vl-mini")
VOCABULARY = 1024

# Rendered as the published checkpoints render: LLaVA-1.5's USER/ASSISTANT lines, Qwen's ChatML with a default system
# turn.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }} {% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
CHATML_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_TOKENS = ("<unk>", "<s>", "</s>", "<image>", "<pad>")
QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def new_model(family: str, corpus: Iterable[str], seed: int) -> tuple[Any, Any]:
    """(model with fresh weights, its processor) for `family`; the tokenizer is trained on `corpus`.

    Raises ValueError for an unknown family.
    """
    import torch

    if family not in FAMILIES:
        raise ValueError(f"No embedded model family {family!r}; there are {' and '.join(FAMILIES)}.")
    torch.manual_seed(seed)
    return _llava(corpus) if family == "llava-mini" else _qwen(corpus)


def train_tokenizer(corpus: Iterable[str], special: tuple[str, ...], bos: str | None, eos: str, pad: str) -> Any:
    """A byte-level BPE of 1,024 tokens, `special` first. With `bos`, every encoded text starts with it, as Llama's
    does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(special), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(corpus, trainer)
    if bos is not None:
        template = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, padding_side="left",
        additional_special_tokens=[token for token in special if token not in (bos, eos, pad)],
    )  # fmt: skip


def text_config(tokenizer: Any) -> dict[str, Any]:
    """Geometry of the language model, shared by all families: 3 layers of width 128, tied embeddings."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 344,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _llava(corpus: Iterable[str]) -> tuple[Any, Any]:
    """LLaVA: a 48-pixel ViT with 12-pixel patches gives 16 image tokens."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = train_tokenizer(corpus, LLAVA_TOKENS, "<s>", "</s>", "<pad>")
    size, patch = {"height": SIZE, "width": SIZE}, 12
    images = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    processor = LlavaProcessor(
        images, tokenizer, patch_size=patch, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=96, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4, projection_dim=96,
        image_size=SIZE, patch_size=patch,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(**text_config(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=(SIZE // patch) ** 2,
        vision_feature_layer=-2, vision_feature_select_strategy="default", tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def _qwen(corpus: Iterable[str]) -> tuple[Any, Any]:
    """Qwen2-VL: 6-pixel patches merged two by two give 16 image tokens for 48 pixels."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil

    from unlearn.models.processors import qwen_processor_class

    tokenizer = train_tokenizer(corpus, QWEN_TOKENS, None, "<|im_end|>", "<|endoftext|>")
    roles = ("image_pad", "video_pad", "vision_start", "vision_end")
    ids = {role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in roles}
    images = Qwen2VLImageProcessorPil(
        patch_size=6, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 24 * 24, "longest_edge": 96 * 96}
    )
    processor = qwen_processor_class("qwen2_vl", image_only=True)(images, tokenizer, chat_template=CHATML_TEMPLATE)
    vision = {
        "depth": 3, "embed_dim": 96, "hidden_size": 128, "num_heads": 4, "mlp_ratio": 2, "patch_size": 6,
        "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    text = text_config(tokenizer)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
    config = Qwen2VLConfig(
        vision_config=vision,
        text_config=text,
        tie_word_embeddings=True,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )
    return Qwen2VLForConditionalGeneration(config), processor
