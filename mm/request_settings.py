"""The keys of config/request.yaml, and the stop rule that they make."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unlearn.config.build import at_least, choice
from unlearn.config.settings import LoraSettings

PATIENCE = 3  # epochs without a better one, after which training stops


@dataclass(frozen=True)
class RequestSettings:
    """The keys of config/request.yaml."""

    data: str = ""
    forget: list[str] | str = field(default_factory=list)
    holdout: list[str] | str = field(default_factory=list)
    model_path: str = ""
    model_family: str = "llava-mini"
    save_dir: str = "requests/latest"
    gold: str | None = None
    retrain: bool = False
    retrain_from: str | None = None
    retrain_epochs: float = at_least(30, 0, 1e4)
    retrain_lr: float = at_least(5e-3, 0, 1e3)
    plugins: list[str] = field(default_factory=list)  # the script loads them
    method: str = "npo"
    method_args: Mapping[str, Any] = field(default_factory=dict)
    lr: float = at_least(1e-3, 0, 1e3)
    num_epochs: float = at_least(10, 0, 1e4)
    batch_size: int = at_least(8, 1, 10**6)
    keep_retain: float = at_least(0.95, 0, 1)
    target: float | None = at_least(None, 0, 1)
    LoRA: LoraSettings = field(default_factory=LoraSettings)
    precision: str = choice("auto", "bf16", "fp32")
    seed: int = at_least(42, 0, 2**32 - 1)
    max_new_tokens: int = at_least(64, 1, 10**6)
    eval_batch_size: int | str = "auto"
    margin: float = at_least(0.05, 1e-6, 1)
    stress: bool | str | None = None
    examples: bool = False

    def rule(self) -> str:
        """When training stops, in words."""
        goal = "lowest"
        if self.target is not None:
            goal = f"nearest to {self.target:g}"
        elif self.retrain or self.gold:
            goal = "nearest to gold's"
        elif self.holdout:
            goal = "nearest to that of the people held out"
        return (
            f"at most {self.num_epochs:g} epochs; kept is, of those with at least {self.keep_retain:.0%} of what was "
            f"known of the other people, the one whose probability of the answers to forget is {goal}; {PATIENCE} "
            "epochs without a better one end it"
        )
