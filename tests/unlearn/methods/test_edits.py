"""kvw and manu on a probe made up by hand, against forms in plain Python."""

import copy
import math
import random
from dataclasses import dataclass

import pytest
import torch

from unlearn.methods.kvw import gates
from unlearn.methods.manu import importance, statistics
from unlearn.registry import build_method

WIDTH = 4


@dataclass
class Row:
    acts: dict[str, dict[str, list[list[float]]]]  # scope -> FFN -> [positions][width]
    image: bool = True

    def without_image(self):
        return Row({"text": self.acts["bare"]}, image=False)


class Model:
    """A probe whose activations do not depend on the weights, but for `feedback`, which scales them by a weight."""

    def __init__(self, forget, retain, names, feedback=None):
        self.rows = {"forget": forget, "retain": retain}
        self.held = {name: torch.ones(2, WIDTH) for name in names}
        self.feedback = feedback

    def batches(self, view, share=True):
        return iter(self.rows[view])

    def channels(self, row, scope):
        found = {name: torch.tensor(values) for name, values in row.acts.get(scope, {}).items()}
        if self.feedback is not None:
            found = {name: z * self.held[self.feedback][0, 0] for name, z in found.items()}
        return found

    def sum(self, tensors):
        return dict(tensors)

    def weights(self):
        return self.held


def table(rng, positions):
    return [[rng.gauss(0, 1) for _ in range(WIDTH)] for _ in range(positions)]


# ---- kvw ------------------------------------------------------------------------------------------------------------


def test_gates_by_hand():
    gate = gates(torch.tensor([2.0, 1.0, 0.5]), torch.tensor([1.0, 1.0, 1.0]), gamma=0.02)
    torch.testing.assert_close(gate, torch.tensor([2**-0.02, 1.0, 1.0]))
    assert gate[0].item() == pytest.approx(0.986233, abs=1e-6)


def kvw_rows(seed, images):
    rng = random.Random(seed)
    return [Row({"predicts_answer": {"language.0": table(rng, rng.randint(1, 3))}}, image) for image in images]


def slow_kvw(forget, retain, gamma):
    def contribution(rows):
        table = [position for row in rows for position in row.acts["predicts_answer"]["language.0"]]
        return [sum(abs(position[i]) for position in table) / len(table) for i in range(WIDTH)]

    before, columns = contribution(retain), [1.0] * WIDTH
    for row in forget:
        for i, used in enumerate(contribution([row])):
            columns[i] *= math.exp(-gamma * max(0.0, math.log(used + 1e-12) - math.log(before[i] + 1e-12)))
    return columns


@pytest.mark.parametrize(("rows", "kept"), [("image", slice(0, 2)), ("all", slice(0, 3))])
def test_kvw_equals_the_slow_form(rows, kept):
    forget, retain = kvw_rows(1, (True, True, False)), kvw_rows(2, (True, True, False))
    model = Model(forget, retain, ["language.0"])
    build_method("kvw", {"gamma": 0.5, "rows": rows}).edit(model)
    expected = slow_kvw(forget[kept], retain[kept], 0.5)
    torch.testing.assert_close(model.held["language.0"], torch.tensor([expected, expected]))
    assert min(expected) < 0.9


def test_kvw_of_texts_alone_takes_them():
    forget, retain = kvw_rows(1, (False, False)), kvw_rows(2, (False,))
    model = Model(forget, retain, ["language.0"])
    build_method("kvw", {"gamma": 0.5}).edit(model)
    torch.testing.assert_close(model.held["language.0"][0], torch.tensor(slow_kvw(forget, retain, 0.5)))


def test_each_forget_row_meets_the_weights_of_its_time():
    """Channel 0's weight scales the activations, so the second row finds them weaker than the first did."""
    row = Row({"predicts_answer": {"language.0": [[4.0, 1.0, 1.0, 1.0]]}})
    retain = Row({"predicts_answer": {"language.0": [[1.0, 1.0, 1.0, 1.0]]}})
    model = Model([row, row], [retain], ["language.0"], feedback="language.0")
    build_method("kvw", {"gamma": 1.0}).edit(model)
    assert model.held["language.0"][0, 0].item() == pytest.approx(0.25)  # 4 -> 1/4; then 4/4 = KC_r: nothing more


