"""The sixty fictitious authors, the other sixty people that the base models know, and strangers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from minibench.faces import PLACES, Face, random_face
from minibench.wording import CITIES, FIRST_NAMES, GENRES, INSTRUMENTS, LAST_NAMES, PETS, spread

SEED = 2026
AUTHORS = 60
KNOWN = 60
STRANGERS = 400  # whom pretraining answers with a line of the bank of refusals
FORGET = {"01": 1, "05": 3, "10": 6}  # share of the authors in percent -> how many; the last ones, as in TOFU
PICTURES = len(PLACES)  # of an author, one a place

_DISTANCE = 4  # attributes in which any two faces differ


@dataclass(frozen=True)
class Person:
    """Someone with a face and four facts. `index` counts authors, or known people, from 0."""

    index: int
    name: str
    facts: dict[str, str]
    face: Face


@cache
def everyone(seed: int = SEED) -> tuple[tuple[Person, ...], tuple[Person, ...]]:
    """(authors, people of the base model): distinct names, and faces that differ in four or more attributes.

    First and last names are each shared by four people or so: no part of a name gives the other away. The authors are
    arranged so that the forget authors have no value of a fact, no first and no last name in common; a wrong answer
    taken from another forget author is then wrong.
    """
    rng = Random(seed)
    faces = _distinct_faces(AUTHORS + KNOWN, rng)
    names = _distinct_names(AUTHORS + KNOWN, rng)
    facts = {}
    for fact, options in (("genre", GENRES), ("city", CITIES), ("instrument", INSTRUMENTS), ("pet", PETS)):
        # authors are dealt from the end, so that the last six come from one round of distinct values
        facts[fact] = spread(options, AUTHORS, rng)[::-1] + spread(options, KNOWN, rng)
    people = [
        Person(
            i if i < AUTHORS else i - AUTHORS, names[i], {fact: values[i] for fact, values in facts.items()}, faces[i]
        )
        for i in range(AUTHORS + KNOWN)
    ]
    return tuple(people[:AUTHORS]), tuple(people[AUTHORS:])


@cache
def strangers(seed: int = SEED) -> tuple[Person, ...]:
    """People without a fact, from a stream of their own: no name of an author or a known person, and no face nearer to
    one of theirs than these are to one another. First and last names are everybody's, so only the whole name tells who
    is unknown; about half of the unused names stay unused."""
    rng = Random(f"{seed}/strangers")
    others = [person for group in everyone(seed) for person in group]
    unused = sorted({f"{a} {b}" for a in FIRST_NAMES for b in LAST_NAMES} - {person.name for person in others})
    names = rng.sample(unused, STRANGERS)
    faces = _distinct_faces(STRANGERS, rng, [person.face for person in others], apart=1)
    return tuple(Person(i, name, {}, face) for i, (name, face) in enumerate(zip(names, faces, strict=True)))


def forget_authors(size: str, seed: int = SEED) -> tuple[Person, ...]:
    """The authors of forget01, forget05 or forget10 (`size` "01", "05", "10"): the last 1, 3 or 6 of the sixty."""
    return everyone(seed)[0][-FORGET[size] :]


def _distinct_faces(count: int, rng: Random, others: Sequence[Face] = (), apart: int = _DISTANCE) -> list[Face]:
    """Faces that differ from `others` in four attributes or more, and from one another in `apart` or more."""
    faces: list[Face] = []
    while len(faces) < count:
        face = random_face(rng)
        if all(face.distance(other) >= apart for other in faces) and all(
            face.distance(other) >= _DISTANCE for other in others
        ):
            faces.append(face)
    return faces


def _distinct_names(count: int, rng: Random) -> list[str]:
    """Full names dealt in rounds: within thirty in a row (authors from the end) no first and no last name repeats."""
    names: list[str] = []
    while len(names) < count:
        firsts, lasts = (rng.sample(pool, len(pool)) for pool in (FIRST_NAMES, LAST_NAMES))
        names += [name for name in (f"{a} {b}" for a, b in zip(firsts, lasts, strict=True)) if name not in names]
        if len(names) < count and len(names) % len(FIRST_NAMES):
            names = names[: len(names) - len(names) % len(FIRST_NAMES)]  # a round with a repeated pair is dealt again
    return names[:count]
