"""Make every model forget its forget people, with one of the methods of config/cv/method/.

python cv/forget.py method=scrub                       # published hyper-parameters
python cv/forget.py method=retrain                     # the gold standard: never saw them
python cv/forget.py method=rmu options.c=1 lr=0.05 save_dir=models/cv/rmu_gentle
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config/cv", config_name="forget")
def main(config: DictConfig) -> None:
    from cv import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    print(f"models: {track.forget(track.settings('forget', values))}")


if __name__ == "__main__":
    run_script(main, "cv/forget")
