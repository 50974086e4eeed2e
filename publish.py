"""A finished run for others: adapter or merged model with its processor and a model card, in a folder and on the hub.

    python publish.py model_path=models/llava/ft_full+tofu/npo export=out/npo merge=true     # a folder only
    python publish.py model_path=models/llava/ft_full+tofu repo=me/clear-full private=true # the base, then:
    python publish.py model_path=models/llava/ft_full+tofu/npo repo=me/clear-npo base=me/clear-full private=true

The login is that of `hf auth login` (or HF_TOKEN). Evaluate it by id: accelerate launch mm/eval.py
model_path=me/clear-npo
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="config", config_name="publish")
def main(config: DictConfig) -> None:
    from unlearn.config.build import build_settings
    from unlearn.pipeline import quiet
    from unlearn.plugins import load_plugins
    from unlearn.publish.export import PublishSettings, publish

    quiet()
    values: Any = OmegaConf.to_container(config, resolve=True)
    load_plugins(values["plugins"])
    folder, address = publish(build_settings(PublishSettings, values))
    print(f"exported: {folder}")
    if address is not None:
        print(f"published: {address}")


if __name__ == "__main__":
    run_script(main, "publish")
