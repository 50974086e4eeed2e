"""Train the network that every model starts from, with AM-softmax on a set of celebrities.

python cv/pretrain.py                                  # celebrities-mini, from random weights
python cv/pretrain.py +experiment=clear                # ResNet-18 from ImageNet weights on tonyassi/celebrity-1000
"""

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base=None, config_path="../config/cv", config_name="pretrain")
def main(config: DictConfig) -> None:
    from cv.fleet import Fleet
    from cv.preparing import pretrain
    from cv.settings import PretrainSettings, read

    settings, compute = read(PretrainSettings, OmegaConf.to_container(config, resolve=True))
    print(f"model: {pretrain(settings, Fleet(compute).device)}")


if __name__ == "__main__":
    main()
