"""Pretrains a small base model: `python -m minibench.pretrain --family llava-mini` (about 6 minutes on 2 cores).

Writes minibench/weights/<family>/: safetensors, processor, and scores.json with the command, seed and scores.
"""

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minibench.folders import ROOT
from minibench.models import FAMILIES

WEIGHTS = ROOT / "minibench" / "weights"
STEPS = {"llava-mini": 3500, "qwen2vl-mini": 3000}
TEXT_SHARE = 0.25  # of the batches hold text rows


def batches(collator: Any, batch_size: int, seed: int) -> Iterator[dict[str, Any]]:
    """Endless collated batches of one modality each."""
    import numpy as np

    from minibench.corpus import MIX, TEXT_MIX, image_rows, text_rows
    from minibench.loop import mixed

    rng = np.random.default_rng(seed)
    images = mixed(collator, image_rows(), MIX, batch_size, rng)
    texts = mixed(collator, text_rows(), TEXT_MIX, batch_size, rng)
    while True:
        yield {"text": next(texts)} if rng.random() < TEXT_SHARE else {"image": next(images)}


def pretrain(family: str, folder: Path, steps: int | None = None, seed: int = 0, lr: float = 2e-3) -> dict[str, Any]:
    """Trains `family` from fresh weights and saves model, processor and scores under `folder`; returns the scores."""
    from minibench.corpus import tokenizer_corpus
    from minibench.loop import train
    from minibench.models import new_model
    from unlearn.data.collator import Collator

    started = time.time()
    steps = STEPS[family] if steps is None else steps
    model, processor = new_model(family, tokenizer_corpus(), seed)
    collator = Collator(processor)
    log = logging.getLogger(__name__).info
    train(model, batches(collator, 32, seed), steps, lr, log=lambda step, loss: log("step %d loss %.3f", step, loss))
    from minibench.scores import base_scores
    from unlearn.atomic import write_json

    scores = base_scores(model, collator)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    record = {
        "command": f"python -m minibench.pretrain --family {family}", "seed": seed, "steps": steps,
        "seconds": round(time.time() - started), "scores": scores,
    }  # fmt: skip
    write_json(folder / "scores.json", record)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, required=True)
    parser.add_argument("--out", type=Path, default=None, help="folder to write (default: minibench/weights/<family>)")
    parser.add_argument(
        "--steps", type=int, default=None, help="optimiser steps (default: what made the shipped weights)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    print(pretrain(options.family, options.out or WEIGHTS / options.family, options.steps, options.seed))


if __name__ == "__main__":
    main()
