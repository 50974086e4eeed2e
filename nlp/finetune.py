"""Finetune a language model on a split of TOFU.

accelerate launch nlp/finetune.py                                   # the embedded benchmark on a CPU
accelerate launch nlp/finetune.py split=retain90                    # the gold model
accelerate launch nlp/finetune.py +experiment=llama2                # Llama-2-7B on locuslab/TOFU (Appendix F)
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="nlp/finetune")
def main(config: DictConfig) -> None:
    from nlp import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    folder = track.finetune(track.settings("finetune", values))
    from unlearn.distributed.processes import is_main

    if is_main():
        print(f"model: {folder}")


if __name__ == "__main__":
    run_script(main, "nlp/finetune")
