"""Decode the photos and write the identity splits of all models as JSON.

python cv/prepare.py                                   # faces-mini, 16 models, into models/cv/splits
python cv/prepare.py data_path=therem/CLEAR size=224 models=128 save_dir=models/cv-clear/splits
python cv/prepare.py data_path=my_photos models=32     # a folder of photos for each person
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config/cv", config_name="prepare")
def main(config: DictConfig) -> None:
    from cv import track
    from cv.data.prepared import prepare

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings, _ = track.settings("prepare", values)
    print(f"splits: {prepare(settings)}")


if __name__ == "__main__":
    run_script(main, "cv/prepare")
