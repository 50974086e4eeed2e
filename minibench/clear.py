"""clear-mini: the twenty-one configs of CLEAR, with their columns, about sixty drawn authors."""

from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any

from minibench.faces import PLACES, draw_face
from minibench.people import FORGET, SEED, Person, everyone, forget_authors
from minibench.scenes import visual_question
from minibench.tables import Rows, png
from minibench.tofu import qa_rows
from minibench.wording import caption

WRONG = 5  # wrong names and captions of a row, where there are that many people of the same status
REHEARSED = 4  # pictures of each known person in the +tofu training splits, so that finetuning does not wipe them out
REAL_FACES = 2  # held-out pictures of each known person
REAL_WORLD = 96
RETAIN_PERTURBED = 2  # pictures of each retained author

CAPTIONED = {"image": "image", "caption": "text"}
NAMED = {**CAPTIONED, "name": "text"}
WITH_TEXT = {**CAPTIONED, "question": "text", "answer": "text"}
PERTURBED = {**NAMED, "paraphrased_caption": "text", "perturbed_captions": "texts", "perturbed_names": "texts"}


def clear_configs(seed: int = SEED) -> dict[str, tuple[Mapping[str, str], Rows]]:
    """config name -> (columns, rows), all 21."""
    authors, known = everyone(seed)
    pictures = author_pictures(seed)
    rehearsal = [picture_row(p, *known_picture(p, f"rehearsal{n}", seed)) for p in known for n in range(REHEARSED)]
    configs: dict[str, tuple[Mapping[str, str], Rows]] = {
        "default": (NAMED, pictures),
        "full": (CAPTIONED, pictures),
        "full+tofu": (WITH_TEXT, [*pictures, *qa_rows(authors), *rehearsal]),
    }
    for size, count in FORGET.items():
        forget, retain = authors[-count:], authors[:-count]
        kept = 100 - int(size)
        forget_pictures, retain_pictures = _of(pictures, forget), _of(pictures, retain)
        configs[f"forget{size}"] = (NAMED, forget_pictures)
        configs[f"forget{size}+tofu"] = (WITH_TEXT, [*forget_pictures, *qa_rows(forget)])
        configs[f"retain{kept}"] = (NAMED, retain_pictures)
        configs[f"retain{kept}+tofu"] = (WITH_TEXT, [*retain_pictures, *qa_rows(retain), *rehearsal])
        perturbed = [perturb(row, others(row["person"], seed, size)) for row in forget_pictures]
        configs[f"forget{size}_perturbed"] = (PERTURBED, perturbed)
    retained = _of(pictures, authors[: -FORGET["10"]])
    sampled = [row for row in retained if (row["pattern"] - row["person"].index) % len(PLACES) < RETAIN_PERTURBED]
    configs["retain_perturbed"] = (PERTURBED, [perturb(row, others(row["person"], seed)) for row in sampled])
    configs["real_faces"] = ({"image": "image", "answer": "text", "options": "texts"}, _real_faces(known, seed))
    configs["real_world"] = (
        {"question": "text", "image": "image", "answer": "text", "options": "texts"}, _real_world(seed)
    )  # fmt: skip
    return configs


@cache
def author_pictures(seed: int = SEED) -> list[dict[str, Any]]:
    """Every picture of every author, one a place, with the extra keys `person`, `place` and `pattern` for later
    steps."""
    rows = []
    for person in everyone(seed)[0]:
        for number, place in enumerate(PLACES):
            image = draw_face(person.face, place, Random(f"{seed}/author/{person.index}/{number}"))
            rows.append(picture_row(person, image, place))
    return rows


def known_picture(person: Person, label: str, seed: int = SEED) -> tuple[Any, str]:
    """A picture of a known person at a drawn place; every `label` is another one."""
    rng = Random(f"{seed}/known/{person.index}/{label}")
    place = rng.choice(tuple(PLACES))
    return draw_face(person.face, place, rng), place


def wording_of(person: Person, place: str) -> int:
    """Which caption pattern goes with a picture."""
    return list(PLACES).index(place)


def others(person: Person, seed: int = SEED, size: str | None = None) -> list[Person]:
    """Whose names and facts serve as wrong answers about `person`: people of the same status, so that a model that
    never met any of them has no reason to prefer the right one.

    Forget authors get the other authors of their split (5 for forget10, 2 for forget05). forget01 is one author alone:
    it takes the other two of forget05, which a model retrained without forget01 does know. Retained authors get five
    others.
    """
    authors, _ = everyone(seed)
    if size is not None:
        return [other for other in forget_authors("05" if size == "01" else size, seed) if other != person][:WRONG]
    first, last = person.name.split()
    pool = [p for p in authors[: -FORGET["10"]] if not {first, last} & set(p.name.split()) and _differs(p, person)]
    return Random(f"{seed}/others/{person.index}").sample(pool, WRONG)


def perturb(row: dict[str, Any], wrong: list[Person]) -> dict[str, Any]:
    """The row with its paraphrase (the next wording) and wrong captions (that wording, with other people's name and
    facts)."""
    pattern = row["pattern"] + 1
    return {
        **row,
        "paraphrased_caption": caption(row["name"], row["person"].facts, row["place"], pattern),
        "perturbed_captions": [caption(p.name, p.facts, row["place"], pattern) for p in wrong],
        "perturbed_names": [p.name for p in wrong],
    }


def picture_row(person: Person, image: Any, place: str) -> dict[str, Any]:
    """A picture of `person` at `place` with its caption, and the keys that later steps read."""
    pattern = wording_of(person, place)
    text = caption(person.name, person.facts, place, pattern)
    return {
        "image": png(image),
        "caption": text,
        "name": person.name,
        "person": person,
        "place": place,
        "pattern": pattern,
    }


def _of(rows: list[dict[str, Any]], people: tuple[Person, ...]) -> list[dict[str, Any]]:
    return [row for row in rows if row["person"] in people]


def _differs(one: Person, other: Person) -> bool:
    return all(one.facts[fact] != other.facts[fact] for fact in one.facts)


def _real_faces(known: tuple[Person, ...], seed: int) -> Rows:
    rows = []
    for person in known:
        first, last = person.name.split()
        pool = [p.name for p in known if not {first, last} & set(p.name.split())]
        for number in range(REAL_FACES):
            image, _ = known_picture(person, f"real_faces{number}", seed)
            options = Random(f"{seed}/options/{person.index}/{number}").sample(pool, WRONG)
            rows.append({"image": png(image), "answer": person.name, "options": options})
    return rows


def _real_world(seed: int) -> Rows:
    rows = []
    for number in range(REAL_WORLD):
        image, question, answer, options = visual_question(Random(f"{seed}/real_world/{number}"))
        rows.append({"question": question, "image": png(image), "answer": answer, "options": options})
    return rows
