"""Names, options and their errors; config/method_args.yaml in step with the classes."""

import re
from dataclasses import dataclass, make_dataclass
from pathlib import Path

import pytest
import torch
import yaml

from unlearn import registry
from unlearn.method import HOOKS, Method, View, by_side, defines
from unlearn.methods.sparsity import with_l1
from unlearn.registry import build_method, method_names, option_names, options_of, register

YAML = Path(__file__).parents[2] / "config" / "method_args.yaml"
PUBLISHED = [
    "retain_ft", "grad_ascent", "grad_diff", "grad_diff_forget_ce_retain_ce", "grad_diff_forget_ce_retain_KL",
    "grad_diff_forget_entropy_retain_ce", "grad_diff_forget_entropy_retain_KL", "grad_diff_forget_KL_retain_ce",
    "grad_diff_forget_KL_retain_KL", "KL", "idk", "dpo", "npo", "scrub", "LLMU", "RMU", "twins", "scrub_bio",
    "sparsity", "SKU",
]  # fmt: skip
NEXT_WAVE = [
    "simnpo", "undial", "wga", "tnpo", "satimp", "ceu", "flat", "task_vector", "vgid", "jensun", "altpo", "eco_ft",
    "pava", "project", "salun", "mmunlearner", "pdu", "sam", "dual", "kvw", "manu",
]  # fmt: skip


@pytest.fixture
def scratch_registry(monkeypatch):
    """Whatever a test registers is gone afterwards."""
    method_names()
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))


def test_the_published_names_the_next_wave_and_no_others():
    assert method_names() == sorted([*PUBLISHED, *NEXT_WAVE], key=str.lower)


@pytest.mark.parametrize("name", PUBLISHED)
def test_any_letter_case_builds_the_same_method(name):
    assert build_method(name) == build_method(name.lower()) == build_method(name.upper())


def method_args() -> dict:
    return yaml.safe_load(YAML.read_text(encoding="utf-8"))["method_args"]


def test_yaml_holds_every_option_of_every_method_at_its_default():
    section = method_args()
    assert sorted(section) == sorted([*PUBLISHED, *NEXT_WAVE])
    for name, options in section.items():
        assert list(options) == option_names(name), name
        assert build_method(name, options) == build_method(name), name


def test_yaml_can_be_shared_by_scripts_and_explains_every_option():
    text = YAML.read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    options = [line for line in text.splitlines() if re.match(r"    \w+:", line)]
    assert len(options) == sum(len(o) for o in method_args().values())
    assert [line for line in options if not re.search(r"# \w+", line)] == []


def test_unknown_name_gets_its_near_miss_and_the_list():
    with pytest.raises(ValueError, match=r"forget_loss 'npoo'; did you mean 'npo'\? Known: altpo, ceu, dpo, .*twins"):
        build_method("npoo")
    with pytest.raises(ValueError, match="did you mean 'grad_diff_forget_KL_retain_KL'"):
        build_method("grad_diff_forget_kl_retain_kll")


