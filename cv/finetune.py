r"""Finetune the models of all splits: the recognisers before anything is forgotten ("original").

    python cv/finetune.py                                  # after cv/prepare.py and cv/pretrain.py
    accelerate launch cv/finetune.py splits=models/cv-clear/splits model_path=models/cv-clear/pretrained \
        save_dir=models/cv-clear/original                  # the models are dealt to all processes of all nodes
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base=None, config_path="../config/cv", config_name="finetune")
def main(config: DictConfig) -> None:
    from cv.settings import FinetuneSettings, read
    from cv.training.fleet import Fleet
    from cv.training.models import finetune_job, train_models

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings, compute = read(FinetuneSettings, values)
    with Fleet(compute) as fleet:
        print(f"models: {train_models(settings, finetune_job(settings), fleet)}")


if __name__ == "__main__":
    main()
