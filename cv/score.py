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
        ends = record["interval"][group]
        shown = f"[{ends[0]:.1f}, {ends[1]:.1f}]" if ends else "(no interval: fewer than four models or people a group)"
        print(f"{group:8} {record['mean'][group]:5.1f} %  {shown}")


if __name__ == "__main__":
    run_script(main, "cv/score")
