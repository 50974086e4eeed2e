"""Unlearn a forget split with one of the methods of config/method_args.yaml.

accelerate launch mm/forget.py                                      # gradient difference on the embedded benchmark
accelerate launch mm/forget.py forget_loss=npo modality=visual method_args.npo.beta=0.3
accelerate launch mm/forget.py +experiment=llava forget_loss=LLMU   # LLaVA-1.5-7B on therem/CLEAR (Appendix H)
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="mm/forget")
def main(config: DictConfig) -> None:
    from mm import track

    track.adapt("forget", config)
    values: Any = OmegaConf.to_container(config, resolve=True)
    folder = track.forget(track.settings("forget", values))
    from unlearn.distributed.processes import is_main

    if is_main():
        print(f"model: {folder}")


if __name__ == "__main__":
    run_script(main, "mm/forget")