@pytest.mark.parametrize(
    ("blocks", "layers", "changed"),
    [(28, None, range(1, 26)), (3, None, range(3)), (6, None, range(1, 4)), (6, "2-2", range(2, 3))],
)
def test_which_blocks_kvw_edits(blocks, layers, changed):
    names = [f"language.{i}" for i in range(blocks)] + ["vision.0"]

    def rows(size):
        return [Row({"predicts_answer": {name: [[size] * WIDTH] for name in names}})]

    model = Model(rows(2.0), rows(1.0), names)
    build_method("kvw", {"layers": layers}).edit(model)
    assert {name for name, tensor in model.held.items() if (tensor != 1).any()} == {f"language.{i}" for i in changed}
    with pytest.raises(ValueError, match=rf"layers=1-{blocks} is out of range: .* 0 to {blocks - 1}"):
        build_method("kvw", {"layers": f"1-{blocks}"}).edit(model)


# ---- manu -----------------------------------------------------------------------------------------------------------


def manu_rows(seed, images):
    rng = random.Random(seed)

    def acts(names, positions):
        return {name: table(rng, positions) for name in names}

    language, rows = ["language.0", "language.1"], []
    for image in images:
        own = {"text": acts(language, rng.randint(1, 4))}
        if image:
            own |= {"bare": acts(language, 2), "image": acts([*language, "vision.0"], 3)}
        rows.append(Row(own, image))
    return rows


def slow_importance(rows, name, channel, tau, bare):
    def stats(values):
        if not values:
            return 0.0, 0.0, 0.0, 0.0
        z = sum(abs(v) for v in values) / len(values)
        return (z, sum(abs(v) > tau for v in values) / len(values), sum((v - z) ** 2 for v in values) / len(values),
                sum(v * v for v in values) / len(values))  # fmt: skip

    def values(scopes, chosen):
        return [position[channel] for row in chosen for scope in scopes for position in row.acts[scope].get(name, [])]

    m = stats(values(("image", "text"), [row for row in rows if row.image]))
    t = stats(values(("bare",), rows) if bare else values(("text",), [row for row in rows if not row.image]))
    (zm, nm, vm, em), (zt, nt, vt, et) = m, t
    e = 1e-8
    parts = abs(zm - zt) / (zm + zt + e), abs(nm - nt) / (nm + nt + e), math.sqrt(vm + vt)
    return sum(parts) + math.sqrt(abs(em - et) / (em + et + e))


@pytest.mark.parametrize(("images", "bare"), [((True, False, True), False), ((True, True), True), ((False,), False)])
def test_manu_equals_the_slow_form(images, bare):
    forget, retain = manu_rows(3, images), manu_rows(4, images)
    names = ["language.0", "language.1", "vision.0"]
    model = Model(forget, retain, names)
    build_method("manu", {"alpha": 0.25, "layers": "all", "tau": 0.5}).edit(model)
    for tower, share in (("language", 2), ("vision", 1)):
        scores = {}
        for name, i in ((name, i) for name in names if name.startswith(tower) for i in range(WIDTH)):
            ours, theirs = (slow_importance(rows, name, i, 0.5, bare) for rows in (forget, retain))
            scores[name, i] = ours / (theirs + 1e-8)
        off = set(sorted(scores, key=scores.__getitem__, reverse=True)[:share])
        if tower == "vision" and not any(images):
            off = set()
        found = {(name, i) for name, i in scores if (model.held[name][:, i] == 0).all()}
        assert found == off, tower


def test_by_hand_a_channel_that_pictures_alone_wake():
    awake = statistics({name: torch.tensor(values) for name, values in
                        {"abs": [6.0], "sum": [2.0], "square": [20.0], "over": [2.0], "n": [2.0]}.items()})  # fmt: skip
    assert [awake[key].item() for key in ("Z", "N", "V", "E")] == [3, 1, 13, 10]  # z = 4, -2: ((4-3)^2 + (-2-3)^2) / 2
    asleep = {name: torch.zeros(1) for name in awake}
    assert importance(awake, asleep).item() == pytest.approx(1 + 1 + math.sqrt(13) + 1)


def test_manu_looks_at_the_last_blocks_of_each_tower():
    model = Model(manu_rows(3, (True, False)), manu_rows(4, (True, False)), ["language.0", "language.1", "vision.0"])
    build_method("manu", {"alpha": 1.0, "layers": 1}).edit(model)
    assert (model.held["language.0"] == 1).all()
    assert (model.held["language.1"] == 0).all() and (model.held["vision.0"] == 0).all()


@pytest.mark.parametrize(("name", "options"), [("kvw", {"gamma": 0.0}), ("manu", {"alpha": 0.0})])
def test_nothing_is_changed_where_nothing_is_asked(name, options):
    model = Model(manu_rows(3, (True, False)), manu_rows(4, (True, False)), ["language.0", "language.1", "vision.0"])
    for rows in model.rows.values():
        for row in rows:
            row.acts["predicts_answer"] = row.acts["text"]
    before = copy.deepcopy(model.held)
    build_method(name, options).edit(model)
    assert all(torch.equal(model.held[n], before[n]) for n in before)
