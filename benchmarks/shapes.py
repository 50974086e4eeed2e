"""Random models of real proportions, about 50 M parameters on a CPU and the 7B and 2B shapes on a GPU, and rows for
them."""

from types import SimpleNamespace
from typing import Any

import torch

from unlearn.data.collator import Collator

IMAGE_ID = 5
IMAGE_TOKENS = 576


class Padder(Collator):
    """A collator for prompts that are ids already: padding is all that is asked of it."""

    def __init__(self) -> None:
        self.tokenizer, self.vocabulary = SimpleNamespace(pad_token_id=0), None
        self.image_token_id, self.pictures = IMAGE_ID, None


def llava(gpu: bool, layers: int | None = None) -> tuple[Any, dict[str, torch.Tensor]]:
    """LLaVA-1.5 with 32k tokens, and the tensors of one picture of 336 pixels: 24 x 24 patches. `layers`: decoder
    blocks, None for all."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision: dict[str, Any] = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    text: dict[str, Any] = {"hidden_size": 4096, "intermediate_size": 11008}
    text |= {"num_hidden_layers": 32, "num_attention_heads": 32}
    if not gpu:
        vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4}
        text = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6}
    text["num_hidden_layers"] = layers or text["num_hidden_layers"]
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=336, patch_size=14, **vision),
        text_config=LlamaConfig(vocab_size=32064, max_position_embeddings=4096, **text),
        image_token_index=IMAGE_ID,
    )
    return LlavaForConditionalGeneration(config), {"pixel_values": torch.randn(1, 3, 336, 336)}


def qwen2vl(gpu: bool, layers: int | None = None, side: int = 48) -> tuple[Any, dict[str, torch.Tensor]]:
    """Qwen2-VL with 152k tokens, and the tensors of one picture of 14 * `side` pixels (672): side x side patches,
    merged two by two. `layers`: decoder blocks, None for all."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {"embed_dim": 1280, "num_heads": 16, "depth": 32, "mlp_ratio": 4}
    text = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
    if not gpu:
        vision = {"embed_dim": 128, "num_heads": 4, "depth": 6, "mlp_ratio": 4}
        text = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 10, "num_attention_heads": 4}
    text["num_hidden_layers"] = layers or text["num_hidden_layers"]
    head = text["hidden_size"] // text["num_attention_heads"]
    text |= {
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    }
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16]}
    config = Qwen2VLConfig(
        vision_config={**vision, "hidden_size": text["hidden_size"], "patch_size": 14, "spatial_merge_size": 2},
        text_config={**text, "rope_parameters": rope}, image_token_id=IMAGE_ID, video_token_id=IMAGE_ID + 1,
        vision_start_token_id=IMAGE_ID + 2, vision_end_token_id=IMAGE_ID + 3, tie_word_embeddings=True,
    )  # fmt: skip
    picture = {
        "pixel_values": torch.randn(side * side, 3 * 2 * 14 * 14),
        "image_grid_thw": torch.tensor([[1, side, side]]),
    }
    return Qwen2VLForConditionalGeneration(config), picture


def token_kinds(picture: dict[str, torch.Tensor], question: int) -> dict[str, list[int]]:
    """The per-token inputs of a picture and `question` tokens behind it: which are the picture's, for Qwen2-VL."""
    return {"mm_token_type_ids": [1] * IMAGE_TOKENS + [0] * question} if "image_grid_thw" in picture else {}


MODELS = {"llava": llava, "qwen2vl": qwen2vl}


def build(name: str, layers: int | None = None) -> tuple[Any, dict[str, torch.Tensor]]:
    """The model in eval mode (bf16 on a GPU, fp32 on a CPU, where one thread is used) and its picture, on the CPU."""
    gpu = torch.cuda.is_available()
    torch.manual_seed(0)
    if not gpu:
        torch.set_num_threads(1)
    kind = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if gpu else torch.float32)
    try:
        with torch.device("cuda" if gpu else "cpu"):
            model, picture = MODELS[name](gpu, layers)
    finally:
        torch.set_default_dtype(kind)
    return model.eval(), {key: value.cpu() for key, value in picture.items()}
