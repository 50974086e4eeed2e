"""The settings of ECO, part of an evaluation's."""

from dataclasses import dataclass

from unlearn.config.build import at_least, choice


@dataclass(frozen=True)
class EcoSettings:
    """ECO: prompts about the forget split are disturbed at inference. The splits that its classifier learns from are by
    default those of the track's forget script; `data_path` "": that of the first task."""

    threshold: float = at_least(0.999, 0, 1)  # of the classifier's probability
    corruption: str = choice("zero_top_k", "zero_first_n", "noise_first_n")
    size: int = at_least(1000, 1, 10**6)  # k or n: entries of each embedding
    strength: float = at_least(1.0, 0, 1e6)  # standard deviation of the noise
    data_path: str = ""
    forget_split: str = ""
    retain_split: str = ""
