"""Which metric should be believed? On the embedded benchmark: does it tell models that saw the forget set from models
that did not, and does it hold when an unlearned model is trained a little further, or rounded?

    python benchmarks/metric_meta.py                              # 4 seeds x 2 wordings x (with, without): 16 models
    python benchmarks/metric_meta.py --seeds 1 2 --wordings 1     # 4 models, 6 minutes on 2 shared cores

Writes docs/which_metric_table.md, which docs/which_metric.md explains. An interrupted run goes on.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sweeps import tracks
from unlearn import ROOT
from unlearn.atomic import write_text
from unlearn.leaderboard.memorisation import memorisation
from unlearn.leaderboard.scores import known_rows, score_log, units_of
from unlearn.leaderboard.tracks import track_named
from unlearn.metrics import meta
from unlearn.results import EvalLog, read_log

METHODS = ("grad_diff", "npo", "KL")
LOG = "eval_results/eval_log_aggregated.json"
RELEARN = ("max_steps=32", "lr=3.0e-4", "lr_scheduler=constant", "warmup_epochs=0", "batch_size=12", "LoRA.r=0")
UTILITY = 0.8  # models below this share of base's are left out
SHOWN = ("ROUGE", "ROUGE-L F1", "BLEU", "Prob.", "Truth Ratio")
Values = dict[str, float]


def wording(folder: Path, number: int) -> str:
    """The dataset that models are trained on: the shipped one, or one whose captions say the same in other words."""
    if number == 0:
        return "data/clear-mini"
    from minibench.clear import clear_configs
    from minibench.tables import write_dataset
    from minibench.wording import caption

    if not (folder / "README.md").is_file():
        configs = {}
        for name, (columns, rows) in clear_configs().items():
            spoken = [
                {**row, "caption": caption(row["name"], row["person"].facts, row["place"], row["pattern"] + 2 * number)}
                if row.get("caption") and "pattern" in row else row
                for row in rows
            ]  # fmt: skip
            configs[name] = (columns, spoken)
        write_dataset(folder, configs, "captions in other words")
    return str(folder)


def finetuned(root: Path, split: str, data: str, seed: int, name: str) -> Path:
    """A model trained on a split, and its answers."""
    folder = root / name / split
    settings = tracks.training_settings("mm", "finetune", [
        f"split={split}", f"data_path={data}", f"seed={seed}", f"save_dir={folder}",
    ])  # fmt: skip
    tracks.train("mm", "finetune", settings)
    return asked(folder)


def forgotten(base: Path, method: str) -> Path:
    folder = base / method
    settings = tracks.training_settings("mm", "forget", [
        f"forget_loss={method}", f"model_path={base}", f"save_dir={folder}",
    ])  # fmt: skip
    tracks.train("mm", "forget", settings)
    return asked(folder)


def relearned(model: Path) -> Path:
    """32 steps on the retain rows alone."""
    folder = model / "relearned"
    settings = tracks.training_settings("mm", "finetune", [
        f"model_path={model}", "split=retain90+tofu", f"save_dir={folder}", *RELEARN,
    ])  # fmt: skip
    tracks.train("mm", "finetune", settings)
    return asked(folder)


def rounded(model: Path, bits: int = 4) -> Path:
    """The language model's weights rounded to `bits`, the adapter merged first."""
    from unlearn.evaluation.stress.quantised import rounded as rounding
    from unlearn.models.families import load_family
    from unlearn.models.loading import load_model
    from unlearn.models.processors import load_processor
    from unlearn.models.start import Start

    folder = model / f"rounded{bits}"
    if not (folder / "config.json").is_file():
        start = Start.of(str(model))
        whole = load_model(start, dtype=torch.float32)
        with rounding(whole, bits):
            whole.save_pretrained(folder)
        load_processor(start.processor, start.config).save_pretrained(folder)
    load_family("llava-mini")
    return asked(folder)


def asked(model: Path) -> Path:
    settings = tracks.evaluation_settings("mm", [f"model_path={model}", "overwrite=false", "token_scores=true"])
    tracks.evaluate("mm", settings)
    return model


