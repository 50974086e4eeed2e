"""Evaluate a checkpoint on CLEAR's six tasks: losses, generations from the image, ROUGE, and the aggregated eval log.

accelerate launch mm/eval.py                                        # the embedded benchmark's base model
accelerate launch mm/eval.py model_path=models/llava-mini/ft_full+tofu/npo retain_result=GOLD/eval_log_aggregated.json
accelerate launch mm/eval.py +experiment=llava model_path=models/llava/ft_full+tofu
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import check_overrides


@hydra.main(version_base=None, config_path="../config", config_name="mm/eval")
def main(config: DictConfig) -> None:
    from mm.tasks import eval_settings, load_tasks
    from unlearn import pipeline
    from unlearn.data.samples import REFUSALS, read_lines
    from unlearn.models.families import load_family

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings = eval_settings(values)
    log = pipeline.evaluate(settings, load_family(settings.model_family), lambda: load_tasks(settings))
    if pipeline.is_main():
        print(f"eval log: {log}")
        print(pipeline.compare(settings, log, read_lines(REFUSALS)) or "")


if __name__ == "__main__":
    check_overrides("mm/eval")
    main()
