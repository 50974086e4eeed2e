"""ECO: disturbed prompts at inference in place of unlearning (Liu et al., 2406.07933).

A classifier decides which prompts ask for what shall be forgotten; those are read with disturbed embeddings, all others
as they are. The weights stay what they are: where the classifier misses, it is the original model that answers.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from unlearn.atomic import content_hash
from unlearn.config.eco import EcoSettings
from unlearn.config.settings import EvalSettings
from unlearn.data.collator import Collator, Prompt
from unlearn.data.content import source_contents
from unlearn.data.samples import SampleSource, draw
from unlearn.evaluation.classifier import Classifier, check_pictures, picture_features, word_features
from unlearn.evaluation.corruption import Corruption, Disturbed

BATCH = 16  # pictures at a time
Load = Callable[[], tuple[SampleSource, SampleSource | None]]


@dataclass(frozen=True)
class Eco:
    """What decides about a prompt, and what is done to it."""

    classifier: Classifier
    threshold: float
    corruption: Corruption

    @classmethod
    def fit(
        cls, settings: EcoSettings, model: Any, collator: Collator, forget: SampleSource, retain: SampleSource
    ) -> "Eco":
        """Trains the classifier on the prompts of both splits, each with the question of a first epoch."""
        sources = (forget, retain)
        if any(source.has_image(row) for source in sources for row in range(len(source))):
            check_pictures(model)
        words: list[Tensor] = []
        pictures: list[Tensor | None] = []
        for source in sources:
            for at in range(0, len(source), BATCH):
                samples = [source.sample(row, draw(0, row)) for row in range(at, min(at + BATCH, len(source)))]
                words += [word_features(sample["question"]) for sample in samples]
                pictures += picture_features(model, collator, [collator.encode_prompt(one) for one in samples])
        labels = torch.arange(len(words)) < len(forget)
        classifier = Classifier.fit(words, pictures, labels)
        corruption = Corruption(settings.corruption, settings.size, settings.strength)  # type: ignore[arg-type]
        return cls(classifier, settings.threshold, corruption)

    def disturbed(
        self, model: Any, collator: Collator, prompts: Sequence[Prompt], questions: Sequence[str]
    ) -> Disturbed:
        """Which of the prompts are read disturbed."""
        found = self.classifier.probabilities(questions, picture_features(model, collator, prompts))
        which = [probability >= self.threshold for probability in found]
        return Disturbed(prompts, which, self.corruption)


@dataclass(frozen=True)
class Splits:
    """The rows that the classifier learns from, read and checked, and a digest of them and of the settings."""

    settings: EcoSettings
    forget: SampleSource
    retain: SampleSource
    content: str

    def fit(self, model: Any, collator: Collator) -> Eco:
        return Eco.fit(self.settings, model, collator, self.forget, self.retain)


def eco_splits(settings: EvalSettings, load: Load | None, collator: Collator) -> Splits | None:
    """None without `eco`. ValueError for a track without such splits, for rows that do not fit or are in both."""
    if settings.eco is None:
        return None
    forget, retain = load() if load is not None else (None, None)
    if forget is None or retain is None:
        raise ValueError(
            "eco needs a forget and a retain split to learn from; this track hands none to the evaluation."
        )
    contents = [source_contents(source, collator.check) for source in (forget, retain)]
    return Splits(settings.eco, forget, retain, content_hash(json.dumps(asdict(settings.eco)), *contents))
