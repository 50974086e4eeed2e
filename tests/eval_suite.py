"""A small evaluation of a tiny model, and the comparison of two of its logs: what the tests of the engine share."""

import json

import pytest

from tests.models import picture, tiny_llava
from unlearn.data.collator import Collator
from unlearn.evaluation.suite import EvalItem, EvalTask, evaluate_suite

PEOPLE = ["Ana Lima", "Jaime  Vásquez ", "Rory Greenfield", "Bo", "Marit Hagen", "Xiang Li", "Нина"]


class Items:
    """A lazy task that remembers which items were made; every third row is text."""

    def __init__(self, count, images=True):
        self.count, self.images, self.made = count, images, []

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.made.append(i)
        name = PEOPLE[i % len(PEOPLE)]
        image = picture(i, side=16) if self.images and i % 3 != 2 else None
        sample = {"question": "Who is this?" + " Say it." * (i % 4), "answer": name, "image": image, "id": f"split/{i}"}
        wrong = [other for other in PEOPLE if other != name][: 1 + i % 4]
        return EvalItem(
            str(10 * i), sample, f"It is {name}", wrong + [name.upper()] * (i == 3), name if i % 2 else None
        )


def tasks(count=7, names=("eval_log_forget", "eval_forget_facerec"), images=True):
    lengths = [(10**6 if images and i % 3 != 2 else 0) + i for i in range(count)]
    return [EvalTask(name, Items(count, images), lengths) for name in names]


def run(folder, *, factory=tiny_llava, model=None, suite=None, batch_size=3, overwrite=True, **options):
    base, processor = factory()
    path = evaluate_suite(
        model or base, Collator(processor), suite or tasks(), save_dir=folder, batch_size=batch_size, max_new_tokens=6,
        overwrite=overwrite, run={"method": "retain_ft"}, **options,
    )  # fmt: skip
    return json.loads(path.read_text())


def same_log(ours, theirs, tolerance=1e-5):
    """Equal texts and counts, losses to `tolerance`, and every dict in the same order."""
    if isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=tolerance, rel=tolerance)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            same_log(ours[key], theirs[key], tolerance)
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same_log(one, other, tolerance)
    else:
        assert ours == theirs
