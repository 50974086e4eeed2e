r"""Train the network that every model starts from, with AM-softmax on a set of celebrities.

    python cv/pretrain.py                                  # celebrities-mini, from random weights
    python cv/pretrain.py architecture=resnet-18 init=microsoft/resnet-18 data_path=tonyassi/celebrity-1000 size=224 \
        test_persons=200 num_epochs=100 batch_size=256 save_dir=models/cv-clear/pretrained
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config/cv", config_name="pretrain")
def main(config: DictConfig) -> None:
    from cv import track
    from cv.training.fleet import Fleet
    from cv.training.pretrained import pretrain

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings, compute = track.settings("pretrain", values)
    print(f"model: {pretrain(settings, Fleet(compute).device)}")


if __name__ == "__main__":
    run_script(main, "cv/pretrain")
