"""Eval logs to a leaderboard: rows merged into save_file, the table printed, the trade-off picture beside it.

    python aggregate_eval_stat.py retain_result=GOLD.json ckpt_result=MODEL.json method_name=NAME submitted_by=WHO \
        save_file=leaderboard.json

ckpt_result may be a list or a glob, quoted: 'ckpt_result=models/**/eval_log_aggregated.json'. No model is needed.

    python aggregate_eval_stat.py 'compare=[A,B]' save_file=leaderboard.json

compares two models, by their logs or the names of their rows, and leaves the leaderboard as it is.

    python aggregate_eval_stat.py certificate=OUT.html ckpt_result=MODEL.json base_result=BASE.json retain_result=null

writes the certificate of one forget request (docs/request.md).
"""

import shlex
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from unlearn.config.commandline import run_script


@hydra.main(version_base=None, config_path="config", config_name="aggregate_eval_stat")
def main(config: DictConfig) -> None:
    from cv.page import FACES
    from unlearn.aggregate import AggregateSettings, certify, compare_models, update_leaderboard
    from unlearn.config.build import build_settings
    from unlearn.leaderboard.comparison import comparison_table
    from unlearn.leaderboard.table import text_table
    from unlearn.plugins import load_plugins

    values: Any = OmegaConf.to_container(config, resolve=True)
    load_plugins(values["plugins"])
    if values["refusals"] == "data/idontknow.jsonl":  # the bank this project ships, from wherever the script is called
        values["refusals"] = str(Path(__file__).parent / values["refusals"])
    settings = build_settings(AggregateSettings, values)
    if settings.compare is not None:
        found, path = compare_models(settings)
        print(f"{comparison_table(found)}\n\ncomparison: {path}")
        return
    if settings.certificate is not None:
        facts, path = certify(settings, command=shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]))
        print(f"{facts['verdict']['name']}\n\ncertificate: {path}")
        return
    rows = update_leaderboard(settings, sections=[FACES])
    print(text_table(rows, sections=[FACES]))
    print(f"\n{len(rows)} rows in {settings.save_file}")


if __name__ == "__main__":
    run_script(main, "aggregate_eval_stat")
