"""The original model writes the answers that a method trains on, once, before training (data/written.py).

A model of its own is loaded for that and dropped again: nothing is trained yet, so it is the model as it was, whatever
the engine does with the one that is trained. Processes share the rows and gather what they wrote.
"""

import gc
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from unlearn.config.settings import ForgetSettings
from unlearn.data.collator import Collator
from unlearn.data.samples import Sample
from unlearn.data.views import ForgetRetainDataset
from unlearn.data.written import WRITTEN, Answer, Answers, answers_path, load_answers, recipe_of, recipes, save_answers
from unlearn.distributed.processes import from_main, process_state, world_size
from unlearn.evaluation.corruption import Corruption, Disturbed
from unlearn.evaluation.generation import generate_greedy, generate_sampled, stop_token_ids
from unlearn.evaluation.prefix import read_prefix
from unlearn.models.loading import load_model
from unlearn.models.start import Start
from unlearn.runs.record import Run

logger = logging.getLogger(__name__)
AGAIN = 5  # times an answer is drawn again


@dataclass(frozen=True)
class Task:
    """One thing to ask: about a row of the forget split, with a question of the bank or ("") its own."""

    row: int
    question: str = ""


def write_answers(
    settings: ForgetSettings, start: Start, dataset: ForgetRetainDataset, collator: Collator, run: Run
) -> None:
    """Gives `dataset` the answers of its written views: those of the run's folder where they are of this recipe, else
    new ones. Nothing is written to the folder yet (`keep_answers`).

    Raises:
        ValueError: a row whose answers, to each of its questions, are the true one or empty, however often they are
            drawn; it is named.
    """
    views = {name: view for name, view in dataset.views.items() if name in WRITTEN}
    ids = row_ids(dataset) if views else []
    model: Any = None
    for name, recipe in whole_recipes(settings, dataset, run).items():
        known = load_answers(answers_path(run.folder, name), recipe, ids)
        known = from_main(known) if world_size() > 1 else known
        if known is None:
            model = model or _original(settings, start)
            known = Writer(model, collator, dataset, name, settings.seed, max(8, settings.batch_size)).write()
        dataset.written[name] = known
    del model
    gc.collect()
    if views and torch.cuda.is_available():
        torch.cuda.empty_cache()


def keep_answers(settings: ForgetSettings, dataset: ForgetRetainDataset, run: Run) -> None:
    """Writes the answers that `dataset` was given to the run's folder; the main process calls this."""
    for name, recipe in whole_recipes(settings, dataset, run).items():
        path, ids = answers_path(run.folder, name), row_ids(dataset)
        if load_answers(path, recipe, ids) != dataset.written[name]:
            save_answers(path, recipe, ids, dataset.written[name])


def whole_recipes(settings: ForgetSettings, dataset: ForgetRetainDataset, run: Run) -> dict[str, dict[str, Any]]:
    """By view, all that its answers follow from: what to ask, the seed, and the contents of model and data."""
    made_from = run.record["made_from"]
    of = {"model": made_from["start"], "data": made_from["data"]["forget"], "seed": settings.seed}
    return {name: {**recipe, **of} for name, recipe in recipes(list(dataset.views.values())).items()}


def row_ids(dataset: ForgetRetainDataset) -> list[str]:
    source = dataset.sources["forget"]
    assert source is not None
    return [dataset.sample("forget", row)["id"] for row in range(len(source))]


