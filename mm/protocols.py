"""One checkpoint under four public protocols on CLEAR, as published and corrected, side by side (docs/protocols.md).

accelerate launch mm/protocols.py                                    # the embedded benchmark's base model
accelerate launch mm/protocols.py model_path=models/llava-mini/ft_full+tofu/npo
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="mm/protocols")
def main(config: DictConfig) -> None:
    from mm import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings = track.settings("protocols", values)
    from mm.protocol_run import run

    table = run(settings)
    from unlearn.distributed.processes import is_main

    if is_main():
        print(table)


if __name__ == "__main__":
    run_script(main, "mm/protocols")
