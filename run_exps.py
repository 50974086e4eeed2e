"""Sweeps: base and gold once, then forget + evaluate per method, modality and seed, then the leaderboard and its report.

    python run_exps.py                                  # all methods, 3 seeds, the embedded benchmark
    python run_exps.py tune=true                        # also each method's best setting, chosen on a seed not reported
    python run_exps.py methods='[npo]' modalities='[text,visual,both]'

Finished jobs are kept (by the hash of their settings), interrupted ones go on, a failed one is reported and the rest go on.
"""

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.commandline import check_overrides


@hydra.main(version_base=None, config_path="config", config_name="run_exps")
def main(config: DictConfig) -> None:
    from mm.sweep import Sweep, run_sweep
    from unlearn.settings_build import build_settings

    sweep = build_settings(Sweep, OmegaConf.to_container(config, resolve=True))
    print(run_sweep(sweep))


if __name__ == "__main__":
    check_overrides("run_exps")
    main()