class Writer:
    """Asks a model about the rows of the forget split, as the recipe of a view says."""

    def __init__(
        self, model: Any, collator: Collator, dataset: ForgetRetainDataset, view: str, seed: int, batch_size: int
    ) -> None:
        self.model, self.collator, self.dataset, self.view = model, collator, dataset, view
        recipe = recipe_of(dataset.views[view])
        assert recipe is not None
        self.recipe, self.seed, self.batch_size = recipe, seed, batch_size
        self.stop = stop_token_ids(model, collator)

    def write(self) -> Answers:
        """The answers of all rows, on every process; of several questions about a row those whose answers will do.
        ValueError names a row that has none."""
        found = self._shared([task for batch in self._mine() for task in batch])
        answers: Answers = [[] for _ in range(len(self._source()))]
        wanted = [task for task in self._tasks() if len(found[task]) == self.recipe.answers]
        for task in wanted:
            answers[task.row] += [Answer(task.question, text) for text in found[task]]
        for task in self._tasks():
            if not answers[task.row]:
                sample = self.dataset.sample("forget", task.row)
                raise ValueError(
                    f"The start model's answer for the view {self.view} of forget row {sample['id']} is the true one "
                    f"({str(sample['answer'])[:80]!r}) or empty, {AGAIN} times again as well: it cannot write the "
                    "answers that this method trains on. Take another method, or leave the row out."
                )
        if self.recipe.questions:
            if left := len(self._tasks()) - len(wanted):
                logger.info("%d of %d questions are answered by the true answer or nothing, and are left out",
                            left, len(self._tasks()))  # fmt: skip
            self._warn_of_names(answers)
        return answers

    def _warn_of_names(self, answers: Answers) -> None:
        """A model may name the person whatever it is asked."""
        own = [(self._source().subject(row), answer.text) for row, texts in enumerate(answers) for answer in texts]
        if naming := sum(bool(person) and person.casefold() in text.casefold() for person, text in own):
            logger.warning(
                "%d of %d answers to questions that ask for nobody name the person to forget.", naming, len(own)
            )

    def _source(self) -> Any:
        return self.dataset.sources["forget"]

    def _tasks(self) -> list[Task]:
        """Row by row; of questions about pictures only where there is one."""
        rows = range(len(self._source()))
        if not self.recipe.questions:
            return [Task(row) for row in rows]
        return [Task(row, q) for row in rows if self._source().has_image(row) for q in self.recipe.questions]

    def _mine(self) -> Iterator[list[Task]]:
        """This process's share, in batches of one modality."""
        batches = []
        for image in (False, True):
            tasks = [task for task in self._tasks() if self._source().has_image(task.row) == image]
            batches += [tasks[at : at + self.batch_size] for at in range(0, len(tasks), self.batch_size)]
        rank, of = (process_state().process_index, world_size()) if world_size() > 1 else (0, 1)
        yield from batches[rank::of]

    def _shared(self, mine: Sequence[Task]) -> dict[Task, list[str]]:
        found: dict[Task, list[str]] = {}
        for at in range(0, len(mine), self.batch_size):
            found |= self._answered(mine[at : at + self.batch_size])
        if world_size() == 1:
            return found
        from accelerate.utils import gather_object

        return dict(gather_object(list(found.items())))

    def _answered(self, tasks: Sequence[Task]) -> dict[Task, list[str]]:
        """Up to `answers` texts of each task: neither empty nor the true answer."""
        found: dict[Task, list[str]] = {task: [] for task in tasks}
        for again in range(AGAIN + 1):
            open_ = [task for task in tasks if len(found[task]) < self.recipe.answers]
            if not open_:
                break
            for task, texts in zip(open_, self._drawn(open_, again), strict=True):
                truth = _plain(str(self.dataset.sample("forget", task.row)["answer"]))
                good = [text for text in texts if _plain(text) not in ("", truth)]
                found[task] = (found[task] + good)[: self.recipe.answers]
        return found

    def _drawn(self, tasks: Sequence[Task], again: int) -> list[list[str]]:
        """`answers` texts of each task. What is likeliest is so again and again, so a second try is drawn."""
        samples = [self._asked(task) for task in tasks]
        prompts = [self.collator.encode_prompt(sample) for sample in samples]
        disturbed = Disturbed(prompts, [True] * len(prompts), Corruption()) if self.recipe.corrupted else None
        prefix = read_prefix(self.model, self.collator.pad([(prompt, ()) for prompt in prompts])["inputs"], disturbed)
        how: dict[str, Any] = {"max_new_tokens": self.recipe.max_new_tokens, "stop_ids": self.stop}
        if self.recipe.temperature == 0 and not again:
            tokens = [[own] for own in generate_greedy(self.model, prefix, **how)]
        else:
            ids = [f"{self.view}/{task.row}/{task.question}/{again}" for task in tasks]
            temperature = self.recipe.temperature or 1.0
            tokens = generate_sampled(
                self.model, prefix, ids, samples=self.recipe.answers, seed=self.seed, temperature=temperature, **how
            )
        decode: Callable[..., str] = self.collator.tokenizer.decode
        return [[decode(text, skip_special_tokens=True).strip() for text in own] for own in tokens]

    def _asked(self, task: Task) -> Sample:
        sample = self.dataset.sample("forget", task.row)
        question = task.question or sample["question"]
        return {**sample, "question": self.recipe.prompt.format(question=question, answer=sample["answer"])}


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _original(settings: ForgetSettings, start: Start) -> Any:
    """The model that training starts from, whole, on this process's device."""
    gpu = torch.cuda.is_available()
    half = settings.precision == "bf16" or (settings.precision == "auto" and gpu)
    with _loaded_whole():
        model = load_model(
            start,
            dtype=torch.bfloat16 if half else torch.float32,
            attn_implementation=settings.attn_implementation,
            quantization=settings.quantization,
        )
    logger.info("the start model writes the answers that the method trains on")
    return model.to(f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}") if gpu and not settings.quantization else model


@contextmanager
def _loaded_whole() -> Iterator[None]:
    """FSDP's launcher lets only one process read the weights; here each needs them."""
    key = "FSDP_CPU_RAM_EFFICIENT_LOADING"
    before = os.environ.pop(key, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[key] = before
