"""The attacks on synthetic Gaussians, whose answer is known, and their parts by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from cv.membership.attacks import Sides, gaussians, intervals, judge, roc_curve, split_roles, ulira, umia
from cv.membership.classifiers import fit_logistic, fit_tree
from cv.membership.scores import accuracy_interval
from unlearn.metrics.intervals import interval

PEOPLE, EACH = 20, 10


def world(*, effect: float, spread_of_photos: float, models: int = 40, seed: int = 0) -> Sides:
    """Logits = the photo's own level + `effect` if the model trained on the person + unit noise."""
    rng = np.random.default_rng(seed)
    people = np.repeat([f"p{i}" for i in range(PEOPLE)], EACH)
    member_of = np.repeat(["A", "B"], PEOPLE * EACH // 2)
    level = rng.normal(0, spread_of_photos, len(people))

    def draw(group: str) -> np.ndarray:
        return level + effect * (member_of == group) + rng.normal(size=(models, len(people)))

    return Sides({g: draw(g) for g in "AB"}, {g: draw(g) for g in "AB"}, member_of, people)


@pytest.mark.parametrize("models", [8, 40])  # pooled variance, and one per photo
def test_ulira_reaches_the_best_possible_accuracy(models):
    sides = world(effect=2.0, spread_of_photos=5.0, models=models)
    attack = judge(ulira(sides), sides.all_targets()[1])
    best = norm.cdf(1.0)  # two unit Gaussians two apart, cut in the middle: 0.841
    assert attack.accuracy == pytest.approx(best, abs=0.035)
    assert attack.auc == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.035)  # 0.921


def test_umia_is_best_only_where_photos_are_alike():
    alike, unlike = world(effect=2.0, spread_of_photos=0.0), world(effect=2.0, spread_of_photos=8.0)
    for model in ("logistic", "tree"):
        accuracy = [judge(umia(sides, model), sides.all_targets()[1]).accuracy for sides in (alike, unlike)]
        assert accuracy[0] == pytest.approx(norm.cdf(1.0), abs=0.03)
        assert accuracy[1] < 0.65


def test_nothing_is_found_where_nothing_was_left():
    sides = world(effect=0.0, spread_of_photos=3.0)
    for scores in (ulira(sides), umia(sides, "logistic")):
        attack = judge(scores, sides.all_targets()[1])
        assert attack.accuracy == pytest.approx(0.5, abs=0.02)
        ends = intervals(scores, sides, draws=200, seed=0)
        assert ends["accuracy"][0] < 0.5 < ends["accuracy"][1]
        assert ends["auc"][0] < 0.5 < ends["auc"][1]


def test_groups_may_be_named_the_other_way_round():
    sides = world(effect=1.0, spread_of_photos=2.0)
    swapped = Sides(
        {"A": sides.targets["B"], "B": sides.targets["A"]},
        {"A": sides.shadows["B"], "B": sides.shadows["A"]},
        np.where(sides.member_of == "A", "B", "A"),
        sides.people,
    )
    a, b = (judge(ulira(s), s.all_targets()[1]) for s in (sides, swapped))
    assert a.auc == pytest.approx(b.auc, abs=1e-12)


def test_gaussians_by_hand():
    few = np.array([[0.0, 10.0], [2.0, 10.0], [4.0, 16.0]])
    centre, sigma = gaussians(few)
    assert centre.tolist() == [2.0, 10.0]
    assert sigma == pytest.approx([np.sqrt((4 + 12) / 2)] * 2)  # variances 4 and 12, pooled
    many = np.tile(np.array([[-1.0], [0.0], [0.0], [3.0]]), (4, 1))  # 16 shadows, |x - 0| = 1, 0, 0, 3
    assert gaussians(many)[1] == pytest.approx([0.5 / 0.6745])


