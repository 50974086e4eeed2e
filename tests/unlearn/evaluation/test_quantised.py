"""Rounding by bitsandbytes, for real, on whatever is here."""

import pytest
import torch

from tests.models import tiny_llama
from unlearn.evaluation.stress.quantised import by_library, fits_library
from unlearn.models.lora import lora_targets


@pytest.mark.parametrize(("way", "apart"), [("bnb8", 0.02), ("bnb4", 0.2)])
def test_a_model_rounded_by_the_library(tmp_path, way, apart):
    """For real, on whatever is here: the linears of the language model and nothing else; its answers stay near."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    model, ids = LlamaForCausalLM(config).eval(), torch.arange(20)[None]
    assert fits_library(model) and not fits_library(tiny_llama()[0])
    with torch.no_grad(), by_library(model, way, tmp_path / "merged", lambda one, at: one.save_pretrained(at)) as other:
        kinds = {name for name, module in other.named_modules() if type(module).__name__.startswith("Linear8bit")
                 or type(module).__name__ == "Linear4bit"}  # fmt: skip
        assert kinds == set(lora_targets(model))
        plain, rounded_off = model(ids).logits, other(ids).logits
        assert 0 < (plain - rounded_off).norm() / plain.norm() < apart
    assert not (tmp_path / "merged").exists()
