"""Unlearn a forget split of TOFU with one of the methods of config/method_args.yaml.

accelerate launch nlp/forget.py                                     # gradient difference on the embedded benchmark
accelerate launch nlp/forget.py split=forget05 forget_loss=npo method_args.npo.beta=0.3
accelerate launch nlp/forget.py +experiment=mistral forget_loss=LLMU    # Mistral-7B on locuslab/TOFU (Appendix F)
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import check_overrides


@hydra.main(version_base=None, config_path="../config", config_name="nlp/forget")
def main(config: DictConfig) -> None:
    from nlp.tofu import forget_keys, forget_sources
    from unlearn import pipeline
    from unlearn.config.settings import ForgetSettings, read_settings
    from unlearn.data.samples import REFUSALS, read_lines
    from unlearn.models.families import load_family

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings = read_settings(ForgetSettings, forget_keys(values))
    family = load_family(settings.model_family)
    folder = pipeline.forget(settings, family, lambda: forget_sources(settings), read_lines(REFUSALS))
    if pipeline.is_main():
        print(f"model: {folder}")


if __name__ == "__main__":
    check_overrides("nlp/forget")
    main()
