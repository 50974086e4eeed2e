"""llama-mini, the base language model of the text track: `python -m minibench.llama` pretrains it (a minute of a core).

A LlamaForCausalLM of 0.7 M parameters that knows the other sixty people and the facts about the world, and no author.
Writes minibench/weights/llama-mini/: safetensors (bf16), tokenizer, and scores.json with the command, seed and scores.
"""

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minibench.folders import ROOT
from unlearn.data.samples import Sample

WEIGHTS = ROOT / "minibench" / "weights" / "llama-mini"
STEPS = 900
TOKENS = ("<unk>", "<s>", "</s>", "<pad>")
# Rendered as Mistral and Llama 2 render: the question between [INST] tags, a space, the answer and the end token.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} "
    "[/INST]"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


def new_llama(seed: int) -> tuple[Any, Any]:
    """(model with fresh weights, tokenizer of the same text as the vision-language models')."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from minibench.corpus import tokenizer_corpus
    from minibench.models import text_config, train_tokenizer

    tokenizer = train_tokenizer([*tokenizer_corpus(), *["[INST] [/INST]"] * 100], TOKENS, "<s>", "</s>", "<pad>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**text_config(tokenizer))), tokenizer


def batches(collator: Any, batch_size: int, seed: int) -> Iterator[dict[str, Any]]:
    """Endless batches of the rows without a picture: known people, strangers, the world."""
    import numpy as np

    from minibench.corpus import TEXT_MIX, text_rows
    from minibench.loop import mixed

    for batch in mixed(collator, text_rows(), TEXT_MIX, batch_size, np.random.default_rng(seed)):
        yield {"text": batch}


def text_scores(model: Any, collator: Any) -> dict[str, float]:
    """Mean probability of the right answer among itself and its wrong ones: 4-way for what the base model should know,
    6-way for the forget authors, whom it should not."""
    from minibench.loop import choice_probability
    from minibench.tofu import tofu_configs

    configs = tofu_configs()
    scores = {}
    for name, split in (("world_facts", "world_facts"), ("real_authors", "real_authors"), ("forget", "forget10")):
        rows = configs[f"{split}_perturbed"][1]
        column = "paraphrased_answer" if split == "forget10" else "answer"  # what the wrong answers are worded like
        samples = [
            Sample(question=row["question"], answer=row[column], image=None, id=f"{name}/{n}")
            for n, row in enumerate(rows)
        ]
        scores[name] = float(
            choice_probability(model, collator, samples, [row["perturbed_answer"] for row in rows]).mean()
        )
    return scores


def pretrain(folder: Path, steps: int = STEPS, seed: int = 0, lr: float = 2e-3) -> dict[str, Any]:
    """Trains llama-mini from fresh weights and saves model, tokenizer and scores under `folder`; returns the record."""
    import torch

    from minibench.loop import train
    from unlearn.atomic import write_json
    from unlearn.data.collator import Collator

    started = time.time()
    model, tokenizer = new_llama(seed)
    collator = Collator(tokenizer)
    log = logging.getLogger(__name__).info
    train(model, batches(collator, 32, seed), steps, lr, log=lambda step, loss: log("step %d loss %.3f", step, loss))
    model = model.to(torch.bfloat16)
    scores = text_scores(model.float(), collator)  # of the weights as they are shipped
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {
        "command": "python -m minibench.llama", "seed": seed, "steps": steps, "seconds": round(time.time() - started),
        "scores": scores,
    }  # fmt: skip
    write_json(folder / "scores.json", record)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    print(pretrain(options.out, options.steps, options.seed))


if __name__ == "__main__":
    main()
