"""Accuracy on forget, holdout and retain people by enrolment of five photos, mean and interval over the models.

python cv/score.py model_path=models/cv/scrub
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config/cv", config_name="score")
def main(config: DictConfig) -> None:
    from cv import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    record = track.evaluate(track.settings("score", values))
    from cv.membership.scores import GROUPS

    for group in GROUPS:
        low, high = record["interval"][group]
        print(f"{group:8} {record['mean'][group]:5.1f} %  [{low:.1f}, {high:.1f}]")


if __name__ == "__main__":
    run_script(main, "cv/score")
