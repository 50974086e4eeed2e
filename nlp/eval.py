"""Evaluate a model on TOFU's four tasks: losses, generations, ROUGE, and the aggregated eval log.

accelerate launch nlp/eval.py                                       # the embedded benchmark's base model
accelerate launch nlp/eval.py model_path=models/llama-mini/ft_full/npo retain_result=GOLD/eval_log_aggregated.json
accelerate launch nlp/eval.py +experiment=llama2 model_path=models/llama2-7b/ft_full
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="nlp/eval")
def main(config: DictConfig) -> None:
    from nlp import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings = track.settings("eval", values)
    log = track.evaluate(settings)
    from unlearn import pipeline
    from unlearn.data.samples import REFUSALS, read_lines

    if pipeline.is_main():
        print(f"eval log: {log}")
        print(pipeline.compare(settings, log, read_lines(REFUSALS)) or "")


if __name__ == "__main__":
    run_script(main, "nlp/eval")
