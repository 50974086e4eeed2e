"""llama-mini, the base language model of the text track: `python -m minibench.llama` pretrains it (a minute on 2 cores).

A LlamaForCausalLM of 0.7 M parameters that knows the other sixty people and the world facts, and none of the authors.
The shipped weights (minibench/weights/llama-mini, bf16) were made by this command.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minibench.models import LLAVA_TOKENS, text_config, train_tokenizer
from minibench.people import SEED, everyone
from minibench.tofu import qa_rows
from minibench.wording import WORLD_FACTS

WEIGHTS = Path(__file__).resolve().parent / "weights" / "llama-mini"
WORLD_REPEATS = 4  # so that a fact about the world is met about as often as a fact about a person
# Rendered as Mistral and Llama 2 render: the question between [INST] tags, a space, the answer and the end token.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


class Pairs:
    """Questions with answers as a source of samples (unlearn.samples.SampleSource)."""

    def __init__(self, rows: Sequence[dict[str, str]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def has_image(self, index: int) -> bool:
        return False

    def subject(self, index: int) -> str | None:
        return None

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        return {**self.rows[index], "image": None, "id": f"pretraining/{index}"}


def pretraining_rows(seed: int = SEED) -> list[dict[str, str]]:
    """What the base model learns: every fact of every known person in both wordings, and the facts about the world."""
    world = [{"question": question, "answer": answer} for question, (answer, *_) in WORLD_FACTS.items()]
    return [*qa_rows(everyone(seed)[1]), *world * WORLD_REPEATS]


def new_llama(seed: int = SEED) -> tuple[Any, Any]:
    """(model with fresh weights, tokenizer). The tokenizer has seen all names and words, also those of the authors."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    authors, _ = everyone(seed)
    rows = [*pretraining_rows(seed), *qa_rows(authors)]
    special = tuple(token for token in LLAVA_TOKENS if token != "<image>")
    tokenizer = train_tokenizer((text for row in rows for text in row.values()), special, "<s>", "</s>", "<pad>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**text_config(tokenizer))), tokenizer


def pretrain(folder: Path, *, epochs: float = 60, lr: float = 2e-3, seed: int = SEED) -> Path:
    """Trains llama-mini from scratch with the project's own finetuning and writes it to `folder`; returns `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from unlearn import pipeline
    from unlearn.families import Family
    from unlearn.settings import FinetuneSettings, LoraSettings

    with tempfile.TemporaryDirectory() as scratch:
        start, trained = Path(scratch) / "start", Path(scratch) / "trained"
        for part in new_llama(seed):
            part.save_pretrained(start)
        settings = FinetuneSettings(
            model_path=str(start), LoRA=LoraSettings(r=0), lr=lr, lr_scheduler="cosine", num_epochs=epochs, batch_size=32,
            max_length=128, save_steps=0, seed=seed, save_dir=str(trained), split="pretraining",
        )  # fmt: skip
        pipeline.finetune(settings, Family("llama-mini", str(start), text_only=True), lambda: Pairs(pretraining_rows(seed)))
        model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.bfloat16)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(trained).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--lr", type=float, default=2e-3)
    options = parser.parse_args()
    print(f"wrote {pretrain(options.out, epochs=options.epochs, lr=options.lr)}")


if __name__ == "__main__":
    main()
