"""The settings of `mm/protocols.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearn.config.build import at_least, build_settings, choice
from unlearn.plugins import load_plugins


@dataclass(frozen=True)
class ProtocolSettings:
    """What config/mm/protocols.yaml says; `evaluation` are the keys that the evaluations behind it take over."""

    model_path: str = ""
    model_family: str = "llava-mini"
    plugins: list[str] = field(default_factory=list)
    processor_path: str | None = None
    save_dir: str = ""
    beside: list[str] = field(default_factory=list)
    data_path: str = "data/clear-mini"
    data_revision: str | None = None
    split: str = "forget10"
    ds_size: int | None = at_least(None, 1)
    batch_size: int | str = 8
    max_length: int = at_least(4096, 1, 10**7)
    precision: str = choice("auto", "bf16", "fp32")
    quantization: str | None = choice(None, "4bit", "8bit")
    attn_implementation: str = choice("auto", "flash_attention_2", "sdpa", "eager")
    cudnn_attention: bool = False
    overwrite: bool = False
    seed: int = at_least(42, 0, 2**32 - 1)

    @property
    def evaluation(self) -> dict[str, Any]:
        own = ("beside", "split", "data_path", "save_dir")
        return {key: value for key, value in vars(self).items() if key not in own}


def protocol_settings(values: Mapping[str, Any]) -> ProtocolSettings:
    """Checked. ValueError for a bad key or value, or a model beside it that was not asked yet."""
    load_plugins(values.get("plugins"))
    settings = build_settings(ProtocolSettings, values)
    for other in settings.beside:
        if not (Path(other) / "protocols" / "protocols.json").is_file():
            raise ValueError(f"{other}/protocols/protocols.json is not there: run mm/protocols.py on that model first.")
    return settings
