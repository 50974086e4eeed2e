"""What a processor makes of a picture: prompts with their placeholders expanded, and the tensors beside them.

A processor turns one placeholder of a prompt into the tokens of a picture, with whatever stands around them (InternVL's
`<img>` pair, Gemma 3's newlines, Llama 4's tile separators): that text is taken from the processor itself, as it hands
it to its tokenizer. What it returns is either per token (a number for each of its ids) or per picture.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearn.models import compat
from unlearn.models.vision import ANSWER_TYPE, PER_PICTURE, PER_TOKEN, TESTED, feature_count, vision_class

logger = logging.getLogger(__name__)

PROBE = "Who is in the picture?"
KEY_BYTES = 16


def join_inputs(parts: Sequence[Tensor]) -> Tensor:
    """An input of several pictures as one, one after another, with zeros at the end of an axis where pictures differ
    (tiles, rows, columns), as processors pad them."""
    if len({part.shape[1:] for part in parts}) > 1:
        largest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
        parts = [
            F.pad(
                part, [n for size, goal in zip(part.shape[:0:-1], largest[::-1], strict=True) for n in (0, goal - size)]
            )
            for part in parts
        ]
    return torch.cat(list(parts))


@dataclass(frozen=True)
class Picture:
    """What a processor makes of one picture.

    Args:
        before, after: the text around a question, the tokens of the picture among it.
        tokens: how many tokens longer a prompt is than with its placeholder unexpanded.
        inputs: tensors of the picture, by name.
        types: per-token inputs (token_type_ids, ...): name -> id -> value; ids not there have 0.
        key: digest of `inputs`.
    """

    before: str
    after: str
    tokens: int
    inputs: dict[str, Tensor]
    types: dict[str, dict[int, int]]
    key: bytes

    def prompt(self, text: str, frame: tuple[str, str]) -> str:
        """A rendered prompt with its placeholder expanded. `frame`: what stands around the question before that."""
        return self.before + text[len(frame[0]) : len(text) - len(frame[1])] + self.after

    def token_inputs(self, ids: Sequence[int]) -> dict[str, list[int]]:
        return {name: [values.get(token, 0) for token in ids] for name, values in self.types.items()}


class PictureReader:
    """Reads pictures with a processor, and checks that ids of a prompt are those of the processor for the same message.

    Args:
        render: (question, with a picture) -> prompt, its placeholder unexpanded.
        token_ids: prompt -> ids.
    Raises:
        ValueError: a processor that cannot read a picture, or whose ids are others than those of its expanded text.
    """

    def __init__(
        self, processor: Any, render: Callable[[str, bool], str], token_ids: Callable[[str], list[int]]
    ) -> None:
        from PIL import Image

        self.processor, self.token_ids = processor, token_ids
        self.raw = render(PROBE, True)
        self.frame = _around(self.raw, type(processor).__name__)
        bos = processor.tokenizer.bos_token
        self.add_special = not (bos and self.raw.startswith(bos))
        self.answer_type = ANSWER_TYPE.get(type(processor).__name__, 0)
        self.ignored: frozenset[str] = frozenset()
        self.config: Any = None  # of the model that shall read the pictures, once `fit` knows it
        self.probe = self.read(Image.new("RGB", (64, 48), (90, 120, 200)))
        self.given = [*self.probe.inputs, *self.probe.types]

    @property
    def counts_tokens(self) -> bool:
        """Whether the image tokens of each prompt are checked against the features that the model makes of it."""
        return self.config is not None and feature_count(self.config, self.probe.inputs) is not None

    @property
    def text_types(self) -> list[str]:
        """Per-token inputs that rows without a picture need too (Gemma 3 refuses to train without)."""
        return [name for name in self.given if name == "token_type_ids" and name not in self.ignored]

    def fit(self, config: Any) -> None:
        """Checks that what a picture becomes is what the class of `config` takes; drops per-token inputs it does not.

        Raises:
            ValueError: the processor of another family.
        """
        model = vision_class(config)
        if model is None:
            return
        self.config = config
        name, inputs = type(self.processor).__name__, compat.forward_inputs(model)
        self.ignored = frozenset(key for key in self.given if key in PER_TOKEN and key not in inputs)
        unknown = [key for key in self.given if key not in inputs and key not in self.ignored]
        listed = compat.processor_class_name(config.model_type)
        missing = [key for key in PER_PICTURE if key in inputs and key not in self.given] if name != listed else []
        if unknown or missing:
            problem = f"gives {', '.join(unknown)}, which it does not take" if unknown else f"gives no {missing[0]}"
            raise ValueError(
                f"model type {config.model_type!r} and its processor {name} do not fit: {name} {problem}. Take the "
                f"files of {listed or 'its own processor'} from the model's hub page. Supported model types: "
                f"{', '.join(TESTED)}."
            )
        if config.model_type not in TESTED:
            logger.warning("model type %s fits the contract, but is none of the tested ones (docs/models.md)",
                           config.model_type)  # fmt: skip

    def read(self, image: Any) -> Picture:
        """The processor's view of one picture (RGB). One call of the processor."""
        name = type(self.processor).__name__
        try:
            with _heard(self.processor) as texts:
                encoded = self.processor(
                    text=[self.raw], images=[image], return_tensors="pt", add_special_tokens=self.add_special
                )
        except (TypeError, KeyError, AttributeError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"the processor {name} cannot read a picture ({type(error).__name__}: {error}); check its files, "
                f"processor_config.json and preprocessor_config.json, against those on the model's hub page."
            ) from error
        ids = encoded["input_ids"][0].tolist()
        expanded = texts[-1]
        if self.token_ids(expanded) != ids:
            raise ValueError(
                f"the processor {name} gives other ids than its tokenizer for the same text ({len(ids)} ids, "
                f"{expanded[:40]!r}...); its prompts cannot be built from their parts."
            )
        before, after = _around(expanded, name)
        inputs, types = _sort_inputs(encoded, ids)
        types = {key: values for key, values in types.items() if key not in self.ignored}
        return Picture(before, after, len(ids) - len(self.token_ids(self.raw)), inputs, types, _digest(inputs))

    def expand(self, text: str, picture: Picture, begun: str = "") -> list[int]:
        """Ids of a rendered prompt with its picture; `begun`: what the model's turn begins with already.

        Raises:
            ValueError: the template put the question elsewhere, or the prompt has not one image token for each feature.
        """
        before, after = self.frame
        if not (text.startswith(before) and text.endswith(after)):
            raise ValueError(
                f"the chat template writes something else around this question than around others: {text!r}"
            )
        ids = self.token_ids(picture.prompt(text, self.frame) + begun)
        features = None if self.config is None else feature_count(self.config, picture.inputs)
        if features is not None and (tokens := ids.count(self.config.image_token_id)) != features:
            raise ValueError(
                f"the prompt {text[:80]!r} has {tokens} image tokens, and the model makes {features} features of its "
                "picture; check the processor's patch and merge sizes against the model's config.json."
            )
        return ids


