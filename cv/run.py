"""The whole study: prepare, pretrain, finetune, forget by every method, score, attack, table and pictures.

A study that was stopped goes on where it was.

    python cv/run.py                                       # the embedded faces, about ten minutes on two cores
    python cv/run.py +experiment=clear methods=[retrain,scrub,twins]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config/cv", config_name="run")
def main(config: DictConfig) -> None:
    from cv import track

    def compose(script: str, overrides: list[str]) -> Mapping[str, Any]:
        composed: Any = OmegaConf.to_container(hydra.compose(script, overrides), resolve=True)
        return composed

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings = track.settings("run", values)
    print(track.table(track.study(settings, compose)))
    page = Path(settings[0].leaderboard).with_suffix(".html")
    print(f"table: {settings[0].leaderboard}; page: {page}; pictures: histograms.png and roc.png in {settings[0].root}")


if __name__ == "__main__":
    run_script(main, "cv/run")