def test_unknown_option_gets_its_near_miss_and_the_list():
    with pytest.raises(ValueError, match=r"method_args.npo 'betta'; did you mean 'beta'\?.*retain_weight, retain_loss"):
        build_method("npo", {"betta": 0.3})
    with pytest.raises(ValueError, match="method_args.KL 'beta' Known: none"):
        build_method("KL", {"beta": 1.0})
    # what the name decides is no option
    with pytest.raises(ValueError, match="'forget'"):
        build_method("grad_diff_forget_ce_retain_ce", {"forget": "entropy"})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("npo", {"beta": 0}, r"method_args.npo: beta must be a finite number > 0, got 0"),
        ("npo", {"beta": -0.1}, "beta"),
        ("npo", {"beta": float("nan")}, "beta"),
        ("npo", {"beta": float("inf")}, "beta"),
        ("npo", {"beta": True}, "a number is expected"),
        ("npo", {"beta": "0.3"}, "a number is expected"),
        ("npo", {"retain_weight": -1.0}, "retain_weight"),
        ("npo", {"retain_loss": "entropy"}, r"method_args.npo.retain_loss='entropy' is not allowed: one of ce, KL"),
        ("dpo", {"beta": 0.0}, "beta"),
        ("dpo", {"l_dpo": -1}, "l_dpo"),
        ("grad_diff", {"beta": -1}, "beta"),
        ("scrub", {"schedule": "both"}, "joint, alternating"),
        ("scrub", {"msteps": -1}, "msteps"),
        ("scrub", {"msteps": 1.5}, "a whole number"),
        ("LLMU", {"answers": "true"}, "idk, random"),
        ("LLMU", {"k": 0}, "k must be"),
        ("LLMU", {"w_n": -1}, "w_n"),
        ("SKU", {"k": 0}, "k must be"),
        ("SKU", {"e3": -0.5}, "e3"),
        ("RMU", {"layer": -1}, "layer"),
        ("RMU", {"layer": "first"}, "a whole number or one of last or null"),
        ("RMU", {"preset": "mad"}, "paper, sane"),
        ("RMU", {"alpha": -1}, "alpha"),
        ("RMU", {"c": -1}, "c must be"),
        ("scrub_bio", {"layer": -2}, "layer"),
        ("twins", {"distance": "cosine"}, "kl, mse"),
        ("sparsity", {"lambda": -1}, "lambda must be"),
        ("sparsity", {"from": "start"}, "zero, init or null"),
        ("sparsity", {"decay": 1}, "true or false"),
        ("salun", {"k": 0}, "k must be above 0 and at most 1, got 0"),
        ("salun", {"k": 1.5}, "k must be"),
        ("mmunlearner", {"b": -1}, "b must be"),
        ("mmunlearner", {"protect": "all"}, "one of retain, paper"),
        ("pdu", {"eps": -0.1}, "eps must be"),
        ("pdu", {"eta": -1}, "eta must be"),
        ("pdu", {"warmup": 0.5}, "a whole number"),
        ("sam", {"rho": -0.1}, "rho must be"),
        ("dual", {"forget": 0}, "forget must be"),
        ("dual", {"retain": 0}, "retain must be"),
        ("kvw", {"gamma": -1}, "gamma must be"),
        ("kvw", {"layers": "1"}, "layers must be first-last, e.g. 1-25, got '1'"),
        ("kvw", {"layers": "5-2"}, "layers must be first-last"),
        ("kvw", {"rows": "text"}, "one of image, all"),
        ("manu", {"alpha": 1.5}, "alpha must be at most 1"),
        ("manu", {"tau": -1}, "tau must be"),
        ("manu", {"layers": 0}, "layers must be"),
        ("manu", {"layers": "some"}, "a whole number or one of all"),
        ("project", {"gamma": 0}, "gamma must be above 0 and at most 1, got 0"),
        ("project", {"gamma": 1.5}, "gamma"),
        ("project", {"scope": "layer"}, "one of global, tensor"),
        ("project", {"retain_weight": -1}, "retain_weight"),
    ],
)
def test_bad_values_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_method(name, options)


def test_values_are_normalised():
    assert build_method("npo", {"beta": 2}).beta == 2.0
    assert build_method("npo", {"retain_loss": "kl"}).retain_loss == "KL"
    assert build_method("SKU", {"K": 5}).k == 5
    assert build_method("sparsity", {"lambda": 0.5, "from": "init"}).lambda_ == 0.5


@pytest.mark.parametrize(
    ("name", "field"),
    [("npo", "beta"), ("scrub", "beta"), ("RMU", "forget_weight"), ("grad_diff_forget_KL_retain_ce", "beta")],
)
def test_loss_beta_overrides_the_forget_weight(name, field):
    assert getattr(build_method(name, {field: 3.0}, loss_beta=0.25), field) == 0.25
    assert getattr(build_method(name, {field: 3.0}, loss_beta=None), field) == 3.0


def test_loss_beta_never_touches_dpo():
    assert build_method("dpo", loss_beta=1.0) == build_method("dpo")
    with pytest.raises(
        ValueError, match=r"loss_beta=0.5 has no meaning for dpo: .*eco_ft, .*grad_diff.*npo, RMU, scrub\. .*beta"
    ):
        build_method("dpo", loss_beta=0.5)


def test_options_of_finds_the_section_in_any_case_and_refuses_strangers():
    section = {"SKU": {"k": 5}, "npo": {"beta": 0.3}, "idk": None}
    assert options_of("sku", section) == {"k": 5}
    assert options_of("IDK", section) == {} and options_of("dpo", section) == {}
    with pytest.raises(ValueError, match="unknown method_args 'nppo'; did you mean 'npo'"):
        options_of("sku", {"nppo": {"beta": 0.3}})


@dataclass(frozen=True)
class Own(Method):
    weight: float = 1.0
    student_views = (View("forget"),)

    def loss(self, student, teacher, step=None):
        return {"forget": self.weight * student["forget"].cross_entropy()}


def test_a_method_of_ones_own_and_what_it_may_leave_out(scratch_registry):
    register("Own", "mine")(Own)
    method = build_method("MINE", {"weight": 2})
    assert method == Own(2.0) and {"Own", "mine"} <= set(method_names())
    assert (method.teacher_views, method.hidden, method.reference_path, method.forbids_lora) == ((), None, None, None)
    assert method.passes(0) is None and not method.needs_initial and not method.teacher_sums_only
    assert method.penalty(None, None) == {} and method.finalize({}, {"w": 1}) == {"w": 1}
    assert not any(defines(method, hook) for hook in HOOKS - {"student_views", "loss"})


