"""Chooses the settings with which the drawn faces are forgotten, on other faces and models than those that are
reported.

    python benchmarks/cv_tuning.py                            # for the demo (config/cv/run.yaml)
    python benchmarks/cv_tuning.py --study test               # for the small study of tests/cv/test_cv_models.py
    python benchmarks/cv_tuning.py --methods rmu twins        # a part of it; what is trained already is read from disk

It draws other people (`--faces-seed`), deals them anew, and pretrains and finetunes other networks (`--seed`). Every
candidate of a method unlearns two models, one of each group. The rule: of the candidates that keep 95 % of the
original's retain accuracy (90 % in the small study), the one whose forget accuracy is nearest to retrain's. No attack
is run.
"""

import argparse
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cv.data.prepared import prepare
from cv.membership.scores import score_group
from cv.network.enrolment import accuracy, enrolled
from cv.settings import FinetuneSettings, ForgetSettings, PrepareSettings, PretrainSettings, ScoreSettings, read
from cv.training.models import finetune_job, forget_job, is_finished, prepared, train_group
from cv.training.pretrained import pretrain
from minibench.faces_mini import identities, photograph

ROOT = Path(__file__).resolve().parents[1]
MODELS = (0, 2)  # of the four: one of group A, one of group B
KEEP = {"demo": 0.95, "test": 0.9}  # of the original's retain accuracy; a candidate below it is out

# Candidates by method
DEMO = {
    "finetune": {"lr": [0.1, 0.2], "num_epochs": [5, 10]},
    "neggrad": {"lr": [0.02, 0.03], "num_epochs": [4, 5, 6]},
    "scrub": {"lr": [0.01, 0.02], "num_epochs": [3, 5]},
    "scrub_bio": {"lr": [0.2, 0.4], "num_epochs": [4]},
    "dpo": {"lr": [0.01, 0.02, 0.03], "num_epochs": [3, 5]},
    "llmu": {"lr": [0.1, 0.2], "num_epochs": [3, 5]},
    "rmu": {"batchnorm": ["eval"], "num_epochs": [10], "options.alpha": [4], "lr": [0.2, 0.5], "options.c": [2, 4]},
    "twins": {"batchnorm": ["train", "eval"], "lr": [0.4, 1.0, 2.0]},
    "sparsity": {"lr": [0.05, 0.1], "options.lambda": [3e-4, 1e-3], "num_epochs": [4, 10]},
}
TEST = {
    "finetune": {"lr": [0.1, 0.2], "num_epochs": [24]},
    "neggrad": {"batch_size": [8], "lr": [0.01, 0.02], "num_epochs": [4, 8]},
    "scrub": {"batch_size": [16], "lr": [0.02, 0.05], "num_epochs": [4, 8]},
    "scrub_bio": {"lr": [0.2, 0.4], "num_epochs": [5]},
    "dpo": {"lr": [0.05, 0.1], "num_epochs": [5, 10]},
    "llmu": {"lr": [0.1, 0.2], "num_epochs": [5, 10]},
    "rmu": {"batchnorm": ["eval"], "num_epochs": [20], "options.alpha": [4], "options.c": [4], "lr": [0.2, 0.5]},
    "twins": {"batchnorm": ["eval"], "lr": [0.5, 1.0], "num_epochs": [20]},
    "sparsity": {"lr": [0.1, 0.2], "num_epochs": [20], "options.lambda": [1e-4, 3e-4]},
}
# people, photos, celebrities, photos of each; overrides of pretraining, finetuning and unlearning; candidates
STUDIES = {
    "demo": ((80, 16, 120, 12), [], ["batch_size=64"], ["batch_size=64"], DEMO),
    "test": (
        (20, 10, 12, 10),
        ["test_persons=2", "num_epochs=2", "batch_size=32"],
        ["batch_size=32", "num_epochs=16"],
        ["batch_size=32"],
        TEST,
    ),
}


def settings(cls: type, script: str, *overrides: str) -> Any:
    composed: Any = OmegaConf.to_container(compose(script, list(overrides)), resolve=True)
    return read(cls, composed)[0]


def draw_people(root: Path, seed: int, people: int, photos: int, celebrities: int, celebrity_photos: int) -> None:
    """Folders `people` and `celebrities` of pictures, unless they are there."""
    sets = identities(seed, {"people": people, "celebrities": celebrities})
    for name, count in (("people", photos), ("celebrities", celebrity_photos)):
        for index, face in enumerate(sets[name]):
            folder, rng = root / name / f"{name}-{index:03d}", random.Random(f"{seed}/{name}/{index}")
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                photograph(face, rng).save(folder / f"{number:02d}.png")


