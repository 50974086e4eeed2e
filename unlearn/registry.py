"""Methods by name: `@register("npo")` on a `Method`, a frozen dataclass whose fields are the method's options.

Names are case-insensitive and keep the published spellings. An unknown name or option raises with its near miss and
the full list; options are checked against the field's type here and for their range in the class itself.
"""

from __future__ import annotations

import difflib
import inspect
import keyword
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from unlearn.method import HOOKS, Method, Wrapper

M = TypeVar("M", bound=Method)

PUBLISHED_LOSS_BETA = 1.0  # default of the published config, handed to every loss, also to those that ignore it


@dataclass(frozen=True)
class _Entry:
    name: str
    cls: type[Any]  # of a Method
    fixed: Mapping[str, Any]  # fields this name decides, so no options of it

    def options(self) -> dict[str, str]:
        """Option name -> field name. A field `lambda_` or `from_` is the option `lambda` or `from`."""
        names = [f.name for f in fields(self.cls) if f.init and f.name not in self.fixed]
        return {n[:-1] if keyword.iskeyword(n[:-1]) and n.endswith("_") else n: n for n in names}


_METHODS: dict[str, _Entry] = {}


def register(name: str, *aliases: str, **fixed: Any) -> Callable[[type[M]], type[M]]:
    """Class decorator. `fixed` are field values that belong to this name (`forget="ce"` of a `grad_diff_forget_ce...`).

    Raises:
        ValueError: one of the names is taken, in any letter case, or the class has a member that `Method` does not
            know or knows as something else.
    """

    def decorate(cls: type[M]) -> type[M]:
        cls = as_method(cls)
        for spelling in (name, *aliases):
            if (taken := _METHODS.get(spelling.lower())) is not None:
                raise ValueError(f"method {spelling!r} is already registered, by {taken.cls.__qualname__}")
            _METHODS[spelling.lower()] = _Entry(spelling, cls, fixed)
        return cls

    return decorate


def as_method(cls: type[M]) -> type[M]:
    """`cls` as a method; one that does not say `class ...(Method)` gets the defaults all the same.

    Raises:
        ValueError: no dataclass, no views or loss of its own, or a public member that is neither an option nor a hook
            of the right kind and signature.
    """
    name = cls.__qualname__
    if not is_dataclass(cls):
        raise ValueError(f"{name} is no dataclass; write @register above @dataclass(frozen=True)")
    if not issubclass(cls, Method):
        cls = type(cls.__name__, (cls, Method), {k: getattr(cls, k) for k in ("__module__", "__qualname__", "__doc__")})
    edits = getattr(cls, "edit", Method.edit) is not Method.edit
    for needed in ("student_views",) if edits else ("student_views", "loss"):
        if getattr(cls, needed, None) is getattr(Method, needed):
            raise ValueError(f"{name} has no {needed}; every method needs its own")
    options = {field.name for field in fields(cls)}
    known = Wrapper if issubclass(cls, Wrapper) else Method
    own = {n for base in cls.__mro__ if not issubclass(known, base) for n in vars(base) if not n.startswith("_")}
    for member in sorted(own | options):
        if member in HOOKS:
            _check_hook(name, member, inspect.getattr_static(cls, member, None))
        elif member not in options:
            raise ValueError(
                f"{_unknown(f'member of the method {name}', member, sorted(HOOKS))}. An option is annotated "
                f"(`{member}: float = 1.0`), a helper begins with an underscore"
            )
    if cls.loss_beta_option not in {None, *options}:
        raise ValueError(f"{name}.loss_beta_option={cls.loss_beta_option!r} is none of its options")
    sides = [parts for parts in (cls.forget_parts, cls.retain_parts) if not isinstance(parts, property)]
    if any(isinstance(parts, str) for parts in sides) or len(set().union(*sides)) < sum(map(len, sides)):
        raise ValueError(f"{name}: forget_parts and retain_parts are tuples of names that have none in common")
    return cls


def _check_hook(name: str, hook: str, value: Any) -> None:
    expected = inspect.getattr_static(Method, hook)
    if not inspect.isfunction(expected):
        if inspect.isfunction(value):
            raise ValueError(f"{name}.{hook} must be a value or a property; write @property above it")
        return
    wanted = inspect.signature(expected)
    try:
        inspect.signature(value).bind(*wanted.parameters)
    except TypeError as error:  # also where `value` is no function
        raise ValueError(f"{name}.{hook} must be a method with the parameters {wanted}") from error


