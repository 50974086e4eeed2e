"""What the data and the start model of a run hold, as digests: taken while every row is looked at anyway."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from unlearn.atomic import content_hash
from unlearn.contents import Digests
from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem, Sample, SampleSource, draw
from unlearn.models.start import Start, processor_digest


def start_contents(start: Start, collator: Collator, digests: Digests, reference: str | None = None) -> dict[str, str]:
    """The model that training starts from, its processor with the template that is used, and a method's reference."""
    found = {"weights": start.weights(digests), "processor": processor_contents(start.processor, collator, digests)}
    return found | ({"reference": Start.of(reference).weights(digests)} if reference else {})


def processor_contents(path: str, collator: Collator, digests: Digests) -> str:
    """The files of a processor and the template that the prompts are written with (its own, or the family's)."""
    tokenizer = collator.tokenizer
    templates = [getattr(each, "chat_template", None) for each in (collator.processor, tokenizer)]
    return content_hash(processor_digest(path, digests), repr([collator.template.tags, *templates]))


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


class Contents:
    """Hashes samples on their way to a check that looks at all of them anyway: pictures are opened once for both."""

    def __init__(self, without: Iterable[str] = ()) -> None:
        self.without, self._hash = frozenset(without), hashlib.sha256()

    def passing(self, samples: Iterable[Sample], also: Iterable[str] = ()) -> Iterator[Sample]:
        """The samples, unchanged. A question `without` (of a word list, drawn anew each time) is not the data's."""
        for sample in samples:
            image, question = sample["image"], sample["question"]
            answers = sample["answer"] if isinstance(sample["answer"], list) else [sample["answer"]]
            pixels = None if image is None else f"{image.mode} {image.size} {_digest(image.tobytes())}"
            asked = None if question in self.without else question
            self._hash.update(content_hash(asked, *answers, *also, pixels).encode())
            yield sample

    def digest(self) -> str:
        return self._hash.hexdigest()[:20]


def source_contents(source: SampleSource, check: Callable[[Iterable[Sample]], None]) -> str:
    """The content of a split, every row of which passes through `check`."""
    contents = Contents(line for lines in lists_of(source).values() for line in lines)
    check(contents.passing(source.sample(index, draw(0, index)) for index in range(len(source))))
    return contents.digest()


def item_contents(items: Sequence[EvalItem], check: Callable[[Iterable[Sample]], None]) -> str:
    """The content of a task's items, each of which passes through `check` as a sample with all of its answers."""
    contents = Contents()

    def every() -> Iterator[Sample]:
        for place in range(len(items)):  # asked by number: a lazy sequence need not know where to stop
            item = items[place]
            answers = [str(item.sample["answer"]), item.base_answer, *item.wrong_answers]
            whole: Sample = {**item.sample, "answer": answers}
            yield from contents.passing([whole], also=(item.row_id, item.author or ""))

    check(every())
    return contents.digest()


def rows_of(source: Any) -> Any:
    """The rows of a split, where a source or a task's items keep them; None of one that does not."""
    return getattr(getattr(source, "source", source), "rows", None)


def lists_of(source: SampleSource | None) -> Mapping[str, Sequence[str]]:
    """The lists of lines that a source draws questions from, by name, where it has such."""
    return getattr(source, "word_lists", {})
