"""Unlearn a forget split of TOFU with one of the methods of config/method_args.yaml.

accelerate launch nlp/forget.py                                     # gradient difference on the embedded benchmark
accelerate launch nlp/forget.py split=forget05 forget_loss=npo method_args.npo.beta=0.3
accelerate launch nlp/forget.py +experiment=mistral forget_loss=LLMU    # Mistral-7B on locuslab/TOFU (Appendix F)
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="../config", config_name="nlp/forget")
def main(config: DictConfig) -> None:
    from nlp import track

    values: Any = OmegaConf.to_container(config, resolve=True)
    folder = track.forget(track.settings("forget", values))
    from unlearn.distributed.processes import is_main

    if is_main():
        print(f"model: {folder}")


if __name__ == "__main__":
    run_script(main, "nlp/forget")