def method_names() -> list[str]:
    """Every accepted name in its published spelling, sorted without regard to case."""
    return [_registry()[key].name for key in sorted(_registry())]


def class_of(name: str, what: str = "forget_loss") -> type[Method]:
    """The class that a name builds. ValueError for an unknown one, which calls it a `what`."""
    return _entry(name, what).cls


def option_names(name: str) -> list[str]:
    """The options `method_args.<name>` may hold."""
    return list(_entry(name).options())


def options_of(name: str, method_args: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """The options of method `name` in the whole `method_args` section, whatever its letter case.

    Raises:
        ValueError: the section names an unknown method (a typo there would otherwise be lost).
    """
    found: dict[str, Any] = {}
    for key, options in method_args.items():
        if _entry(key, "method_args").name == _entry(name).name:
            found.update(options or {})
    return found


def build_method(name: str, options: Mapping[str, Any] | None = None, *, loss_beta: float | None = None) -> Method:
    """Build the method called `name`.

    Args:
        name: any letter case.
        options: option name -> value; what is left out has the default of the class.
        loss_beta: the published config's shared knob. If not None it overrides the forget weight or beta of the
            methods that name an option for it; for any other only the published default of 1.0 is accepted.

    Raises:
        ValueError: unknown name or option, a value of the wrong type, choice or range, a `loss_beta` nobody reads.
    """
    entry = _entry(name)
    known, hints = entry.options(), get_type_hints(entry.cls)
    values = dict(entry.fixed)
    for option, value in (options or {}).items():
        field = known.get(option) or known.get(str(option).lower())
        if field is None:
            raise ValueError(_unknown(f"option of method_args.{entry.name}", option, known))
        values[field] = _checked(f"method_args.{entry.name}.{option}", value, hints[field])
    if loss_beta is not None:
        target = entry.cls.loss_beta_option
        if target is not None:
            values[target] = _checked("loss_beta", loss_beta, float)
        elif loss_beta != PUBLISHED_LOSS_BETA:
            readers = [n for n in method_names() if _entry(n).cls.loss_beta_option]
            raise ValueError(
                f"loss_beta={loss_beta} has no meaning for {entry.name}: it is read by {', '.join(readers)}. "
                f"Leave it null and set method_args.{entry.name} ({', '.join(known) or 'no options'})"
            )
    try:
        return entry.cls(**values)
    except ValueError as error:
        raise ValueError(f"method_args.{entry.name}: {error}") from error


def at_least(low: float, **values: float) -> None:
    """Raise ValueError unless every named value is finite and >= low."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= low):
            raise ValueError(f"{name} must be a finite number >= {low:g}, got {value}")


def above(low: float, **values: float) -> None:
    """Raise ValueError unless every named value is finite and > low."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > low):
            raise ValueError(f"{name} must be a finite number > {low:g}, got {value}")


def _registry() -> dict[str, _Entry]:
    import unlearn.methods  # noqa: F401 - registers them; at the top it would be a circular import

    return _METHODS


def _entry(name: str, what: str = "forget_loss") -> _Entry:
    entry = _registry().get(str(name).lower())
    if entry is None:
        raise ValueError(_unknown(what, name, method_names()))
    return entry


def _unknown(what: str, got: str, known: Iterable[str]) -> str:
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(str(got).lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"unknown {what} {got!r}{hint} Known: {', '.join(by_lower.values()) or 'none'}"


def _checked(where: str, value: Any, hint: Any) -> Any:
    """`value` if the annotation `hint` allows it (an int for a float; a choice in any letter case), else ValueError."""
    alternatives = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for alternative in alternatives:
        if get_origin(alternative) is Literal:
            for choice in get_args(alternative):
                if isinstance(value, str) and value.lower() == choice.lower():
                    return choice
        elif alternative is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        elif alternative in (int, bool, str, type(None)) and type(value) is alternative:
            return value
    raise ValueError(f"{where}={value!r} is not allowed: {' or '.join(map(_describe, alternatives))} is expected")


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    return {type(None): "null", int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
