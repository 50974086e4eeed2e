"""A small study end to end: every method forgets, runs continue where they stopped, and gaps get a clear error."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from cv.data.photos import load_photos
from cv.data.prepared import prepare
from cv.membership.run import run_attack, target_logits
from cv.membership.scores import score_models
from cv.methods import NAMES
from cv.network.enrolment import accuracy, enrolled, recognise
from cv.network.stack import Stack
from cv.network.weights import load_weights, model_file, read_header
from cv.settings import (
    AttackSettings,
    ComputeSettings,
    FinetuneSettings,
    ForgetSettings,
    PrepareSettings,
    PretrainSettings,
    ScoreSettings,
    read,
)
from cv.training.fleet import Fleet, models_that_fit
from cv.training.models import finetune_job, forget_job, prepared, train_group, train_models
from cv.training.pretrained import celebrity_split, pretrain
from minibench.faces_mini import identities, photograph
from unlearn.results import read_record

ROOT = Path(__file__).parents[2]
ALONE = Fleet(ComputeSettings(device="cpu", processes=1))
PEOPLE, PHOTOS = 20, 10  # of 20 people, each model trains on 10 and two are forgotten

# From the candidates of `python benchmarks/cv_tuning.py --study test`, which tries them on other faces and other
# models. (The published settings are for 3,700 photos: here they would hardly take a step.) The models are finetuned
# for as long as it takes to know their people and no longer: once a photo is learned by heart, ascent has next to no
# gradient left, and rounding, which differs between CPUs, decides at which step it runs off. Each recipe forgot in
# eight of eight studies whose pretrained weights were off by a part in a million, which stands for other CPUs.
RECIPES = {
    "retrain": [],
    "finetune": ["lr=0.2", "num_epochs=24"],
    "neggrad": ["batch_size=8", "lr=0.01", "num_epochs=8"],
    "scrub": ["batch_size=16", "lr=0.05", "num_epochs=4"],
    "scrub_bio": ["lr=0.4", "num_epochs=5"],
    "dpo": ["lr=0.05", "num_epochs=5"],
    "llmu": ["lr=0.1", "num_epochs=10"],
    "rmu": ["batchnorm=eval", "num_epochs=20", "options.alpha=4", "options.c=4", "lr=0.2"],
    "twins": ["batchnorm=eval", "lr=0.5", "num_epochs=20"],
    "sparsity": ["lr=0.2", "num_epochs=20", "options.lambda=1e-4"],
}


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, however many cores this machine has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Folders `known`, `splits`, `pretrained` and `original`, the last with 8 finetuned models; made by one worker
    for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    root = shared / "study"
    with FileLock(shared / "study.lock"):
        if not (root / "done").exists():
            build_study(root)
            (root / "done").touch()
    return root


def build_study(root: Path) -> None:
    people = identities(2, {"known": PEOPLE, "celebrities": 12})
    for kind, faces in people.items():
        for index, face in enumerate(faces):
            folder = root / kind / f"{kind}-{index:02d}"
            folder.mkdir(parents=True)
            rng = random.Random(f"{kind}{index}")
            for number in range(PHOTOS):
                photograph(face, rng).save(folder / f"{number}.png")
    prepare(PrepareSettings(data_path=str(root / "known"), models=8, save_dir=str(root / "splits")))
    pretrain(
        PretrainSettings(
            data_path=str(root / "celebrities"),
            test_persons=2,
            num_epochs=2,
            batch_size=32,
            save_dir=str(root / "pretrained"),
        ),
        "cpu",
    )
    settings = finetuning(root)
    train_models(settings, finetune_job(settings), ALONE)


def finetuning(root: Path, **changes) -> FinetuneSettings:
    settings = FinetuneSettings(
        lr=0.1, num_epochs=16, batch_size=32, lr_scheduler="cosine", warmup=0.125, model_path=str(root / "pretrained"),
        splits=str(root / "splits"), save_dir=str(root / "original"),
    )  # fmt: skip
    return dataclasses.replace(settings, **changes)


def forgetting(root: Path, method: str, **changes) -> ForgetSettings:
    start = root / ("pretrained" if method == "retrain" else "original")
    words = [
        f"method={method}",
        f"splits={root}/splits",
        f"model_path={start}",
        f"save_dir={root}/{method}",
        "batch_size=32",
    ]
    with initialize_config_dir(str(ROOT / "config" / "cv"), version_base=None):
        config = OmegaConf.to_container(compose("forget", [*words, *RECIPES[method]]), resolve=True)
    return dataclasses.replace(read(ForgetSettings, config)[0], **changes)


def same_weights(one: Path, other: Path) -> None:
    (a, spec), (b, expected) = load_weights(one), load_weights(other)
    assert spec == expected and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def shares(root: Path, folder: Path, model: int) -> dict[str, float]:
    """Accuracies of one model, read from its file."""
    photos, splits = prepared(str(root / "splits"))
    tensors, spec = load_weights(model_file(folder, model))
    correct, _ = recognise(Stack(spec, [tensors]).embed(photos.pixels)[0], photos.labels, 5)
    split, first = splits[model], enrolled(photos.labels, 5)
    people = {"forget": split.forget["10"], "holdout": split.holdout["10"], "retain": split.retain("10")}
    return {group: accuracy(correct, photos.rows(names), first) for group, names in people.items()}


LONG = ("dpo", "twins", "rmu")
METHODS = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NAMES]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_forgets_and_keeps_better_than_it_forgets(study, tmp_path, method):
    """Mean over a model of each group: twenty photos, of which a network that never saw these people knows a fifth."""
    before = mean_shares(study, study / "original")
    assert before["forget"] >= 0.9 and before["retain"] >= 0.9
    settings = forgetting(study, method, save_dir=str(tmp_path))
    for model in (0, 4):
        train_group([model], "cpu", forget_job(settings))
    after = mean_shares(study, tmp_path)
    assert after["forget"] <= before["forget"] - 0.15 and after["retain"] >= after["forget"] + 0.15


def mean_shares(root: Path, folder: Path) -> dict[str, float]:
    a, b = (shares(root, folder, model) for model in (0, 4))
    return {group: (a[group] + b[group]) / 2 for group in a}


def test_scores_and_attacks_tell_trained_people_from_others(study):
    score = score_models(ScoreSettings(model_path=str(study / "original"), splits=str(study / "splits")), ALONE)
    assert score["mean"]["forget"] >= 80 and score["mean"]["holdout"] <= 50  # 92 and 15, give or take 5 (80 photos)
    assert score["interval"]["holdout"] is None, "two people a group say nothing of others"
    assert score["models"][5]["forget"] == pytest.approx(100 * shares(study, study / "original", 5)["forget"])
    common = {"model_path": str(study / "original"), "splits": str(study / "splits"), "draws": 50}
    attack = run_attack(AttackSettings(attack="ulira", **common))
    assert attack["ulira"]["auc"] > 0.8 and attack["shadows_per_side"] == 2 and attack["variance"] == "pooled"
    assert attack["photos"] == 2 * 2 * (PHOTOS - 5)
    everything = run_attack(AttackSettings(attack="umia", include_enrolment=True, **common))
    assert everything["photos"] == 2 * 2 * PHOTOS and everything["logistic"]["auc"] > 0.8
    logits = target_logits(AttackSettings(**common))
    assert len(logits["forget"]) == len(logits["holdout"]) == 4 * 2 * (PHOTOS - 5)


def test_an_interrupted_run_trains_only_what_is_missing(study, tmp_path):
    folder = tmp_path / "original"
    shutil.copytree(study / "original", folder)
    settings = finetuning(study, save_dir=str(folder))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"status": "running"}))
    model_file(folder, 3).unlink()
    model_file(folder, 6).write_bytes(b"half a file")
    before = {model: model_file(folder, model).stat().st_mtime_ns for model in (0, 1, 2, 4, 5, 7)}
    train_models(settings, finetune_job(settings), ALONE)
    assert {model: model_file(folder, model).stat().st_mtime_ns for model in before} == before
    for model in (3, 6):
        same_weights(model_file(folder, model), model_file(study / "original", model))
    assert read_record(folder)["status"] == "finished"


def test_checkpoints_of_another_recipe_are_not_taken_over(study, tmp_path):
    folder = tmp_path / "original"
    shutil.copytree(study / "original", folder)
    changed = finetuning(study, save_dir=str(folder), num_epochs=1)
    with pytest.raises(ValueError, match="num_epochs: 16 there, 1 here"):
        train_models(changed, finetune_job(changed), ALONE)
    before = read_header(model_file(folder, 0))["made_by"]
    changed = dataclasses.replace(changed, overwrite_dir=True)
    train_models(changed, finetune_job(changed), ALONE)
    assert read_header(model_file(folder, 0))["made_by"] != before


def test_missing_checkpoints_and_scores_are_named(study, tmp_path):
    scrub = forgetting(study, "scrub", model_path=str(tmp_path), save_dir=str(tmp_path / "scrub"))
    with pytest.raises(ValueError, match="there is no checkpoint .*000.safetensors"):
        train_models(scrub, forget_job(scrub), ALONE)
    with pytest.raises(ValueError, match="there is no checkpoint .*000.safetensors"):
        score_models(ScoreSettings(model_path=str(tmp_path), splits=str(study / "splits")), ALONE)
    with pytest.raises(ValueError, match="holds no logits; run `python cv/score.py"):
        run_attack(AttackSettings(model_path=str(tmp_path), splits=str(study / "splits")))


def test_models_of_other_splits_are_refused(study, tmp_path):
    prepare(PrepareSettings(data_path=str(study / "known"), models=8, seed=1, save_dir=str(tmp_path / "splits")))
    with pytest.raises(ValueError, match="was trained on another split"):
        score_models(ScoreSettings(model_path=str(study / "original"), splits=str(tmp_path / "splits")), ALONE)


def test_four_models_are_too_few_to_attack(study, tmp_path):
    prepare(PrepareSettings(data_path=str(study / "known"), models=4, save_dir=str(tmp_path / "splits")))
    settings = finetuning(study, splits=str(tmp_path / "splits"), save_dir=str(tmp_path / "m"), num_epochs=1)
    train_models(settings, finetune_job(settings), ALONE)
    score_models(ScoreSettings(model_path=str(tmp_path / "m"), splits=str(tmp_path / "splits")), ALONE)
    with pytest.raises(ValueError, match="1 shadow models.*needs two shadows"):
        run_attack(AttackSettings(model_path=str(tmp_path / "m"), splits=str(tmp_path / "splits")))


def test_prepared_data_is_whole_or_refused(study, tmp_path):
    with pytest.raises(ValueError, match="has 10 photos, and enrolment takes 10"):
        prepare(PrepareSettings(data_path=str(study / "known"), num_enroll=10, save_dir=str(tmp_path / "a")))
    broken = tmp_path / "photos" / "somebody"
    broken.mkdir(parents=True)
    (broken / "0.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(broken / "1.png")
    with pytest.raises(ValueError, match="fewer than two people"):
        load_photos(str(tmp_path / "photos"), 8)
    other = tmp_path / "photos" / "other"
    other.mkdir()
    Image.new("RGB", (8, 8)).save(other / "0.png")
    with pytest.raises(ValueError, match="0.png cannot be opened"):
        load_photos(str(tmp_path / "photos"), 8)


def test_celebrities_are_split_by_person_and_by_photo(study):
    settings = PretrainSettings(data_path=str(study / "celebrities"), test_persons=3, valid_share=0.2)
    photos = load_photos(settings.data_path, 16)
    known, strangers, training, valid = celebrity_split(photos, settings)
    assert len(known.identities) == 9 and len(strangers.identities) == 3
    assert not set(known.identities) & set(strangers.identities)
    assert len(valid) == 18 and sorted([*training.tolist(), *valid.tolist()]) == list(range(90))
    assert set(known.labels[training].tolist()) == set(range(9))
    name = known.identities[4]
    assert torch.equal(known.pixels[known.labels == 4], photos.pixels[photos.rows([name])])


def test_models_are_grouped_by_steps_and_memory():
    fleet = Fleet(ComputeSettings(device="cpu", models_per_batch=3))
    assert fleet.groups([0, 1, 2, 3, 4, 5], lambda m: m == 2, lambda: 0) == [[0, 1, 3], [4, 5], [2]]
    assert Fleet(ComputeSettings(device="cpu")).groups([0, 1], lambda m: 0, lambda: 0) == [[0], [1]]
    assert models_that_fit(100, 9) == 8 and models_that_fit(10, 10**9) == 1


def test_ranks_share_the_models(monkeypatch):
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        shares.append(Fleet(ComputeSettings(device="cpu")).mine(range(8)))
    assert sorted(sum(shares, [])) == list(range(8)) and max(map(len, shares)) == 3


def test_two_processes_make_the_same_models_as_one(study, tmp_path):
    settings = finetuning(study, save_dir=str(tmp_path / "m"), num_epochs=1)
    job = finetune_job(settings)
    train_group([1], "cpu", job)
    alone = model_file(tmp_path / "m", 1).rename(tmp_path / "alone.safetensors")
    with Fleet(ComputeSettings(device="cpu", processes=2)) as fleet:
        done = sorted(models for models, _ in fleet.map(train_group, [[0], [1]], job))
    assert done == [[0], [1]]
    same_weights(model_file(tmp_path / "m", 1), alone)


@pytest.mark.slow
def test_accelerate_deals_the_models_to_its_ranks(study, tmp_path):
    settings = finetuning(study, save_dir=str(tmp_path / "m"), num_epochs=1)
    train_group([5], "cpu", finetune_job(settings))
    alone = model_file(tmp_path / "m", 5).rename(tmp_path / "alone.safetensors")
    launch = [
        "-m",
        "accelerate.commands.accelerate_cli",
        "launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    words = [
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        str(ROOT / "cv/finetune.py"),
        f"splits={study}/splits",
    ]
    words += [
        f"model_path={study}/pretrained",
        f"save_dir={tmp_path}/m",
        "num_epochs=1",
        "batch_size=32",
        "overwrite_dir=true",
    ]
    done = subprocess.run([sys.executable, *launch, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_record(tmp_path / "m")["status"] == "finished"
    assert sorted(file.stem for file in (tmp_path / "m").glob("*.safetensors")) == [
        f"{model:03d}" for model in range(8)
    ]
    same_weights(model_file(tmp_path / "m", 5), alone)
