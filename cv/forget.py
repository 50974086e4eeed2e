"""Make every model forget its forget people, with one of the methods of config/cv/method/.

python cv/forget.py method=scrub                       # published hyper-parameters
python cv/forget.py method=retrain                     # the gold standard: never saw them
python cv/forget.py method=rmu options.c=1 lr=0.05 save_dir=models/cv/rmu_gentle
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base=None, config_path="../config/cv", config_name="forget")
def main(config: DictConfig) -> None:
    from cv.settings import ForgetSettings, read
    from cv.training.fleet import Fleet
    from cv.training.models import forget_job, train_models

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings, compute = read(ForgetSettings, values)
    with Fleet(compute) as fleet:
        print(f"models: {train_models(settings, forget_job(settings), fleet)}")


if __name__ == "__main__":
    main()
