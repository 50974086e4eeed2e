"""One value per method with the arithmetic written out, on two or three rows of uneven length over two tokens."""

import math

import pytest
import torch
from batches import from_probabilities, total

from unlearn.registry import build_method
from unlearn.scoring import IGNORE_INDEX, Scored

I = IGNORE_INDEX  # noqa: E741
ln = math.log

# forget: p(label) = .5, .25 in row 0 and .8 in row 1; teacher: .5, .5 and .4
F_LABELS = [[0, 0], [0, I]]
FORGET = from_probabilities([[[0.5, 0.5], [0.25, 0.75]], [[0.8, 0.2], [0.5, 0.5]]], F_LABELS)
FORGET_O = from_probabilities([[[0.5, 0.5], [0.5, 0.5]], [[0.4, 0.6], [0.9, 0.1]]], F_LABELS)
# retain: .9 in row 0; .5, .2 in row 1; teacher: .9; .75, .2
R_LABELS = [[0, I], [1, 1]]
RETAIN = from_probabilities([[[0.9, 0.1], [0.3, 0.7]], [[0.5, 0.5], [0.8, 0.2]]], R_LABELS)
RETAIN_O = from_probabilities([[[0.9, 0.1], [0.5, 0.5]], [[0.25, 0.75], [0.8, 0.2]]], R_LABELS)
# refusals: .5 in row 0; .1, .5 in row 1; teacher: .25; .1, .25
IDK = from_probabilities([[[0.5, 0.5], [0.1, 0.9]], [[0.9, 0.1], [0.5, 0.5]]], [[1, I], [1, 0]])
IDK_O = from_probabilities([[[0.75, 0.25], [0.1, 0.9]], [[0.9, 0.1], [0.25, 0.75]]], [[1, I], [1, 0]])

CE_F = (ln(2) + ln(4) - ln(0.8)) / 3
CE_R = (-ln(0.9) - ln(0.5) - ln(0.2)) / 3
CE_IDK = (ln(2) + ln(10) + ln(2)) / 3
# KL(teacher || student): only the positions where the two differ contribute
KL_F = (0 + 0.5 * ln(0.5 / 0.25) + 0.5 * ln(0.5 / 0.75) + 0.4 * ln(0.4 / 0.8) + 0.6 * ln(0.6 / 0.2)) / 3
KL_R = (0 + 0.25 * ln(0.25 / 0.5) + 0.75 * ln(0.75 / 0.5) + 0) / 3
H_F = (ln(2) - 0.25 * ln(0.25) - 0.75 * ln(0.75) - 0.8 * ln(0.8) - 0.2 * ln(0.2)) / 3
# s_f - s_f^o: row 0 ln(.125 / .25), row 1 ln(.8 / .4); s_idk - s_idk^o: ln(.5 / .25), ln(.05 / .025)
NPO_1 = 2 * (ln(1 + 0.5) + ln(1 + 2)) / 2
DPO_1 = (ln(1 + math.exp(-(ln(2) + ln(2)))) + ln(1 + math.exp(-(ln(2) - ln(2))))) / 2

STUDENT = {"forget": FORGET, "retain": RETAIN, "idk": IDK}
TEACHER = {"forget": FORGET_O, "retain": RETAIN_O, "idk": IDK_O}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("retain_ft", {}, {"retain": CE_R}),
        ("sparsity", {}, {"retain": CE_R}),
        ("grad_ascent", {}, {"forget": -CE_F}),
        ("grad_diff_forget_ce_retain_ce", {"beta": 0.5}, {"forget": -0.5 * CE_F, "retain": CE_R}),
        ("grad_diff_forget_ce_retain_KL", {}, {"forget": -CE_F, "retain": KL_R}),
        ("grad_diff_forget_entropy_retain_ce", {}, {"forget": -H_F, "retain": CE_R}),
        ("grad_diff_forget_entropy_retain_KL", {}, {"forget": -H_F, "retain": KL_R}),
        ("grad_diff_forget_KL_retain_ce", {}, {"forget": -KL_F, "retain": CE_R}),
        ("grad_diff_forget_KL_retain_KL", {}, {"forget": -KL_F, "retain": KL_R}),
        ("KL", {}, {"forget": -CE_F, "kl": KL_R}),
        ("idk", {}, {"idk": CE_IDK, "retain": CE_R}),
        ("dpo", {"beta": 1.0}, {"task": CE_IDK, "dpo": DPO_1}),
        ("npo", {}, {"forget": NPO_1}),
        ("scrub", {"beta": 2.0}, {"kl": KL_R, "forget": -2 * KL_F, "retain": CE_R}),
        ("LLMU", {}, {"forget": -CE_F, "idk": CE_IDK, "kl": KL_R}),
    ],
)
def test_value_by_hand(name, options, expected):
    method = build_method(name, options)
    parts = method.loss({v.name: STUDENT[v.name] for v in method.student_views}, TEACHER)
    assert set(parts) == set(expected)
    for part, value in expected.items():
        torch.testing.assert_close(parts[part], torch.tensor(value), msg=lambda m, part=part: f"{part}: {m}")


