"""Put models to the test beside base and gold: other wordings, many samples, damaged weights, relearning.

accelerate launch nlp/stress.py model_path=models/llama-mini/ft_full/npo        # of the embedded benchmark
accelerate launch nlp/stress.py tests=[leak,relearning] model_path=[models/llama-mini/ft_full/npo]
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="nlp/stress")
def main(config: DictConfig) -> None:
    from nlp import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    folder = track.stress(track.settings("stress", values))
    from unlearn.distributed.processes import is_main
    from unlearn.report.stress import write_stress

    if is_main():
        print(write_stress(folder))
        print(f"stress: {folder}/stress.html")


if __name__ == "__main__":
    run_script(main, "nlp/stress")