def loss(self, student, teacher, step=None):
    return {"forget": student["forget"].cross_entropy()}


def penalty(self, trained, step):
    return {}


GOOD = {"student_views": (View("forget"),), "loss": loss}


def made(bases=(Method,), options=(), **members):
    """A frozen dataclass with these members, and fields `name: float = 1.0`."""
    return make_dataclass("Mine", [(name, float, 1.0) for name in options], bases=bases, namespace=members, frozen=True)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (made(**GOOD, penalti=penalty), "member of the method Mine 'penalti'; did you mean 'penalty'"),
        (made(**GOOD, beta=2.5), r"'beta'.* An option is annotated \(`beta: float = 1.0`\), a helper begins with"),
        (made(bases=(made(**GOOD, finalise=loss),)), "'finalise'; did you mean 'finalize'"),  # inherited
        (made(bases=(), **GOOD, teacher_view=()), "'teacher_view'; did you mean 'teacher_views'"),
        (made(student_views=GOOD["student_views"]), "Mine has no loss"),
        (made(loss=loss), "Mine has no student_views"),
        (made(bases=(), loss=loss), "Mine has no student_views"),
        (made(**GOOD, penalty=lambda self, trained: {}), r"Mine.penalty must be a method with .*trained.*step"),
        (made(**GOOD, options=("penalty",)), "Mine.penalty must be a method"),
        (made(**GOOD, forbids_lora=lambda self: "no"), "Mine.forbids_lora must be a value or a property"),
        (made(**GOOD, loss_beta_option="weight"), "loss_beta_option='weight' is none of its options"),
        (made(**GOOD, retain_parts=("kl", "forget")), "Mine: forget_parts and retain_parts .* none in common"),
        (made(**GOOD, forget_parts="idk"), "are tuples of names"),
        (type("Mine", (Method,), GOOD), "write @register above @dataclass"),
    ],
)  # fmt: skip
def test_what_the_base_does_not_know_is_refused_at_registration(scratch_registry, cls, message):
    with pytest.raises(ValueError, match=message):
        register("mine")(cls)
    assert "mine" not in method_names()


def test_options_hooks_and_private_helpers_are_known(scratch_registry):
    known = {**GOOD, "penalty": penalty, "_helper": loss, "loss_beta_option": "beta", "forbids_lora": property(repr)}
    register("mine")(made(options=("beta",), **known))
    assert build_method("mine", loss_beta=0.5).beta == 0.5 and defines(build_method("mine"), "penalty")
    assert build_method("dpo").reference_path is None  # an option that is a hook at once


def test_a_class_without_the_base_gets_its_defaults(scratch_registry):
    cls = register("mine")(made(bases=(), options=("weight",), **GOOD))
    method = build_method("mine", {"weight": 2})
    assert isinstance(method, Method) and method == cls(2.0) and method.teacher_views == () and method.weight == 2.0


def test_a_wrapper_hands_on_every_member_it_does_not_have(scratch_registry):
    register("mine")(made(**GOOD, passes=lambda self, epoch: ("forget",), retain_parts=("kl",), needs_initial=True))
    inner = build_method("mine")
    method = with_l1(inner, 0.5, "zero")
    assert [hook for hook in sorted(HOOKS) if getattr(method, hook) != getattr(inner, hook)] == [
        "forbids_lora",
        "penalty",
    ]
    assert {hook for hook in HOOKS if defines(method, hook)} == {
        "student_views", "loss", "passes", "retain_parts", "needs_initial", "penalty", "forbids_lora",
    }  # fmt: skip
    assert defines(with_l1(with_l1(build_method("SKU"), 0.1, "init"), 0.1, "init"), "finalize")


def test_a_part_without_a_side_is_an_error():
    part = torch.ones(())
    assert by_side(build_method("dpo"), {"task": part, "retain": part}) == {
        "forget": {"task": part}, "retain": {"retain": part},
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"NPO.loss returned the part 'kl'; .*forget_parts.*Name each part in one"):
        by_side(build_method("npo"), {"forget": part, "kl": part})
    with pytest.raises(ValueError, match="NPO.loss returned no part"):
        by_side(build_method("npo"), {})


def test_a_taken_name_is_an_error_in_any_case(scratch_registry):
    with pytest.raises(ValueError, match="'kl' is already registered, by KLMinimisation"):
        register("kl")(Own)


@pytest.mark.parametrize(
    "view",
    [("forgot",), ("forget", 2), ("random", 0, "forget"), ("random", 2), ("retain", 1, "forget"), ("random", 1, "idk")],
)
def test_views_that_make_no_sense_are_refused(view):
    with pytest.raises(ValueError, match="view"):
        View(*view)
