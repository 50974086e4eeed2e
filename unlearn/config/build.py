"""From a composed config (a plain dict) to a settings dataclass: where a key or value is refused, by its nearest
neighbour.

Published spellings ("true", "None", therem/faces_v1) are normalised here and nowhere else.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def choice(default: Any, *options: Any) -> Any:
    """A field that takes one of `options`."""
    return field(default=default, metadata={"options": (default, *options)})


def at_least(default: Any, minimum: float, at_most: float = math.inf) -> Any:
    """A numeric field with a lower bound, and where libraries give up or wait forever with an upper one."""
    return field(default=default, metadata={"minimum": minimum, "maximum": at_most})


def inert(default: Any, why: str) -> Any:
    """A key of the published configs that has no meaning here: accepted at its published value, an error otherwise."""
    return field(default=default, metadata={"inert": why})


def build_settings(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """An instance of `cls` from a plain mapping.

    Raises:
        ValueError: unknown key (with its nearest neighbour), wrong type, a value out of bounds or not among the
            options.
    """
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), list(fields), n=1, cutoff=0.5)
            hint = f" Did you mean {where + near[0]!r}?" if near else f" Known keys: {', '.join(sorted(fields))}."
            raise ValueError(f"Unknown config key {where + str(key)!r}.{hint}")
    built = {key: _value(where + key, values[key], hints[key], fields[key]) for key in values}
    return cls(**built)


def _value(name: str, value: Any, hint: Any, item: Any) -> Any:
    meta = item.metadata
    if value is None or str(value).lower() in ("none", "null"):
        value = "none" if "none" in meta.get("options", ()) else None  # report_to has a word for it
    value = _convert(name, value, hint)
    if "options" in meta and value not in meta["options"]:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(_word, meta['options']))}.")
    number = isinstance(value, (int, float))
    if "minimum" in meta and number and value < meta["minimum"]:
        raise ValueError(f"{name}={value} is too small; it must be at least {meta['minimum']}.")
    if "maximum" in meta and number and value > meta["maximum"]:
        raise ValueError(f"{name}={value} is too large; it must be at most {meta['maximum']}.")
    if "inert" in meta and value != item.default:
        raise ValueError(
            f"{name}={value!r} has no effect here ({meta['inert']}); remove it or set it to {item.default}."
        )
    if name.endswith(("data_path",)) and isinstance(value, str):
        value = ALIASES.get(value, value)
    return value


def _convert(name: str, value: Any, hint: Any) -> Any:
    """`value` as the annotated type; strings that spell it ("true", "1e-5") count, anything lossy does not."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        members = get_args(hint)
        if value is None:
            if type(None) in members:
                return None
        else:
            if isinstance(value, Mapping) and (nested := next(filter(dataclasses.is_dataclass, members), None)):
                return _convert(name, value, nested)  # whose error says which of its keys is wrong
            for member in members:
                if member is not type(None):
                    try:
                        return _convert(name, value, member)
                    except ValueError:
                        continue
        raise _wrong(name, value, " or ".join("null" if m is type(None) else _spell(m) for m in members))
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build_settings(hint, value, where=f"{name}.")  # type: ignore[arg-type]
    if hint is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if hint in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise _wrong(name, value, _spell(hint)) from None
        if number.is_integer() or (hint is float and math.isfinite(number)):
            return hint(number)
    if origin is Literal and str(value).lower() in get_args(hint):
        return str(value).lower()
    if hint is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if origin is list and isinstance(value, (list, tuple)):
        return [item if get_args(hint)[0] is Any else _convert(name, item, get_args(hint)[0]) for item in value]
    if origin is not None and origin is not list and isinstance(value, Mapping):
        return dict(value)
    raise _wrong(name, value, _spell(hint))


def _word(option: Any) -> str:
    return str(option).lower() if isinstance(option, bool) else str(option)


def _spell(hint: Any) -> str:
    return " or ".join(get_args(hint)) if get_origin(hint) is Literal else getattr(hint, "__name__", str(hint))


def _wrong(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name}={value!r} is not a {expected}; correct it on the command line or in the config file.")


ALIASES = {"therem/faces_v1": "therem/CLEAR"}  # the published configs name the dataset's old id
