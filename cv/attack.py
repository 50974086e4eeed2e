"""Membership inference: can an attacker with shadow models tell forgotten people from people never seen?

python cv/attack.py attack=ulira model_path=models/cv/scrub        # after cv/score.py
python cv/attack.py attack=umia model_path=models/cv/scrub include_enrolment=true
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config/cv", config_name="attack")
def main(config: DictConfig) -> None:
    from cv import track
    from cv.leaderboard import ATTACKS
    from cv.membership.run import run_attack

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings, _ = track.settings("attack", values)
    record = run_attack(settings)
    for name in ATTACKS.keys() & record.keys():
        result, ends = record[name], record[name]["interval"]["accuracy"]
        shown = (
            f"[{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "(no interval: fewer than four targets or people a group)"
        )
        print(f"{ATTACKS[name]}: accuracy {result['accuracy']:.3f} {shown}", end=", ")
        print(f"AUC {result['auc']:.3f}, TPR at 1 % FPR {result['tpr']:.3f}")


if __name__ == "__main__":
    run_script(main, "cv/attack")
