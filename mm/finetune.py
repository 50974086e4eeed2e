"""Finetune a vision-language model on a split of CLEAR.

accelerate launch mm/finetune.py                                    # the embedded benchmark on a CPU
accelerate launch mm/finetune.py split=retain90+tofu                # the gold model
accelerate launch mm/finetune.py +experiment=llava                  # LLaVA-1.5-7B on therem/CLEAR (Appendix H)
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="mm/finetune")
def main(config: DictConfig) -> None:
    from mm import track

    track.adapt("finetune", config)
    values: Any = OmegaConf.to_container(config, resolve=True)
    folder = track.finetune(track.settings("finetune", values))
    from unlearn.distributed.processes import is_main

    if is_main():
        print(f"model: {folder}")


if __name__ == "__main__":
    run_script(main, "mm/finetune")