def _around(text: str, name: str) -> tuple[str, str]:
    before, found, after = text.partition(PROBE)
    if not found:
        raise ValueError(f"the chat template of {name} changes the question or leaves it out: {text!r}")
    return before, after


def _sort_inputs(encoded: Mapping[str, Any], ids: list[int]) -> tuple[dict[str, Tensor], dict[str, dict[int, int]]]:
    """A processor's output for one row: (per picture, per token as id -> value)."""
    inputs: dict[str, Tensor] = {}
    types: dict[str, dict[int, int]] = {}
    for name, value in encoded.items():
        if name in ("input_ids", "attention_mask", "labels"):
            continue
        value = torch.as_tensor(value)
        if name not in PER_TOKEN:
            inputs[name] = value
            continue
        known: dict[int, int] = {}
        for token, kind in zip(ids, value[0].tolist(), strict=True):
            if known.setdefault(token, kind) != kind:
                raise ValueError(f"{name} is no function of the token here; such processors are not supported.")
        types[name] = {token: kind for token, kind in known.items() if kind}
    return inputs, types


def _digest(inputs: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for name, value in sorted(inputs.items()):
        digest.update(f"{name} {tuple(value.shape)} ".encode() + value.contiguous().numpy().tobytes())
    return digest.digest()


@contextmanager
def _heard(processor: Any) -> Iterator[list[str]]:
    """The texts that `processor` hands to its tokenizer: prompts with their placeholders expanded."""
    texts: list[str] = []
    tokenizer = processor.tokenizer

    class Listener:
        def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
            texts.extend([text] if isinstance(text, str) else text)
            return tokenizer(text, *args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

    processor.tokenizer = Listener()
    try:
        yield texts
    finally:
        processor.tokenizer = tokenizer
