"""The whole study: prepare, pretrain, finetune, forget by every method, score, attack, table and pictures.

A study that was stopped goes on where it was.

    python cv/run.py                                       # the embedded faces, about ten minutes on two cores
    python cv/run.py +experiment=clear methods=[retrain,scrub,twins]
"""

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base=None, config_path="../config/cv", config_name="run")
def main(config: DictConfig) -> None:
    from cv.chain import run_study
    from cv.fleet import Fleet
    from cv.settings import RunSettings, read
    from cv.table import as_text

    def compose(script: str, overrides: list[str]) -> dict:
        return OmegaConf.to_container(hydra.compose(script, overrides), resolve=True)

    settings, compute = read(RunSettings, OmegaConf.to_container(config, resolve=True))
    with Fleet(compute) as fleet:
        print(as_text(run_study(settings, fleet, compose)))
    print(f"table: {settings.leaderboard}; pictures: {settings.root}/report.html")


if __name__ == "__main__":
    main()
