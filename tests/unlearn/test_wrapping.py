"""What can go around what, and what a wrapper takes from the method inside."""

import pytest

from unlearn.method import defines, runs_sided
from unlearn.methods.sparsity import with_l1
from unlearn.registry import build_method
from unlearn.wrapping import sides_trained, wrap_method

KEPT = build_method("npo", {"retain_weight": 2.0})


def test_a_wrapper_has_its_options_and_the_inner_methods_rest():
    method = wrap_method(KEPT, ["Project"], {"project": {"gamma": 0.5}, "npo": {"beta": 3.0}})
    assert (method.method, method.gamma, method.scope) == (KEPT, 0.5, "global")
    assert method.student_views == KEPT.student_views and method.teacher_views == KEPT.teacher_views
    assert runs_sided(method) and runs_sided(with_l1(method, 0.1, "init")) and not runs_sided(KEPT)
    assert defines(method, "combine") and not defines(method, "prepare")
    assert wrap_method(KEPT, [], {}) is KEPT


def test_alone_it_is_around_its_own_pair():
    assert build_method("project").method == build_method("grad_diff")
    assert sides_trained(build_method("project")) == {"forget", "retain"}


@pytest.mark.parametrize(
    ("method", "names", "message"),
    [
        (KEPT, ["npo"], r"wrap=npo: it goes around no other method; those that do are \[.*project"),
        (KEPT, ["projekt"], "unknown wrap 'projekt'; did you mean 'project'"),
        (KEPT, ["project", "project"], "wrap=project: Project has a combine already, and a step takes one"),
        (build_method("project"), ["project"], "has a combine already"),
        (build_method("npo"), ["project"], "NPO has no retain side; give it one"),
        (build_method("retain_ft"), ["project"], "has no forget side"),
        (build_method("scrub", {"schedule": "alternating"}), ["project"], "SCRUB takes whole passes of one"),
    ],
)
def test_what_does_not_go_together(method, names, message):
    with pytest.raises(ValueError, match=message):
        wrap_method(method, names, {})
