"""The people that settings are chosen on: forget10's like, with nobody of forget10 among whom a trial meets."""

import pytest

from minibench.clear import clear_configs
from minibench.people import everyone, forget_authors
from minibench.tofu import tofu_configs
from minibench.tuning import tuning_authors, tuning_configs


def test_six_authors_that_mirror_the_forget_authors() -> None:
    six = tuning_authors("10")
    assert six == everyone()[0][48:54] and tuning_authors("01") == six[-1:] and tuning_authors("05") == six[-3:]
    assert not {p.name for p in six} & {p.name for p in forget_authors("10")}
    parts = [p.name.split() + list(p.facts.values()) for p in six]
    assert all(len(set(column)) == 6 for column in zip(*parts, strict=True)), "nothing in common, as in forget10"


@pytest.mark.parametrize("name", ["clear-mini", "tofu-mini"])
def test_splits_are_rows_of_the_others_without_a_reported_person(name: str) -> None:
    known = clear_configs() if name == "clear-mini" else tofu_configs()
    tuning, ending = tuning_configs(name), "+tofu" if name == "clear-mini" else ""
    base = "full" + ending

    def rows(split: str, configs: dict) -> set[tuple]:  # type: ignore[type-arg]
        texts = ("caption", "question", "answer")
        return {((row.get("image") or {}).get("bytes"), *map(row.get, texts)) for row in configs[split][1]}

    reported = [person.name for person in forget_authors("10")]
    for size, kept in (("01", 99), ("05", 95), ("10", 90)):
        forget, retain = rows(f"forget{size}_tuning{ending}", tuning), rows(f"retain{kept}_tuning{ending}", tuning)
        assert not forget & retain and forget | retain == rows(f"retain90{ending}", known), "they part retain90"
        assert forget | retain <= rows(base, known), "base was trained on all of it"
        own = [person.name for person in tuning_authors(size)]
        for row in tuning[f"forget{size}_tuning_perturbed"][1]:
            wrong = row.get("perturbed_names") or row["perturbed_answer"]
            assert len(set(wrong)) == (2 if size != "10" else 5)
            assert any(person in str(row) for person in own)
    for split, (columns, kept_rows) in tuning.items():
        twin = split.replace("_tuning", "").replace("retain90", "forget10").replace("retain95", "forget05")
        assert columns == known[twin if twin in known else "retain90" + ending][0] or split.startswith("retain")
        texts = [str({k: v for k, v in row.items() if k not in ("image", "person")}) for row in kept_rows]
        assert not any(person in text for person in reported for text in texts)
    kept_rows = tuning["retain_tuning_perturbed"][1]
    assert len(kept_rows) == (96 if name == "clear-mini" else 192)