def test_a_photo_whose_shadows_agree_borrows_the_pooled_variance():
    shadows = np.concatenate([np.zeros((20, 1)), np.random.default_rng(0).normal(size=(20, 9))], axis=1)
    sigma = gaussians(shadows)[1]
    assert sigma[0] == pytest.approx(np.sqrt(shadows.var(axis=0, ddof=1).mean()))
    assert np.isfinite(sigma).all() and (sigma > 0).all()


def test_two_shadows_a_side_are_the_least():
    sides = world(effect=1.0, spread_of_photos=0.0, models=4)
    one = {group: logits[:1] for group, logits in sides.shadows.items()}
    with pytest.raises(ValueError, match="1 shadow models.*two shadows.*8 models"):
        Sides(sides.targets, one, sides.member_of, sides.people)


def test_roles_of_the_published_128_models():
    roles = split_roles(["A"] * 64 + ["B"] * 64)
    assert roles["targets"] == {"A": list(range(32)), "B": list(range(64, 96))}
    assert roles["shadows"] == {"A": list(range(32, 64)), "B": list(range(96, 128))}


def test_judgement_by_hand():
    scores, member = np.array([0.9, 0.8, 0.5, 0.4, 0.2]), np.array([True, False, True, True, False])
    attack = judge(scores, member)
    assert attack.accuracy == pytest.approx((1.5 / 3 + 1 / 2) / 2)  # the tie at 0.5 is half a hit
    assert attack.auc == pytest.approx(4 / 6)  # of 6 pairs, 4 in the right order
    assert attack.tpr == pytest.approx(1 / 3)
    fpr, tpr = roc_curve(scores, member)
    assert fpr.tolist() == [0, 0, 0.5, 0.5, 0.5, 1] and tpr[-1] == 1


def test_equal_scores_are_a_coin_toss():
    attack = judge(np.full(10, 0.5), np.arange(10) % 2 == 0)
    assert (attack.accuracy, attack.auc, attack.tpr) == (0.5, 0.5, 0.0)


def test_intervals_are_wider_than_photos_alone_would_have_them():
    sides = world(effect=0.5, spread_of_photos=0.0, models=4)
    memorable = (
        np.random.default_rng(1).normal(0, 2, PEOPLE).repeat(EACH)
    )  # members of some people stand out, of others not
    targets = {g: v + memorable * (sides.member_of == g) for g, v in sides.targets.items()}
    shifted = Sides(targets, sides.shadows, sides.member_of, sides.people)
    scores = umia(shifted, "logistic")
    by_people = intervals(scores, shifted, draws=300, seed=0)["auc"]
    photos = np.array([f"{p}/{i}" for i, p in enumerate(shifted.people)])
    by_photo = intervals(scores, Sides(shifted.targets, shifted.shadows, shifted.member_of, photos), draws=300, seed=0)[
        "auc"
    ]
    assert by_people[1] - by_people[0] > 1.5 * (by_photo[1] - by_photo[0])


def test_logistic_regression_is_the_minimum_of_its_loss():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(3, 2, 60), rng.normal(5, 2, 40)])
    y = np.repeat([False, True], [60, 40])
    fitted = fit_logistic(x, y)
    z = (x - x.mean()) / x.std()

    def loss(w: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-(w[0] + w[1] * z)))
        return float(-(np.log(p[y]).sum() + np.log1p(-p[~y]).sum()) + 0.5 * w[1] ** 2)

    best = minimize(loss, np.zeros(2), method="BFGS").x
    assert fitted.predict(x) == pytest.approx(1 / (1 + np.exp(-(best[0] + best[1] * z))), abs=1e-4)


def test_separable_classes_have_a_finite_slope():
    fitted = fit_logistic(np.array([0.0, 1.0, 10.0, 11.0]), np.array([False, False, True, True]))
    assert 0 < fitted.slope < 10 and fitted.predict(np.array([0.0, 11.0])).round().tolist() == [0, 1]


