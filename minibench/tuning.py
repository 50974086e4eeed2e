"""Six authors to choose settings on: the last of those whom no forget split holds, so that nobody who is reported has a
say in what is reported (run_exps.py tune=true).

They mirror forget10: authors are dealt in rounds of distinct values and names, so that these six share none either.
"""

from collections.abc import Mapping

from minibench.clear import NAMED, WITH_TEXT, author_pictures, clear_configs, perturb
from minibench.clear import PERTURBED as PERTURBED_PICTURES
from minibench.people import FORGET, SEED, Person, everyone
from minibench.tables import Rows
from minibench.tofu import PAIR, PERTURBED, qa_rows, tofu_configs, wrong_rows
from minibench.wording import QUESTIONS

Configs = dict[str, tuple[Mapping[str, str], Rows]]


def tuning_authors(size: str, seed: int = SEED) -> tuple[Person, ...]:
    """Who is forgotten in tuning for forget01, forget05, forget10: the last 1, 3 or 6 authors of retain90."""
    return everyone(seed)[0][: -FORGET["10"]][-FORGET[size] :]


def tuning_configs(name: str, seed: int = SEED) -> Configs:
    """forgetNN_tuning, its `_perturbed`, and what goes with it: retain(100 - NN)_tuning, the other authors of retain90,
    and retain_tuning_perturbed, whom all of them keep. Rows are those of the other configs; of "clear-mini" also
    `+tofu`."""
    pictured = name == "clear-mini"
    known = clear_configs(seed) if pictured else tofu_configs(seed)
    configs: Configs = {}
    for size in FORGET:
        people = tuning_authors(size, seed)
        kept = tuple(author for author in everyone(seed)[0][: -FORGET["10"]] if author not in people)
        build = _pictured if pictured else _asked
        configs |= build(people, kept, size, seed, known)
    columns, rows = known["retain_perturbed"]
    names = {person.name for person in tuning_authors("10", seed)}
    configs["retain_tuning_perturbed"] = (columns, [row for row in rows if not _about(row, names)])
    return configs


def _pictured(
    people: tuple[Person, ...], kept: tuple[Person, ...], size: str, seed: int, known: Mapping[str, tuple[object, Rows]]
) -> Configs:
    forget, retain = ([row for row in author_pictures(seed) if row["person"] in group] for group in (people, kept))
    count = len(author_pictures(seed)) + len(qa_rows(everyone(seed)[0]))
    rehearsal = known["full+tofu"][1][count:]
    retained = f"retain{100 - int(size)}_tuning"
    wrong = [perturb(row, _others(row["person"], size, seed)) for row in forget]
    return {
        f"forget{size}_tuning": (NAMED, forget),
        f"forget{size}_tuning+tofu": (WITH_TEXT, [*forget, *qa_rows(people)]),
        f"forget{size}_tuning_perturbed": (PERTURBED_PICTURES, wrong),
        retained: (NAMED, retain),
        f"{retained}+tofu": (WITH_TEXT, [*retain, *qa_rows(kept), *rehearsal]),
    }


def _asked(
    people: tuple[Person, ...], kept: tuple[Person, ...], size: str, seed: int, known: Mapping[str, tuple[object, Rows]]
) -> Configs:
    rehearsal = known["full"][1][len(qa_rows(everyone(seed)[0])) :]
    wrong = [
        row
        for person in people
        for fact in QUESTIONS
        for row in wrong_rows(person, fact, [other.facts[fact] for other in _others(person, size, seed)])
    ]
    return {
        f"forget{size}_tuning": (PAIR, qa_rows(people)),
        f"forget{size}_tuning_perturbed": (PERTURBED, wrong),
        f"retain{100 - int(size)}_tuning": (PAIR, [*qa_rows(kept), *rehearsal]),
    }


def _others(person: Person, size: str, seed: int) -> list[Person]:
    """Whose names and facts are wrong answers: the rest of the split, of one author alone the other two of 05."""
    return [other for other in tuning_authors("05" if size == "01" else size, seed) if other != person]


def _about(row: Mapping[str, object], names: set[str]) -> bool:
    text = str(row["name"]) if "name" in row else f"{row['question']} {row['answer']}"
    return any(name in text for name in names)
