"""Accuracy on forget, holdout and retain people by enrolment of five photos, mean and interval over the models.

python cv/score.py model_path=models/cv/scrub
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base=None, config_path="../config/cv", config_name="score")
def main(config: DictConfig) -> None:
    from cv.membership.scores import GROUPS, score_models
    from cv.settings import ScoreSettings, read
    from cv.training.fleet import Fleet

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings, compute = read(ScoreSettings, values)
    with Fleet(compute) as fleet:
        record = score_models(settings, fleet)
    for group in GROUPS:
        ends = record["interval"][group]
        shown = f"[{ends[0]:.1f}, {ends[1]:.1f}]" if ends else "(no interval: fewer than four models or people a group)"
        print(f"{group:8} {record['mean'][group]:5.1f} %  {shown}")


if __name__ == "__main__":
    main()