def test_first_cut_of_the_tree_is_the_best_of_all_cuts():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=50), rng.random(50) < 0.4
    y = y | (x > 0.8)

    def entropy(part: np.ndarray) -> float:
        p = part.mean()
        return 0.0 if p in (0, 1) else -len(part) * (p * np.log(p) + (1 - p) * np.log(1 - p))

    values = np.sort(x)
    cuts = (values[:-1] + values[1:]) / 2
    best = min(cuts, key=lambda cut: entropy(y[x <= cut]) + entropy(y[x > cut]))
    tree = fit_tree(x, y, max_leaves=2)
    assert tree.edges == pytest.approx([best])
    assert tree.shares == pytest.approx([y[x <= best].mean(), y[x > best].mean()])


def test_a_full_tree_knows_its_training_data_and_respects_its_limit():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=300), rng.random(300) < 0.5
    assert (fit_tree(x, y, max_leaves=300).predict(x) == y).all()
    assert len(fit_tree(x, y, max_leaves=17).shares) == 17


def test_equal_values_are_never_cut_apart():
    tree = fit_tree(np.array([1.0, 1.0, 1.0, 2.0]), np.array([True, False, True, False]))
    assert tree.edges.tolist() == [1.5] and tree.shares == pytest.approx([2 / 3, 0.0])


def test_few_targets_or_people_give_no_interval():
    sides = world(effect=0.5, spread_of_photos=1.0, models=3)
    assert set(intervals(umia(sides, "logistic"), sides, draws=20, seed=0).values()) == {None}
    enough = world(effect=0.5, spread_of_photos=1.0, models=4)
    low, high = intervals(umia(enough, "logistic"), enough, draws=50, seed=0)["auc"]
    assert 0 <= low < high <= 1


SIDES = ["A"] * 5 + ["B"] * 5


def accuracies(rng, *, model: float, person: float):
    """(hits, asked, people): models of A are asked about people 0 to 5, those of B about 6 to 11, 20 photos of each."""
    people = np.repeat(np.arange(12), 20)
    chance = 0.5 + model * rng.uniform(-1, 1, (10, 1)) + person * rng.uniform(-1, 1, 12)[people]
    asked = (people < 6) == (np.array(SIDES) == "A")[:, None]
    return rng.random((10, len(people))) < chance, asked, people


def test_accuracy_leaves_out_models_and_people_by_hand():
    """Five models a group, four people a group of one photo each: every model's share, without each in turn."""
    people = np.arange(8)
    asked = (people < 4) == (np.array(SIDES) == "A")[:, None]
    hits = np.random.default_rng(3).random((10, 8)) < 0.6
    shares = np.array([hits[i][asked[i]].mean() for i in range(10)])
    models = np.array([np.delete(shares, i).mean() for i in range(10)])
    without = np.array([
        np.mean([hits[i][asked[i] & (people != person)].mean() for i in range(10)]) for person in people
    ])  # fmt: skip
    samples = [models[:5], models[5:], without[:4], without[4:]]
    expected = interval(100 * shares.mean(), [100 * one for one in samples], bounds=(0.0, 100.0))
    assert accuracy_interval(hits, asked, people, SIDES) == pytest.approx(expected)
    kept = np.isin(people, [0, 1, 2, 4, 5, 6])
    assert accuracy_interval(hits, asked & kept, people, SIDES) is None, "three people a group"
    assert accuracy_interval(hits[1:], asked[1:], people, SIDES[1:]) is not None, "four and five models"
    assert accuracy_interval(hits[2:], asked[2:], people, SIDES[2:]) is None, "three models of A"


@pytest.mark.parametrize(("model", "person"), [(0.2, 0.0), (0.0, 0.3), (0.2, 0.2)])
def test_accuracy_intervals_hold_for_other_models_and_other_people(model, person):
    rng = np.random.default_rng(0)
    ends = [accuracy_interval(*accuracies(rng, model=model, person=person), SIDES) for _ in range(400)]
    assert np.mean([low <= 50 <= high for low, high in ends]) >= 0.93
