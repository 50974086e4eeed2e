"""Six people whom no model was trained on, of the same origin as the forget authors: who would not stand out (holdout).

Names, facts, faces and pictures come from streams of their own, so that all other configs keep their bytes.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

from minibench.clear import NAMED, perturb, picture_row
from minibench.clear import PERTURBED as PERTURBED_PICTURES
from minibench.faces import PLACES, draw_face, random_face
from minibench.people import FORGET, SEED, Person, everyone, strangers
from minibench.tables import Rows
from minibench.tofu import PAIR, PERTURBED, qa_rows, wrong_rows
from minibench.wording import CITIES, FIRST_NAMES, GENRES, INSTRUMENTS, LAST_NAMES, PETS, QUESTIONS, spread

PEOPLE = 6
_DISTANCE = 4  # attributes, as between any two of the others
_FACTS = {"genre": GENRES, "city": CITIES, "instrument": INSTRUMENTS, "pet": PETS}


@cache
def held_out(seed: int = SEED) -> tuple[Person, ...]:
    """The six: first names, last names and facts distinct among them, no full name of anybody else, and faces that
    differ from all others in four attributes or more, from strangers' in three (with four hardly one would be left)."""
    return newcomers(f"{seed}/holdout", PEOPLE, [person for group in everyone(seed) for person in group], seed)


def newcomers(stream: str, count: int, others: Sequence[Person], seed: int = SEED) -> tuple[Person, ...]:
    """`count` people drawn from `stream`, as `held_out` says of its six, beside `others` and the strangers of `seed`;
    facts repeat where there are too few."""
    rng = Random(stream)
    unknown = strangers(seed)  # pretraining refuses to answer about these
    taken, faces = {person.name for person in (*others, *unknown)}, [person.face for person in others]
    names: list[str] = []
    while not names or taken & set(names):
        firsts, lasts = (rng.sample(pool, count) for pool in (FIRST_NAMES, LAST_NAMES))
        names = [f"{first} {last}" for first, last in zip(firsts, lasts, strict=True)]
    facts = {
        fact: rng.sample(options, count) if count <= len(options) else spread(options, count, rng)
        for fact, options in _FACTS.items()
    }
    while len(faces) < len(others) + count:
        face = random_face(rng)
        if all(face.distance(other) >= _DISTANCE for other in faces) and all(
            face.distance(stranger.face) >= _DISTANCE - 1 for stranger in unknown
        ):
            faces.append(face)
    new = faces[len(others) :]
    return tuple(
        Person(index, names[index], {fact: values[index] for fact, values in facts.items()}, new[index])
        for index in range(count)
    )


def holdout_configs(name: str, seed: int = SEED) -> dict[str, tuple[Mapping[str, str], Rows]]:
    """holdout01, holdout05, holdout10 (the last 1, 3, 6 people) of "clear-mini" or "tofu-mini", and each with
    `_perturbed`, whose wrong answers are the other five: nobody was trained on any of the six."""
    pictured = name == "clear-mini"
    plain, perturbed = (NAMED, PERTURBED_PICTURES) if pictured else (PAIR, PERTURBED)
    configs: dict[str, tuple[Mapping[str, str], Rows]] = {}
    for size, count in FORGET.items():
        people = held_out(seed)[-count:]
        rows = _pictures(people, seed) if pictured else qa_rows(people)
        wrong = [perturb(row, _others(row["person"], seed)) for row in rows] if pictured else _questions(people, seed)
        configs[f"holdout{size}"] = (plain, rows)
        configs[f"holdout{size}_perturbed"] = (perturbed, wrong)
    return configs


def _others(person: Person, seed: int) -> list[Person]:
    return [other for other in held_out(seed) if other != person]


def _pictures(people: tuple[Person, ...], seed: int) -> list[dict[str, Any]]:
    return [
        picture_row(person, draw_face(person.face, place, Random(f"{seed}/holdout/{person.index}/{number}")), place)
        for person in people
        for number, place in enumerate(PLACES)
    ]


def _questions(people: tuple[Person, ...], seed: int) -> list[dict[str, Any]]:
    return [
        row
        for person in people
        for fact in QUESTIONS
        for row in wrong_rows(person, fact, [other.facts[fact] for other in _others(person, seed)])
    ]
