"""How two of the stress tests are done: many samples, and a few steps of training."""

from dataclasses import dataclass, field

from unlearn.config.build import at_least


@dataclass(frozen=True)
class LeakSettings:
    """Drawn answers: `samples` of each row, and the k of leak@k."""

    samples: int = at_least(64, 1, 10**5)
    k: list[int] = field(default_factory=lambda: [1, 4, 16, 64])
    temperature: float = at_least(1.0, 0, 100)
    top_p: float = at_least(1.0, 0, 1)
    max_new_tokens: int | None = at_least(None, 1, 10**6)  # of a drawn answer; null: generation.max_new_tokens


@dataclass(frozen=True)
class RelearnSettings:
    """A few steps of training, and after which of them the model is asked."""

    data: list[str] = field(default_factory=list)  # which of the track's: few, text, retain, stranger
    steps: list[int] = field(default_factory=lambda: [0, 1, 2, 4, 8, 16, 32])
    lr: float = at_least(3e-4, 0, 1e3)
    batch_size: int = at_least(12, 1, 10**6)
