"""Methods around other methods: `wrap: [project, sam]`, and what can go around what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from unlearn.hooks import Side, side_of_view
from unlearn.method import Method, Wrapper, defines
from unlearn.registry import build_method, class_of, method_names, options_of

EXCLUSIVE = ("combine", "perturb", "keeps", "side_of")  # hooks of which a step can have one


def wrapper_names() -> list[str]:
    """The names that `wrap` may list."""
    return [name for name in method_names() if issubclass(class_of(name), Wrapper)]


def wrap_method(method: Method, names: Sequence[str], method_args: Mapping[str, Mapping[str, Any] | None]) -> Method:
    """`method` inside the wrappers called `names`, the first innermost, each with its options of `method_args`.

    Raises:
        ValueError: a name that is no wrapper, a method that trains nothing, or two that do the same to a step.
    """
    for name in names:
        cls = class_of(name, "wrap")
        if not issubclass(cls, Wrapper):
            raise ValueError(f"wrap={name}: it goes around no other method; those that do are {wrapper_names()}")
        if defines(method, "edit"):
            raise ValueError(f"wrap={name}: {type(method).__name__} edits weights and trains nothing to wrap")
        if twice := [hook for hook in EXCLUSIVE if hook in vars(cls) and defines(method, hook)]:
            raise ValueError(f"wrap={name}: {type(method).__name__} has a {twice[0]} already, and a step takes one")
        wrapper = build_method(name, options_of(name, method_args))
        try:
            method = dataclasses.replace(wrapper, method=method)  # type: ignore[type-var]
        except ValueError as error:
            raise ValueError(f"wrap={name}: {error}") from error
    return method


def sides_trained(method: Method) -> set[Side]:
    """The sides that the student's views belong to."""
    return {side_of_view(view.name) for view in method.student_views}


def needs_training(method: Method, name: str, side: Side | None = None) -> None:
    """ValueError for a method that does not train, or not on `side`, which `name` goes around."""
    if defines(method, "edit"):
        raise ValueError(f"{name} goes around a method that trains, and {type(method).__name__} edits weights")
    if side is not None and side not in sides_trained(method):
        raise ValueError(f"{name} works on the {side} gradient, and {type(method).__name__} has no {side} side")


def needs_both_sides(method: Method, name: str) -> None:
    """ValueError for a method that `name` cannot combine the two gradients of."""
    needs_training(method, name)
    if missing := {"forget", "retain"} - sides_trained(method):
        raise ValueError(
            f"{name} weighs a forget gradient against a retain gradient, and {type(method).__name__} has no "
            f"{min(missing)} side; give it one (retain_weight, where it has that option) or take another method"
        )
    if method.passes(0) is not None:
        raise ValueError(
            f"{name} needs both sides in every step, and {type(method).__name__} takes whole passes of one"
        )
