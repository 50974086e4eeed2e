"""Samples -> rows of ids, and padded tensors. Prompt and answer are tokenised apart, so labels cannot drift from the
answer."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unlearn.data.samples import KEY_BYTES, Sample
from unlearn.data.templates import PromptTemplate, prompt_template
from unlearn.models.pictures import Picture, PictureReader, join_inputs
from unlearn.models.trees import Prompt, Row
from unlearn.scoring import IGNORE_INDEX

IMAGE_CACHE_BYTES = 256 * 2**20


class Collator:
    """Turns items `{"forget": sample, "retain": sample, ...}` into `{"forget": view, "retain": view, ...}`. A view is

        {"rows": [(Prompt, answer ids with the end token), ...],
         "keys": [bytes, ...]}                                      # what each row holds, digested (`row_key`)

    The training forward lays these out (models/layout.py); `pad` makes the tensors that an evaluation reads. A sample
    with K answers becomes K rows, answer-major: all items with answer 0, then 1, ...

    `vocabulary` is the number of the model's embeddings: a token id beyond them is an error that names it; None asks
    nothing.
    """

    def __init__(
        self,
        processor: Any,
        *,
        max_length: int = 2048,
        tags: tuple[str, str, str] | None = None,
        vocabulary: int | None = None,
    ) -> None:
        self.processor = processor
        self.max_length = max_length
        self.vocabulary = vocabulary
        self.template: PromptTemplate = prompt_template(processor, tags)
        self.tokenizer = self.template.tokenizer
        self.image_token_id: int | None = getattr(processor, "image_token_id", None)
        multimodal = hasattr(processor, "image_processor")
        self.pictures = PictureReader(processor, self.template.render, self.template.token_ids) if multimodal else None
        self._images: OrderedDict[str, Picture] = OrderedDict()
        self._image_bytes = 0
        self._tokens_of_size: dict[tuple[int, int], int] = {}

    @property
    def pad_id(self) -> int:
        """Any id does for padding, since masks come from lengths; some tokenizers have no pad token, others one that
        was added without a row of the embeddings."""
        pad = self.tokenizer.pad_token_id
        outside = pad is None or (self.vocabulary is not None and pad >= self.vocabulary)
        return self.template.end_id if outside else pad

    # ---- one sample -------------------------------------------------------------------------------------------------

    def encode_prompt(self, sample: Sample) -> Prompt:
        """The prompt of a sample as the model will see it. ValueError when an image meets a text-only model."""
        image, kind = sample["image"], self.pictures.answer_type if self.pictures else 0
        text, begun = self.template.prompt(sample)
        if image is None:
            ids = self._inside(self.template.token_ids(text + begun), sample["question"])
            names = self.pictures.text_types if self.pictures else []
            return Prompt(ids, token_inputs={name: [0] * len(ids) for name in names}, answer_type=kind)
        reader, key = self._reader(sample), sample["id"]
        if key not in self._images:
            self._remember(key, self._encode_image(image))
        picture = self._images[key]
        self._images.move_to_end(key)
        ids = self._inside(reader.expand(text, picture, begun), sample["question"])
        return Prompt(ids, picture.inputs, picture.key, picture.token_inputs(ids), kind)

    def _reader(self, sample: Sample) -> PictureReader:
        if self.pictures is None:
            raise ValueError(
                f"Sample {sample['id']} has an image, but this model reads text only; use the mm/ scripts."
            )
        return self.pictures

    def _encode_image(self, image: Any) -> Picture:
        assert self.pictures is not None
        return self.pictures.read(image)

    def _remember(self, key: str, picture: Picture) -> None:
        """Keeps processed images while they fit; a 48-pixel benchmark fits whole, 7B-sized images in part."""
        self._images[key] = picture
        self._image_bytes += _size(picture)
        while self._image_bytes > IMAGE_CACHE_BYTES and len(self._images) > 1:
            self._image_bytes -= _size(self._images.popitem(last=False)[1])

    def encode_answer(self, answer: str) -> list[int]:
        """Ids of an answer, its end token last."""
        return self._inside(self.template.answer_ids(answer), answer)

    def _inside(self, ids: list[int], text: str) -> list[int]:
        """`ids`, unless one of them has no embedding; the placeholder of pictures needs none."""
        if self.vocabulary is not None and max(ids) >= self.vocabulary:
            wrong = next((id_ for id_ in ids if id_ >= self.vocabulary and id_ != self.image_token_id), None)
            if wrong is None:
                return ids
            raise ValueError(
                f"{text[:80]!r} holds the token {self.tokenizer.convert_ids_to_tokens(wrong)!r} (id {wrong}), and the "
                f"model has embeddings for ids below {self.vocabulary}: use the tokenizer that belongs to the model "
                "(processor_path), or one without added tokens."
            )
        return ids

    def check(self, samples: Iterable[Sample]) -> None:
        """ValueError for the first sample that will not fit max_length: found before a model loads. Nothing is kept but
        how many tokens a picture of each size takes, so the processor sees one picture of each."""
        for sample in samples:
            image, extra = sample["image"], 0
            text = "".join(self.template.prompt(sample))
            if image is not None:
                self._reader(sample)  # raises: a text-only model
                if image.size not in self._tokens_of_size:
                    self._tokens_of_size[image.size] = self._encode_image(image).tokens
                extra = self._tokens_of_size[image.size]
            answers = [sample["answer"]] if isinstance(sample["answer"], str) else sample["answer"]
            ids = self._inside(self.template.token_ids(text), sample["question"])
            prompt = Prompt(ids + [self.pad_id] * extra)
            for answer in answers:
                self._fit(sample, prompt, self.encode_answer(answer))

    # ---- a batch ----------------------------------------------------------------------------------------------------

    def __call__(self, items: Sequence[Mapping[str, Sample]]) -> dict[str, dict[str, Any]]:
        return {view: self.rows([item[view] for item in items]) for view in items[0]}

    def rows(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """One view (see the class). ValueError names a sample that does not fit max_length."""
        answers = [[s["answer"]] if isinstance(s["answer"], str) else s["answer"] for s in samples]
        prompts = [self.encode_prompt(sample) for sample in samples]
        return self.arrange([
            (prompts[i], self._fit(samples[i], prompts[i], self.encode_answer(answers[i][k])))
            for k in range(len(answers[0]))
            for i in range(len(samples))
        ])  # fmt: skip

    def arrange(self, flat: Sequence[Row]) -> dict[str, Any]:
        """(prompt, answer ids) rows of one view as the class says."""
        return {"rows": list(flat), "keys": [row_key(prompt, ids) for prompt, ids in flat]}

    def _fit(self, sample: Sample, prompt: Prompt, answer: list[int]) -> list[int]:
        length = len(prompt.ids) + len(answer)
        if length > self.max_length:
            raise ValueError(
                f"Sample {sample['id']} needs {length} tokens ({len(prompt.ids)} prompt and image, {len(answer)} "
                f"answer), more than max_length={self.max_length}; raise max_length (answers and image tokens are "
                "never cut)."
            )
        return answer

    def pad(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Left-padded tensors of (prompt, answer ids) rows of any mixture; an empty answer leaves a bare prompt."""
        length = max(len(prompt.ids) + len(answer) for prompt, answer in rows)
        ids = torch.full((len(rows), length), self.pad_id)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for row, (prompt, answer) in enumerate(rows):
            joined = torch.tensor([*prompt.ids, *answer])
            ids[row, length - len(joined) :] = joined
            mask[row, length - len(joined) :] = 1
            if len(answer):
                labels[row, length - len(answer) :] = joined[len(prompt.ids) :]
        inputs = {"input_ids": ids, "attention_mask": mask}
        for name in {name: None for prompt, _ in rows for name in prompt.token_inputs}:
            inputs[name] = self._token_input(name, rows, length)
        images = [prompt.image_inputs for prompt, _ in rows if prompt.image_inputs]
        if images:
            inputs |= {name: join_inputs([image[name] for image in images]) for name in images[0]}
        return {"inputs": inputs, "labels": labels, "answer_length": max(len(answer) for _, answer in rows)}

    def _token_input(self, name: str, rows: Sequence[Row], length: int) -> Tensor:
        """A per-token input beside the ids: 0 for padding, the model's value for answers."""
        values = torch.zeros(len(rows), length, dtype=torch.long)
        for row, (prompt, answer) in enumerate(rows):
            own = [*prompt.token_inputs.get(name, [0] * len(prompt.ids)), *[prompt.answer_type] * len(answer)]
            values[row, length - len(own) :] = torch.tensor(own)
        return values


def row_key(prompt: Prompt, answer: Sequence[int]) -> bytes:
    """Digest of all that a model reads of a row: its ids, where its answer starts, and its picture."""
    numbers = " ".join(map(str, (len(prompt.ids), *prompt.ids, *answer)))
    return hashlib.blake2b(numbers.encode() + b"|" + prompt.image_key, digest_size=KEY_BYTES).digest()


def _size(picture: Picture) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in picture.inputs.values())
