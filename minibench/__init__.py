"""The embedded benchmark: small CLEAR- and TOFU-shaped datasets and tiny base models, made offline from a seed."""

from minibench.folders import ensure_dataset

__all__ = ["ensure_dataset"]
