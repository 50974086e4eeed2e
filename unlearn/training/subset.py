"""The same few forget and retain rows, scored again and again while a model trains, on any number of processes.

Per split, means over the rows, both in [0, 1] and both parts of the leaderboard's metrics:

    probability   p(answer)^(1/T) of the row's own answer (metrics/probability.py), by the training forward
    rouge         ROUGE-L recall of a greedy generation (metrics/rouge.py), cut at the longest answer of the rows

Rows are drawn by seed alone, each with one fixed request. Batches are cut over all rows and then dealt to the
processes, so a number does not depend on how many there are. Nothing is drawn from torch's generators.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from unlearn.data.collator import Collator
from unlearn.data.samples import Sample, SampleSource, draw
from unlearn.evaluation.generation import generate_greedy, stop_token_ids
from unlearn.evaluation.prefix import read_prefix
from unlearn.evaluation.recorded import Steps
from unlearn.metrics.probability import answer_probability
from unlearn.metrics.rouge import rouge_recall
from unlearn.models.forward import score_views

WATCH = 6  # what these draws are for, beside those of views.py


class Place(NamedTuple):
    """A row of a split."""

    split: str
    row: int


@dataclass(frozen=True)
class Subset:
    """Up to `items` rows of each split that is there, drawn by `seed`."""

    sources: Mapping[str, SampleSource]
    items: int
    seed: int

    def places(self) -> list[Place]:
        """The rows, text rows first: a batch holds one modality."""
        chosen = [
            Place(split, int(index))
            for split, source in self.sources.items()
            for index in draw(self.seed, WATCH, split == "retain").permutation(len(source))[: self.items]
        ]
        return sorted(chosen, key=lambda place: (self.sources[place.split].has_image(place.row), *place))

    def sample(self, place: Place) -> Sample:
        return self.sources[place.split].sample(
            place.row, draw(self.seed, 0, place.row, WATCH, place.split == "retain")
        )

    def share(self, batch_size: int, rank: int, world_size: int) -> list[list[Place]]:
        """The batches of one process. Every process gets as many, of the same modalities in the same order (some are
        scored twice for that, and count once): sharded engines would stall otherwise."""
        places, mine = self.places(), []
        for image in (False, True):
            rows = [place for place in places if self.sources[place.split].has_image(place.row) == image]
            batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
            batches += (batches * world_size)[: -len(batches) % world_size]
            mine += batches[rank::world_size]
        return mine


@torch.no_grad()
def measure_subset(trainer: Any, collator: Collator, subset: Subset, *, batch_size: int) -> dict[str, float]:
    """{"forget_probability": mean, "forget_rouge": mean, "retain_...": ...}, the same on every process.

    ROUGE is left out where an engine shards the weights: generations of different lengths would make its processes wait
    for each other. The model is in eval mode meanwhile and back in its own mode afterwards.
    """
    from accelerate.utils import gather_object

    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    model = trainer.model_wrapped if trainer.is_deepspeed_enabled else trainer.model
    answers = {place: str(subset.sample(place)["answer"]) for place in subset.places()}
    longest = max(len(collator.encode_answer(answer)) for answer in answers.values())
    training, steps = model.training, Steps()
    model.eval()
    try:
        found: dict[Place, tuple[float, str | None]] = {}
        with trainer.accelerator.autocast():
            for batch in subset.share(batch_size, trainer.accelerator.process_index, trainer.accelerator.num_processes):
                samples = [subset.sample(place) for place in batch]
                scored = score_views(model({"watched": collator.rows(samples)}))["watched"]
                losses = (-scored.sequence_logps() / scored.lengths()).tolist()
                texts: Any = [None] * len(batch)
                if not sharded:
                    texts = _generate(trainer.student.model, collator, samples, longest, steps)
                found |= dict(zip(batch, zip(losses, texts, strict=True), strict=True))
    finally:
        model.train(training)
    everything = dict(gather_object(list(found.items())))
    return _means({place: everything[place] for place in answers}, answers)


def _generate(model: Any, collator: Collator, samples: list[Sample], max_new_tokens: int, steps: Steps) -> list[str]:
    prompts = [collator.encode_prompt(sample) for sample in samples]
    prefix = read_prefix(model, collator.pad([(prompt, ()) for prompt in prompts])["inputs"])
    stop = stop_token_ids(model, collator)
    generated = generate_greedy(model, prefix, max_new_tokens=max_new_tokens, stop_ids=stop, steps=steps)
    return [collator.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in generated]


def _means(found: Mapping[Place, tuple[float, str | None]], answers: Mapping[Place, str]) -> dict[str, float]:
    means: dict[str, float] = {}
    for split in dict.fromkeys(place.split for place in sorted(found)):
        own = [place for place in found if place.split == split]
        losses = [found[place][0] for place in own]
        means[f"{split}_probability"] = float(np.mean(answer_probability(losses)))
        texts = [text for place in own if (text := found[place][1]) is not None]
        if texts:
            means[f"{split}_rouge"] = float(
                np.mean(rouge_recall(texts, [answers[place] for place in own])["rougeL_recall"])
            )
    return means