def values_of(model: Path) -> Values:
    """Every metric on the forget tasks, and Model Utility."""
    log, track = read_log(model / LOG), track_named("mm")
    facts = known_rows([log], track)
    means = score_log(log, track, facts, None).means
    labels = [task.label for task in track.tasks if task.to_forget]
    found = {f"{name} {label}": means[f"{name} {label}"] for name in SHOWN for label in labels}
    found |= {"Forget metric": means["Forget metric"], "Model Utility": means["Model Utility"]}
    return found | _tokens(log, labels)


def _tokens(log: EvalLog, labels: Sequence[str]) -> Values:
    track = track_named("mm")
    own: Mapping[str, Any] = memorisation(log, log, None, track, units_of(log, track, known_rows([log], track)))
    return {f"{name} {label}": own[label][name]["mean"] for label in labels if own.get(label) for name in ("ES", "EM")}


def table(pools: Mapping[str, Sequence[Values]], models: Mapping[str, Mapping[str, Values]], base: Values) -> list[str]:
    """A line for each metric, the most faithful and robust first.

    Args:
        pools: values of the models trained `with` and `without` the forget set.
        models: gold and the unlearned ones: `plain`, `relearned`, `rounded` values of each.
    """
    kept = [name for name in models if name != "gold"
            and models[name]["plain"]["Model Utility"] >= UTILITY * base["Model Utility"]]  # fmt: skip
    lines = []
    for name in base:
        if name == "Model Utility":
            continue
        gold_gain = models["gold"]["relearned"][name] - models["gold"]["plain"][name]
        gains = [models[one]["relearned"][name] - models[one]["plain"][name] for one in kept]
        pairs = [(models[one]["plain"][name], models[one]["rounded"][name]) for one in kept]
        faith = meta.faithfulness([one[name] for one in pools["with"]], [one[name] for one in pools["without"]])
        r, q = (_mean([meta.relearning(gain, gold_gain) for gain in gains]),
                _mean([meta.quantisation(*pair) for pair in pairs]))  # fmt: skip
        r1, q1 = (_mean([meta.relearning_one_sided(gain, gold_gain) for gain in gains]),
                  _mean([meta.quantisation_one_sided(*pair) for pair in pairs]))  # fmt: skip
        both = None if r is None or q is None else meta.robustness(q, r)
        lines.append((faith, both or 0.0, f"| {name} | {faith:.2f} | " + " | ".join(
            "-" if one is None else f"{one:.2f}" for one in (r, q, both, r1, q1)) + " |"))  # fmt: skip
    return [line for _, _, line in sorted(lines, key=lambda one: (-one[0], -one[1]))]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--wordings", type=int, default=2)
    parser.add_argument("--root", type=Path, default=Path("runs/metric_meta"))
    options = parser.parse_args()
    pools: dict[str, list[Values]] = {"with": [], "without": []}
    first: dict[str, Path] = {}
    for number in range(options.wordings):
        data = wording(options.root / f"wording{number}", number)
        for seed in options.seeds:
            for pool, split in (("with", "full+tofu"), ("without", "retain90+tofu")):
                model = finetuned(options.root, split, data, seed, f"seed{seed}_wording{number}")
                first.setdefault(pool, model)
                pools[pool].append(values_of(model))
    chosen = {"gold": first["without"], **{name: forgotten(first["with"], name) for name in METHODS}}
    models = {
        name: {"plain": values_of(one), "relearned": values_of(relearned(one)), "rounded": values_of(rounded(one))}
        for name, one in chosen.items()
    }
    counts = {pool: len(values) for pool, values in pools.items()}
    lines = [
        f"`python benchmarks/metric_meta.py --seeds {' '.join(map(str, options.seeds))} "
        f"--wordings {options.wordings}`: {counts['with']} models with the forget set, {counts['without']} without; "
        f"unlearned by {', '.join(METHODS)}.",
        "",
        "| metric | faithfulness | relearning | rounding | both | relearning, one-sided | rounding, one-sided |",
        "|---|---|---|---|---|---|---|",
        *table(pools, models, values_of(first["with"])),
    ]
    text = "\n".join(lines) + "\n"
    write_text(ROOT / "docs" / "which_metric_table.md", text)
    print(text)


if __name__ == "__main__":
    main()
