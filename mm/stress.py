"""Put models to the test beside base and gold: other wordings and pictures, many samples, damaged weights, relearning.

accelerate launch mm/stress.py model_path=models/llava-mini/ft_full+tofu/npo        # of the embedded benchmark
accelerate launch mm/stress.py tests=[leak,relearning] model_path=[models/llava-mini/ft_full+tofu/npo]
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="mm/stress")
def main(config: DictConfig) -> None:
    from mm import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    folder = track.stress(track.settings("stress", values))
    from unlearn.distributed.processes import is_main
    from unlearn.report.stress import write_stress

    if is_main():
        print(write_stress(folder))
        print(f"stress: {folder}/stress.html")


if __name__ == "__main__":
    run_script(main, "mm/stress")