def candidates(grid: Any) -> Iterator[tuple[str, ...]]:
    for values in itertools.product(*grid.values()):
        yield tuple(f"{name}={value}" for name, value in zip(grid, values, strict=True))


def shares(root: Path, folder: Path) -> dict[str, float]:
    """Mean accuracy, in percent, of MODELS in `folder`."""
    photos, splits = prepared(str(root / "splits"))
    first = enrolled(photos.labels, 5)
    sums = dict.fromkeys(("forget", "holdout", "retain"), 0.0)
    for model, correct, _ in score_group(MODELS, "cpu", ScoreSettings(str(folder), str(root / "splits"))):
        split = splits[model]
        people = {"forget": split.forget["10"], "holdout": split.holdout["10"], "retain": split.retain("10")}
        for group, names in people.items():
            sums[group] += 100 * accuracy(correct, photos.rows(names), first) / len(MODELS)
    return sums


def unlearn(root: Path, method: str, *overrides: str) -> dict[str, float]:
    """Trains MODELS, unless they are there, and scores them."""
    start = root / ("pretrained" if method == "retrain" else "original")
    folder = root / method / "_".join(word.removeprefix("options.") for word in overrides)
    where = [f"splits={root}/splits", f"model_path={start}", f"save_dir='{folder}'"]
    chosen = settings(ForgetSettings, "forget", f"method={method}", *where, *overrides)
    try:
        train_missing(forget_job(chosen), root)
    except ValueError as error:  # a rate at which it diverges is no candidate
        print(f"{method}: {' '.join(overrides)}: {error}", flush=True)
        return {"forget": 0.0, "holdout": 0.0, "retain": 0.0}
    return shares(root, folder)


def train_missing(job: Any, root: Path) -> None:
    splits = prepared(str(root / "splits"))[1]
    for model in MODELS:
        if not is_finished(job, splits[model]):
            train_group([model], "cpu", job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--study", choices=STUDIES, default="demo")
    parser.add_argument("--methods", nargs="*", default=None)
    parser.add_argument("--seed", type=int, default=1, help="of splits, pretraining, finetuning and unlearning")
    parser.add_argument("--faces-seed", type=int, default=8, help="of the faces (the demo's: 7, the test's: 1)")
    parser.add_argument("--root", type=Path, default=None)
    options = parser.parse_args()
    counts, pretraining, finetuning, unlearning, grids = STUDIES[options.study]
    root, seed = options.root or Path("models/cv-tuning") / options.study, f"seed={options.seed}"
    splits, start, original = f"splits={root}/splits", f"{root}/pretrained", f"{root}/original"
    with initialize_config_dir(str(ROOT / "config" / "cv"), version_base=None):
        draw_people(root, options.faces_seed, *counts)
        prepare(
            settings(
                PrepareSettings, "prepare", f"data_path={root}/people", "models=4", seed, f"save_dir={root}/splits"
            )
        )
        celebrities = f"data_path={root}/celebrities"
        pretrain(settings(PretrainSettings, "pretrain", celebrities, seed, f"save_dir={start}", *pretraining), "cpu")
        job = settings(
            FinetuneSettings, "finetune", splits, f"model_path={start}", f"save_dir={original}", seed, *finetuning
        )
        train_missing(finetune_job(job), root)
        before, gold = shares(root, Path(original)), unlearn(root, "retrain", seed, *finetuning)
        show("original", before)
        show("retrain", gold)
        for method in options.methods or grids:
            tried = {}
            for words in candidates(grids[method]):
                tried[words] = unlearn(root, method, seed, *unlearning, *words)
                show(f"{method} {' '.join(words)}", tried[words])
            kept = [words for words in tried if tried[words]["retain"] >= KEEP[options.study] * before["retain"]]
            best = min(kept, key=lambda words: abs(tried[words]["forget"] - gold["forget"]), default=("nothing",))
            print(f"{method}: {' '.join(best)}", flush=True)


def show(label: str, found: dict[str, float]) -> None:
    print(f"{found['forget']:6.1f} {found['holdout']:6.1f} {found['retain']:6.1f}   {label}", flush=True)


if __name__ == "__main__":
    main()
