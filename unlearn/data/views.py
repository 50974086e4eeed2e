"""What a training step looks at: forget and retain items under the views a method declares, and in which order."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from unlearn.data.augment import augmented, noised
from unlearn.data.collator import Collator
from unlearn.data.samples import Sample, SampleSource, draw
from unlearn.data.written import WRITTEN, Answers, recipe_of
from unlearn.method import View

# What a generator is drawn for: kept apart so that adding one draw never changes another.
PROMPT, PARTNER, REFUSAL, RANDOM, AUGMENT, ORDER = range(6)
NOISE, PICTURE, ANSWER = 7, 8, 9  # 6 is subset.py's

logger = logging.getLogger(__name__)


class Draw(NamedTuple):
    """What the sampler asks the dataset for. The epoch travels with the index: a dataset-side epoch freezes at 0 in
    worker processes and behind sharded loaders."""

    epoch: int
    index: int  # type: ignore[assignment]
    pass_name: str | None = None
    micro_batch: int = 0  # which batch of its optimiser step it is in


class ForgetRetainDataset(Dataset):
    """Items `{"forget": Sample, "retain": Sample, "idk": ..., ...}`: one per row of the split an epoch passes over.

    The partner from the other split is drawn with replacement from (seed, epoch, index), a refusal from (seed, index).
    All views of a forget item share one prompt.

    Raises:
        ValueError: a view needs a split, refusals or other items that are not there.
    """

    def __init__(
        self,
        views: Sequence[View],
        *,
        forget: SampleSource | None,
        retain: SampleSource | None,
        refusals: Sequence[str] = (),
        seed: int = 0,
        epoch_over: str = "forget",
        retain_partner: str = "any",
        fixed_prompts: bool = False,
    ) -> None:
        self.views: dict[str, View] = {view.name: view for view in views}
        self.sources = {"forget": forget, "retain": retain}
        self.refusals = list(refusals)
        self.seed = seed
        self.epoch_over = epoch_over
        self.retain_partner = retain_partner
        self.fixed_prompts = fixed_prompts  # a forget item keeps its prompt in every epoch
        self.written: dict[str, Answers] = {}  # by view, what the original model wrote; given before training
        self._by_modality = {
            name: {image: [i for i in range(len(source)) if source.has_image(i) == image] for image in (False, True)}
            for name, source in self.sources.items()
            if source is not None
        }
        self._check()

    def _check(self) -> None:
        needed = {"retain" if name == "retain" else "forget" for name in self.views} | {self.epoch_over}
        for name in sorted(needed):
            if self.sources[name] is None:
                raise ValueError(
                    f"This method needs a {name} split ({', '.join(self.views)} are its views); set {name}_split."
                )
        if "idk" in self.views and not self.refusals:
            raise ValueError("This method answers forget questions with refusals, but the refusal bank is empty.")
        view = self.views.get("random")
        if view is not None:
            source = self.sources[view.source or "forget"]
            have = 0 if source is None else len(source) - (view.source == "forget")
            if have < view.k:
                raise ValueError(
                    f"{view.k} random answers are asked for, but the {view.source} split has only {have} other "
                    f"items; lower k."
                )
        self._check_pictures()

    def _check_pictures(self) -> None:
        rows = self._by_modality.get("forget", {False: [], True: []})
        if "noised" in self.views and not self.views["noised"].text:
            if not rows[True]:
                raise ValueError(
                    "This method's teacher is shown noise for the picture and a prefix before the question, but no "
                    "forget row has a picture and the prefix is empty: it would distil the model into itself. Set its "
                    "prefix (method_args.vgid.prefix)."
                )
            if rows[False]:
                logger.warning(
                    "%d of %d forget rows have no picture to put noise for, and the prefix is empty: on these the "
                    "model is distilled into itself.", len(rows[False]), len(rows[False] + rows[True]))  # fmt: skip
        if "other_image" in self.views and len(rows[True]) == 1:
            raise ValueError("The view other_image needs two forget rows with a picture; there is one.")
        if "anchor" in self.views:
            recipe_of(self.views["anchor"])  # raises: a bank that is missing or too small
            if not rows[True] or self.epoch_over != "forget":
                raise ValueError(
                    "This method asks about the pictures of forget rows, in batches that have one each or none: it "
                    f"needs forget rows with a picture (there are {len(rows[True])}) and epoch_over=forget."
                )

    def __len__(self) -> int:
        return self.length(None)

    def length(self, pass_name: str | None) -> int:
        """Rows of the split that an epoch, or a pass of it, goes over."""
        source = self.sources[pass_name or self.epoch_over]
        assert source is not None
        return len(source)

    def has_image(self, index: int, pass_name: str | None) -> bool:
        source = self.sources[pass_name or self.epoch_over]
        assert source is not None
        return source.has_image(index)

    def modalities(self, epoch: int, index: int, pass_name: str | None) -> tuple[bool, bool]:
        """Whether the item an epoch draws for a row, and its partner, have an image: what its step runs."""
        image = self.has_image(index, pass_name)
        over = pass_name or self.epoch_over
        other = "retain" if over == "forget" else "forget"
        source = self.sources[other]
        if source is None or not self._has_partner(over, pass_name):
            return image, image
        return image, source.has_image(self._partner(epoch, index, over, other))

    def _has_partner(self, over: str, pass_name: str | None) -> bool:
        return any((name == "retain") != (over == "retain") for name in ([pass_name] if pass_name else self.views))

    def __getitem__(self, key: Draw) -> dict[str, Any]:
        epoch, index, pass_name, micro_batch = key
        over = pass_name or self.epoch_over
        names = [pass_name] if pass_name else list(self.views)
        if "anchor" in names and not self.has_image(index, pass_name):
            names.remove("anchor")
        rows = {over: index}
        other = "retain" if over == "forget" else "forget"
        if self._has_partner(over, pass_name):
            rows[other] = self._partner(epoch, index, over, other)
        items = {name: self._view(name, epoch, index, rows) for name in names}
        return {"views": items, "epoch": epoch, "pass_name": pass_name, "micro_batch": micro_batch}

    def _partner(self, epoch: int, index: int, over: str, other: str) -> int:
        rng = draw(self.seed, epoch, index, PARTNER)
        source = self.sources[other]
        assert source is not None
        if self.retain_partner == "any":
            return int(rng.integers(len(source)))
        image = self.has_image(index, over)
        choices = self._by_modality[other][image]
        if not choices:
            raise ValueError(
                f"retain_partner=same_modality, but the {other} split has no {'image' if image else 'text'} rows."
            )
        return choices[int(rng.integers(len(choices)))]

    def sample(self, view: str, row: int) -> Sample:
        """One row of a view by itself, as the first epoch has it."""
        return self._view(view, 0, row, {"retain" if view == "retain" else "forget": row})

    def _view(self, name: str, epoch: int, index: int, rows: dict[str, int]) -> Sample:
        split = "retain" if name == "retain" else "forget"
        source = self.sources[split]
        assert source is not None
        row = rows[split]
        prompt_epoch = 0 if self.fixed_prompts and split == "forget" else epoch
        sample = source.sample(row, draw(self.seed, prompt_epoch, index, PROMPT, split == "retain"))
        if name == "idk":
            return {**sample, "answer": self._refusal(row, str(sample["answer"]))}
        if name == "random":
            return {**sample, "answer": self._random_answers(epoch, index, row, str(sample["answer"]))}
        if name == "augmented":
            return augmented(sample, source.subject(row), draw(self.seed, epoch, row, AUGMENT), epoch)
        if name == "noised":
            return noised(sample, self.views[name].text, draw(self.seed, epoch, row, NOISE), epoch)
        if name == "relabelled":
            return {**sample, "labels": self.views[name].text}
        if name == "no_image":
            return {**sample, "image": None}
        if name == "other_image":
            return self._other_image(sample, row)
        if name in WRITTEN:
            own = self.written[name][row]  # a KeyError: nobody has given them
            chosen = own[int(draw(self.seed, epoch, row, ANSWER).integers(len(own)))]
            return {**sample, "question": chosen.question or sample["question"], "answer": chosen.text}
        return sample

    def _refusal(self, row: int, answer: str) -> str:
        start = int(draw(self.seed, row, REFUSAL).integers(len(self.refusals)))
        for offset in range(len(self.refusals)):
            refusal = self.refusals[(start + offset) % len(self.refusals)]
            if refusal != answer:
                return refusal
        raise ValueError(f"Every refusal equals the true answer of forget row {row}; give the bank another line.")

    def _random_answers(self, epoch: int, index: int, row: int, answer: str) -> list[str]:
        view = self.views["random"]
        source = self.sources[view.source or "forget"]
        assert source is not None
        rng = draw(self.seed, epoch, index, RANDOM)
        answers: list[str] = []
        for other in rng.permutation(len(source)):
            if view.source == "forget" and other == row:
                continue
            text = str(source.sample(int(other), rng)["answer"])
            if text != answer:
                answers.append(text)
            if len(answers) == view.k:
                return answers
        raise ValueError(f"Fewer than {view.k} {view.source} items have another answer than forget row {row}; lower k.")

    def _other_image(self, sample: Sample, row: int) -> Sample:
        """With the picture of another person, or where no other is known, of another row."""
        if sample["image"] is None:
            return sample
        source = self.sources["forget"]
        assert source is not None
        rng, person = draw(self.seed, row, PICTURE), source.subject(row)
        rows = [other for other in self._by_modality["forget"][True] if other != row]
        others = [other for other in rows if person is None or source.subject(other) != person] or rows
        shown = source.sample(others[int(rng.integers(len(others)))], rng)
        return {**sample, "image": shown["image"], "id": shown["id"]}


class StepCollator:
    """Items of `ForgetRetainDataset` -> `{"views": {name: view}, "epoch": int, "pass_name": str | None}`. Beside the
    rows of the view `relabelled` lie the token ids that take the place of its labels (`Scored.with_labels`)."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        views = self.collator([item["views"] for item in items])
        for name, sample in items[0]["views"].items():
            if "labels" in sample:
                views[name]["labels"] = torch.tensor(self.collator.encode_answer(sample["labels"])[:-1])
        return {**items[0], "views": views}
