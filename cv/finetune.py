r"""Finetune the models of all splits: the recognisers before anything is forgotten ("original").

    python cv/finetune.py                                  # after cv/prepare.py and cv/pretrain.py
    accelerate launch cv/finetune.py splits=models/cv-clear/splits model_path=models/cv-clear/pretrained \
        save_dir=models/cv-clear/original                  # the models are dealt to all processes of all nodes
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config/cv", config_name="finetune")
def main(config: DictConfig) -> None:
    from cv import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    print(f"models: {track.finetune(track.settings('finetune', values))}")


if __name__ == "__main__":
    run_script(main, "cv/finetune")
