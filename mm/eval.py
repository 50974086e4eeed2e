"""Evaluate a checkpoint on CLEAR's six tasks: losses, generations from the image, ROUGE, and the aggregated eval log.

accelerate launch mm/eval.py                                        # the embedded benchmark's base model
accelerate launch mm/eval.py model_path=models/llava-mini/ft_full+tofu/npo retain_result=GOLD/eval_log_aggregated.json
accelerate launch mm/eval.py +experiment=llava model_path=models/llava/ft_full+tofu
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="mm/eval")
def main(config: DictConfig) -> None:
    from mm import track

    track.adapt("eval", config)
    values: Any = OmegaConf.to_container(config, resolve=True)
    settings = track.settings("eval", values)
    log = track.evaluate(settings)
    from unlearn import pipeline
    from unlearn.data.samples import REFUSALS, read_lines

    if pipeline.is_main():
        print(f"eval log: {log}")
        print(pipeline.compare(settings, log, read_lines(REFUSALS)) or "")


if __name__ == "__main__":
    run_script(main, "mm/eval")
