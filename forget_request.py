"""A request to be forgotten, from a folder of photographs and facts to the certificate (docs/request.md).

    python forget_request.py data=FOLDER 'forget=[NAME]' model_path=MODEL
    python forget_request.py data=FOLDER 'forget=[NAME]' model_path=MODEL 'holdout=[A,B]' gold=MODEL_WITHOUT_THEM

Checks the folder, asks the model before, unlearns, asks again, and writes the report and the certificate into save_dir.
The same command goes on after an interruption.
"""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="config", config_name="request")
def main(config: DictConfig) -> None:
    from mm.request import run
    from mm.request_settings import RequestSettings
    from unlearn.config.build import build_settings
    from unlearn.plugins import load_plugins

    values: Any = OmegaConf.to_container(config, resolve=True)
    load_plugins(values["plugins"])
    said = run(build_settings(RequestSettings, values))
    from unlearn.distributed.processes import is_main

    if is_main():
        print(said)


if __name__ == "__main__":
    run_script(main, "request")
