"""Prompts and answers as a training forward groups them: a prompt with all answers that views give it is a tree, and
rows hold trees. models/layout.py draws them."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from unlearn.models import compat
from unlearn.models.families import inner_model

MULTIPLE = 32  # tokens: a row's length is a multiple of it, so that kernels meet few shapes
LENGTHS = 8  # row lengths that are tried, from the shortest possible one upwards
# Model types, of wrappers and of decoders, whose layers all attend causally and that take a mask [B, 1, L, L] as it is;
# each has a test of the layout (tests/unlearn/models/test_layout.py).
PLAIN = frozenset((
    "llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "idefics3", "smolvlm",
    "mistral3", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "llama", "mistral", "qwen2", "phi", "stablelm",
    "gpt_neox",
))  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """A tokenised question: ids with the image tokens expanded, the tensors of its image (none for text), their digest,
    and what the model wants to know of each token besides (token_type_ids, ...); `answer_type` is that of answers."""

    ids: list[int]
    image_inputs: dict[str, Tensor] = field(default_factory=dict)
    image_key: bytes = b""
    token_inputs: dict[str, list[int]] = field(default_factory=dict)
    answer_type: int = 0

    def pin_memory(self) -> "Prompt":
        """What a DataLoader with `pin_memory` asks for: pictures are then copied to a GPU without waiting."""
        return replace(self, image_inputs={name: value.pin_memory() for name, value in self.image_inputs.items()})


Row = tuple[Prompt, Sequence[int]]  # and the ids of its answer, the end token last
View = Hashable  # a view's name, or (micro-batch, name)


@dataclass
class Tree:
    """A prompt and its answers: (view, row of the view, ids)."""

    prompt: Prompt
    answers: list[tuple[View, int, Sequence[int]]]

    def __len__(self) -> int:
        """Tokens."""
        return len(self.prompt.ids) + sum(len(ids) for _, _, ids in self.answers)


def trees(views: Mapping[View, Sequence[Row]], *, share: bool = True) -> list[Tree]:
    """The rows of all views by their prompts (equal ids, equal picture); unless `share`, each row is its own tree."""
    found: dict[Hashable, Tree] = {}
    for view, rows in views.items():
        for place, (prompt, ids) in enumerate(rows):
            key = (tuple(prompt.ids), prompt.image_key) if share else (view, place)
            found.setdefault(key, Tree(prompt, [])).answers.append((view, place, ids))
    return list(found.values())


def first_fit(found: Iterable[Tree], length: int) -> list[list[Tree]]:
    """Rows of at most `length` tokens: pictures first, since text fits behind them, and long trees before short."""
    rows: list[list[Tree]] = []
    room: list[int] = []
    for tree in sorted(found, key=lambda tree: (not tree.prompt.image_inputs, -len(tree))):
        at = next((row for row, free in enumerate(room) if free >= len(tree)), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(length)
        rows[at].append(tree)
        room[at] -= len(tree)
    return rows


def fill_rows(found: Sequence[Tree], *, pack: bool = True) -> tuple[list[list[Tree]], int]:
    """The rows and their length: of the multiples of 32 from the longest tree up the one with the fewest tokens in all,
    padding included. Unless `pack`, a tree a row."""
    least = -(-max(len(tree) for tree in found) // MULTIPLE)
    if not pack:
        return [[tree] for tree in found], least * MULTIPLE
    tried = [(first_fit(found, MULTIPLE * n), MULTIPLE * n) for n in range(least, least + LENGTHS)]
    return min(tried, key=lambda each: len(each[0]) * each[1])


def why_apart(model: Any) -> str | None:
    """Why each answer must have a row of its own in this model, or None where answers share prompts and rows.

    A mask of ours would be refused, or would replace the model's own: pictures whose tokens see each other both ways,
    prompts read in both directions, sliding windows, attention in chunks.
    """
    config = inner_model(model).config
    text = config.get_text_config()
    if (attention := compat.attends_by(text)) not in ("sdpa", "eager"):
        return f"{attention} takes no mask of a row's own"
    if strange := {config.model_type, text.model_type} - PLAIN:
        return f"{' and '.join(sorted(strange))} is not among the models known to attend plainly"
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(text, "sliding_window", None):
        return f"the attention of this {text.model_type} has a window"
    return None
