"""Unlearn a forget split with one of the methods of config/method_args.yaml.

accelerate launch mm/forget.py                                      # gradient difference on the embedded benchmark
accelerate launch mm/forget.py forget_loss=npo modality=visual method_args.npo.beta=0.3
accelerate launch mm/forget.py +experiment=llava forget_loss=LLMU   # LLaVA-1.5-7B on therem/CLEAR (Appendix H)
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import check_overrides


@hydra.main(version_base=None, config_path="../config", config_name="mm/forget")
def main(config: DictConfig) -> None:
    from mm.clear import forget_sources, with_modality
    from unlearn import pipeline
    from unlearn.config.settings import ForgetSettings, read_settings
    from unlearn.data.samples import REFUSALS, read_lines
    from unlearn.models.families import load_family

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings = with_modality(read_settings(ForgetSettings, values))
    family = load_family(settings.model_family)
    folder = pipeline.forget(settings, family, lambda: forget_sources(settings), read_lines(REFUSALS))
    if pipeline.is_main():
        print(f"model: {folder}")


if __name__ == "__main__":
    check_overrides("mm/forget")
    main()
