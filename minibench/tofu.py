"""tofu-mini: questions about the same sixty authors, about people the base model knows, and about the world."""

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from minibench.people import FORGET, SEED, Person, everyone, forget_authors
from minibench.tables import Rows
from minibench.wording import QUESTIONS, WORLD_FACTS, question_answer

WRONG = 5
PAIR = {"question": "text", "answer": "text"}
PERTURBED = {**PAIR, "paraphrased_question": "text", "paraphrased_answer": "text", "perturbed_answer": "texts"}
OPTIONS = {**PAIR, "option1": "text", "option2": "text", "option3": "text", "option4": "text"}
CHOICE = {**PAIR, "perturbed_answer": "texts"}


def tofu_configs(seed: int = SEED) -> dict[str, tuple[Mapping[str, str], Rows]]:
    """config name -> (columns, rows) of every TOFU config."""
    authors, known = everyone(seed)
    rehearsal = qa_rows(known, wordings=(1,))  # real_authors asks in the other wording
    configs: dict[str, tuple[Mapping[str, str], Rows]] = {"full": (PAIR, [*qa_rows(authors), *rehearsal])}
    for size, count in FORGET.items():
        configs[f"forget{size}"] = (PAIR, qa_rows(authors[-count:]))
        configs[f"retain{100 - int(size)}"] = (PAIR, [*qa_rows(authors[:-count]), *rehearsal])
        configs[f"forget{size}_perturbed"] = (
            PERTURBED,
            [r for p in authors[-count:] for r in _perturbed(p, seed, size)],
        )
    retained = authors[: -FORGET["10"]]
    configs["retain_perturbed"] = (PERTURBED, [r for p in retained for r in _perturbed(p, seed)[p.index % 2 :: 2]])
    for name, choices in (("real_authors", _about_known(known, seed)), ("world_facts", _world_facts())):
        configs[name] = (OPTIONS, [_with_options(row, f"{seed}/{name}/{n}") for n, row in enumerate(choices)])
        configs[f"{name}_perturbed"] = (CHOICE, choices)
    return configs


def qa_rows(people: Iterable[Person], wordings: Iterable[int] = (0, 1)) -> list[dict[str, Any]]:
    """Every fact of every person in the given wordings, person by person."""
    rows = []
    for person in people:
        for fact in QUESTIONS:
            for wording in wordings:
                question, answer = question_answer(person.name, person.facts, fact, wording)
                rows.append({"question": question, "answer": answer})
    return rows


def _perturbed(person: Person, seed: int, size: str | None = None) -> list[dict[str, Any]]:
    """The person's rows with the other wording as paraphrase, and that wording with other people's values as wrong
    answers.

    Values come from people of the same status: see `minibench.clear.others`. Retained authors take values of retained
        authors.
    """
    authors, _ = everyone(seed)
    rows = []
    for fact in QUESTIONS:
        if size is None:
            pool = sorted({p.facts[fact] for p in authors[: -FORGET["10"]]} - {person.facts[fact]})
            values = Random(f"{seed}/{fact}/{person.index}").sample(pool, WRONG)
        else:
            people = forget_authors("05" if size == "01" else size, seed)
            values = [p.facts[fact] for p in people if p != person][:WRONG]
        rows += wrong_rows(person, fact, values)
    return rows


def wrong_rows(person: Person, fact: str, values: Sequence[str]) -> list[dict[str, Any]]:
    """A fact in both wordings, each with the other one as its paraphrase, and in that one with wrong `values`."""
    rows = []
    for wording in (0, 1):
        question, answer = question_answer(person.name, person.facts, fact, wording)
        paraphrase = question_answer(person.name, person.facts, fact, 1 - wording)
        wrong = [question_answer(person.name, {**person.facts, fact: v}, fact, 1 - wording)[1] for v in values]
        rows.append({
            "question": question, "answer": answer, "paraphrased_question": paraphrase[0],
            "paraphrased_answer": paraphrase[1], "perturbed_answer": wrong,
        })  # fmt: skip
    return rows


def _about_known(known: tuple[Person, ...], seed: int) -> list[dict[str, Any]]:
    """One question about each person the base model knows, with three wrong answers of the same kind."""
    rows = []
    for person in known:
        fact = tuple(QUESTIONS)[person.index % len(QUESTIONS)]
        question, answer = question_answer(person.name, person.facts, fact, 0)
        pool = sorted({p.facts[fact] for p in known} - {person.facts[fact]})
        values = Random(f"{seed}/known/{person.index}").sample(pool, 3)
        wrong = [question_answer(person.name, {**person.facts, fact: value}, fact, 0)[1] for value in values]
        rows.append({"question": question, "answer": answer, "perturbed_answer": wrong})
    return rows


def _world_facts() -> list[dict[str, Any]]:
    return [{"question": q, "answer": answer, "perturbed_answer": wrong} for q, (answer, *wrong) in WORLD_FACTS.items()]


def _with_options(row: dict[str, Any], key: str) -> dict[str, Any]:
    options = [row["answer"], *row["perturbed_answer"]]
    Random(key).shuffle(options)
    return {**row, **{f"option{n}": option for n, option in enumerate(options, 1)}}
