"""Sweeps: base and gold once, then forget + evaluate per job, then the leaderboard, its report and a table of the
paper.

    python run_exps.py                                  # all methods, 3 seeds, the embedded benchmark
    python run_exps.py tune=true                        # also the best of 9 settings of each, chosen on other people
    python run_exps.py methods='[npo]' modalities='[text,visual,both]' splits='[forget05,forget10]'
    python run_exps.py +table=1                         # in the form of the paper's Table 1 (also 3, 4, 5, 6, fig5)
    python run_exps.py +table=1 +experiment=llava executor=slurm slurm.partition=gpu

Finished jobs are kept (by the hash of their settings), interrupted ones go on, a failed one is reported and the rest go
on.
"""

import re
import sys
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="config", config_name="run_exps")
def main(config: DictConfig) -> None:
    from sweeps.settings import Sweep
    from sweeps.study import run_sweep
    from unlearn.config.build import build_settings
    from unlearn.plugins import load_plugins

    values: Any = OmegaConf.to_container(config, resolve=True)
    load_plugins(values["plugins"])  # a track may be among them
    print(run_sweep(build_settings(Sweep, values)))


if __name__ == "__main__":
    # Hydra takes no number for a file
    sys.argv[1:] = [re.sub(r"^(\+?table=)(\d+)$", r"\1'\2'", word) for word in sys.argv[1:]]
    run_script(main, "run_exps")
