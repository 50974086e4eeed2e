"""The ways to forget a face, by the names of the paper's Table 5. Three formulas are this track's own, the rest the
core's."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from cv.methods.dpo import FaceDPO
from cv.methods.neggrad import NegGrad
from cv.methods.rmu import FaceRMU
from unlearn.config.build import build_settings
from unlearn.method import Method
from unlearn.registry import as_method, build_method, class_of, method_names

OWN: dict[str, Any] = {"neggrad": as_method(NegGrad), "dpo": as_method(FaceDPO), "rmu": as_method(FaceRMU)}
CORE = {
    "retrain": "retain_ft",
    "finetune": "retain_ft",
    "scrub": "scrub",
    "scrub_bio": "scrub_bio",
    "llmu": "LLMU",
    "twins": "twins",
    "sparsity": "sparsity",
}
NAMES = tuple(sorted({*OWN, *CORE}))


def face_method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """The method `name` with its options. ValueError for an unknown name or option, with its neighbours."""
    if name in OWN:
        return build_settings(OWN[name], options or {}, where="options.")
    if name in CORE:
        return build_method(CORE[name], options)
    if name in from_outside():
        return build_method(name, options)
    known = [*NAMES, *from_outside()]
    near = get_close_matches(name, known, n=1)
    raise ValueError(
        f"method={name!r} is unknown{f'; did you mean {near[0]!r}?' if near else '.'} Known: {', '.join(known)}."
    )


def from_outside() -> list[str]:
    """Methods that plugins brought. The core's others have no published settings for faces."""
    found = [name for name in method_names() if class_of(name).__module__.partition(".")[0] != "unlearn"]
    if taken := sorted({*found} & {*NAMES}):
        raise ValueError(f"A plugin brings a method {taken[0]!r}, which is one of the face track's own; rename it.")
    return found