def test_ratios_are_of_sums_so_length_counts():
    # the same per-token ratio of 2 over one token and over three: NPO (beta 1) is 2 ln(1 + 2) and 2 ln(1 + 8)
    student = from_probabilities([[[0.5, 0.5]] * 3] * 2, [[0, I, I], [0, 0, 0]])
    teacher = from_probabilities([[[0.25, 0.75]] * 3] * 2, [[0, I, I], [0, 0, 0]])
    value = total(build_method("npo").loss({"forget": student}, {"forget": teacher}))
    torch.testing.assert_close(value, torch.tensor((2 * ln(3) + 2 * ln(9)) / 2))


# random answers, answer-major: item 0 and 1 with answer 0, then with answer 1
RANDOM = from_probabilities(
    [[[0.5, 0.5], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]], [[0.2, 0.8], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]],
    [[0, 0], [0, I], [0, I], [1, I]],
)
CE_RANDOM = ((ln(2) + ln(2) + ln(10)) / 3 + (ln(5) + ln(2)) / 2) / 2


def test_sku_stage_one_by_hand():
    parts = build_method("SKU", {"k": 2}).loss({**STUDENT, "random": RANDOM}, TEACHER)
    expected = {"forget": 2.5 * CE_F, "random": CE_RANDOM, "kl": -0.5 * KL_R}
    assert {k: pytest.approx(v, rel=1e-5) for k, v in expected.items()} == {k: v.item() for k, v in parts.items()}


def test_llmu_with_random_answers_by_hand():
    method = build_method("LLMU", {"answers": "random", "k": 2})
    assert [(v.name, v.k, v.source) for v in method.student_views][1] == ("random", 2, "retain")
    parts = method.loss({**STUDENT, "random": RANDOM}, TEACHER)
    expected = {"forget": -CE_F, "random": CE_RANDOM, "kl": KL_R}
    assert {k: pytest.approx(v, rel=1e-5) for k, v in expected.items()} == {k: v.item() for k, v in parts.items()}


def with_hidden(states, mask) -> Scored:
    rows = len(states)
    return Scored(
        torch.zeros(rows, 1, 2), torch.zeros(rows, 1, dtype=torch.long), torch.tensor(states), torch.tensor(mask)
    )


UNEVEN = [[True, True], [False, True]]


def test_scrub_bio_by_hand():
    # mean states: student (1, 1) and (0, 2), teacher (1, 0) and (0, 1): cosines 1/sqrt(2) and 1
    student = with_hidden([[[2.0, 0.0], [0.0, 2.0]], [[9.0, 9.0], [0.0, 2.0]]], UNEVEN)
    teacher = with_hidden([[[1.0, 0.0], [1.0, 0.0]], [[7.0, 9.0], [0.0, 1.0]]], UNEVEN)
    views = ({"forget": student, "retain": student}, {"forget": teacher, "retain": teacher})
    parts = build_method("scrub_bio").loss(*views)
    cosine = (1 / math.sqrt(2) + 1) / 2
    torch.testing.assert_close(parts["forget"], torch.tensor(cosine))
    torch.testing.assert_close(parts["retain"], torch.tensor(1 - cosine))


def test_twins_by_hand():
    views = ({"forget": FORGET, "retain": RETAIN}, {"augmented": FORGET_O, "retain": RETAIN_O})
    parts = build_method("twins").loss(*views)
    torch.testing.assert_close(parts["forget"], torch.tensor(KL_F))
    torch.testing.assert_close(parts["retain"], torch.tensor(KL_R))


def test_twins_on_embeddings_by_hand():
    student = with_hidden([[[1.0, 2.0]], [[0.0, 0.0]]], [[True], [True]])
    teacher = with_hidden([[[1.0, 0.0]], [[3.0, 0.0]]], [[True], [True]])
    parts = build_method("twins", {"distance": "mse"}).loss(
        {"forget": student, "retain": student}, {"augmented": teacher, "retain": student}
    )
    assert parts["forget"].item() == (0 + 4 + 9 + 0) / 4 and parts["retain"].item() == 0
