"""Finetune a vision-language model on a split of CLEAR.

accelerate launch mm/finetune.py                                    # the embedded benchmark on a CPU
accelerate launch mm/finetune.py split=retain90+tofu                # the gold model
accelerate launch mm/finetune.py +experiment=llava                  # LLaVA-1.5-7B on therem/CLEAR (Appendix H)
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import check_overrides


@hydra.main(version_base=None, config_path="../config", config_name="mm/finetune")
def main(config: DictConfig) -> None:
    from mm.clear import finetune_source
    from unlearn import pipeline
    from unlearn.config.settings import FinetuneSettings, read_settings
    from unlearn.models.families import load_family

    values: Any = OmegaConf.to_container(config, resolve=True)
    settings = read_settings(FinetuneSettings, values)
    folder = pipeline.finetune(settings, load_family(settings.model_family), lambda: finetune_source(settings))
    if pipeline.is_main():
        print(f"model: {folder}")


if __name__ == "__main__":
    check_overrides("mm/finetune")
    main()
