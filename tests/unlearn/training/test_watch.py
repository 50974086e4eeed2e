"""eval_while_train: the numbers against a slow form, the rule by hand, and runs that are watched, stopped, killed
and resumed."""

import contextlib
import functools
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.models import tiny_llava
from tests.sources import ListSource
from tests.training import REFUSALS, make_trainer
from unlearn import pipeline
from unlearn.config.settings import ForgetSettings, LoraSettings
from unlearn.data.collator import Collator
from unlearn.evaluation.prefix import score_plain
from unlearn.metrics.rouge import rouge_recall
from unlearn.models.families import Family
from unlearn.registry import build_method
from unlearn.report.curves import quantities_of
from unlearn.runs.record import settings_hash
from unlearn.training import build as training
from unlearn.training.subset import Subset, measure_subset
from unlearn.training.watch import FORGET, RETAIN, Rule, Watch, check_watch

SOURCES = {"forget": ListSource(4, 3, "forget"), "retain": ListSource(3, 4, "retain", offset=50)}


# ---- the subset and its numbers -----------------------------------------------------------------------------------


def test_the_numbers_are_those_of_plain_forwards_without_dropout(tmp_path: Path) -> None:
    """Dropout that stayed on, a sum in place of the mean per token, or swapped splits would show here."""
    trainer = make_trainer(tmp_path, build_method("npo"), init_noise=0.3, dropout=0.5)
    model, collator, subset = trainer.student.model, Collator(tiny_llava()[1]), Subset(SOURCES, 5, 1)
    model.train()
    found = measure_subset(trainer, collator, subset, batch_size=2)
    assert model.training and found == measure_subset(trainer, collator, subset, batch_size=2)
    model.eval()
    for split in SOURCES:
        samples = [subset.sample(place) for place in subset.places() if place.split == split]
        assert len({sample["id"] for sample in samples}) == 5 and {sample["image"] is None for sample in samples} == {
            True,
            False,
        }
        answers = [[collator.encode_answer(str(sample["answer"]))] for sample in samples]
        scores = score_plain(model, collator, [collator.encode_prompt(s) for s in samples], answers, rows_per_forward=1)
        expected = sum(math.exp(-score.loss / score.tokens) for (score,) in scores) / 5
        assert found[f"{split}_probability"] == pytest.approx(expected, rel=1e-4) and 0 < expected < 1
        assert 0 <= found[f"{split}_rouge"] <= 1


def test_generations_are_scored_against_their_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, collator = make_trainer(tmp_path, build_method("npo")), Collator(tiny_llava()[1])
    said: list[str] = []

    def speak(model: Any, collator: Any, samples: Any, limit: int, steps: Any) -> list[str]:
        said.extend(texts := [str(s["answer"]).split()[0] + " and more" for s in samples])
        assert limit == max(len(collator.encode_answer(str(subset.sample(p)["answer"]))) for p in subset.places())
        return texts

    monkeypatch.setattr("unlearn.training.subset._generate", speak)
    subset = Subset(SOURCES, 9, 0)  # more than there are: all 7
    found = measure_subset(trainer, collator, subset, batch_size=3)
    answers = [str(subset.sample(p)["answer"]) for p in subset.places() if p.split == "forget"]
    expected = rouge_recall([a.split()[0] for a in answers], answers)["rougeL_recall"].mean()
    assert len(said) == 14 and found["forget_rouge"] == pytest.approx(expected) and 0 < expected < 1


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_cover_all_rows_in_the_same_batches_and_modalities(world: int) -> None:
    """One process's batches are the union of what several see: the numbers are then the same, to the bit."""
    subset = Subset(SOURCES, 6, 3)
    alone = subset.share(2, 0, 1)
    shares = [subset.share(2, rank, world) for rank in range(world)]
    assert {tuple(batch) for share in shares for batch in share} == {tuple(batch) for batch in alone}
    assert sorted(place for batch in alone for place in batch) == sorted(subset.places())
    for step in zip(*shares, strict=True):  # strict: as many on every rank
        assert len({SOURCES[p.split].has_image(p.row) for batch in step for p in batch}) == 1


def test_two_processes_see_the_numbers_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank in turn, with what it hands to the others caught; tests/test_watch_processes.py does it with real
    ones."""
    trainer, collator = make_trainer(tmp_path, build_method("npo"), init_noise=0.3), Collator(tiny_llava()[1])
    measure = functools.partial(measure_subset, collator=collator, subset=Subset(SOURCES, 5, 1), batch_size=2)
    alone = measure(trainer)
    sent: list[Any] = []

    def gather(items: list[Any]) -> list[Any]:
        sent.append(items)
        if len(sent) == 1:
            raise Killed
        return sent[0] + items

    monkeypatch.setattr("accelerate.utils.gather_object", gather)
    names = ("is_fsdp_enabled", "is_deepspeed_enabled", "model", "student", "_prepare_inputs")
    ranks = [
        SimpleNamespace(
            **{name: getattr(trainer, name) for name in names},
            accelerator=SimpleNamespace(process_index=rank, num_processes=2, autocast=contextlib.nullcontext),
        )
        for rank in (0, 1)
    ]
    with pytest.raises(Killed):
        measure(ranks[0])
    assert measure(ranks[1]) == alone and 0 < len(sent[0]) < 10 and 0 < len(sent[1]) < 10


def test_the_rows_are_fixed_by_the_seed() -> None:
    assert Subset(SOURCES, 4, 1).places() == Subset(SOURCES, 4, 1).places() != Subset(SOURCES, 4, 2).places()
    only = Subset({"forget": SOURCES["forget"]}, 4, 1)
    assert {place.split for place in only.places()} == {"forget"}


# ---- the rule -----------------------------------------------------------------------------------------------------


def history(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"step": 10 * i, "epoch": i, FORGET: forget, RETAIN: retain} for i, (forget, retain) in enumerate(pairs)]


@pytest.mark.parametrize(("rule", "pairs", "best"), [
    (Rule(0.9), [(0.9, 0.8), (0.5, 0.75), (0.3, 0.73), (0.1, 0.7)], 20),  # 0.9 * 0.8 = 0.72: the last does not count
    (Rule(0.5), [(0.9, 0.8), (0.5, 0.75), (0.3, 0.73), (0.1, 0.7)], 30),
    (Rule(0.9, target=0.45), [(0.9, 0.8), (0.5, 0.8), (0.3, 0.8), (0.1, 0.8)], 10),
    (Rule(0.9), [(0.9, 0.8), (0.5, 0.1), (0.4, 0.2)], 0),  # nothing kept the rule: the start
    (Rule(0.9), [(0.9, 0.8), (0.4, 0.8), (0.4, 0.9)], 10),  # of equals the first
    # more than at the start, where the start itself still counts
    (Rule(1.2), [(0.9, 0.8), (0.4, 0.8), (0.5, 0.97)], 20),
])  # fmt: skip
def test_the_best_evaluation(rule: Rule, pairs: Any, best: int) -> None:
    assert rule.best(history(*pairs))["step"] == best


def test_when_to_stop() -> None:
    pairs = [(0.9, 0.8), (0.5, 0.8), (0.6, 0.8), (0.3, 0.1), (0.2, 0.8)]  # step 30 breaks the rule
    said = [Rule(0.9, patience=2).stop(history(*pairs[:n])) for n in range(1, 6)]
    assert [reason is not None for reason in said] == [False, False, False, True, False]
    assert said[3] == "no better evaluation than that of step 10 in 2 (stop_early=2)"
    assert Rule(0.9).stop(history((0.1, 1.0), *[(0.9, 1.0)] * 50)) is None


@pytest.mark.parametrize(("changes", "message"), [
    ({"keep_best": True, "eval_while_train": False},
     "keep_best chooses among the evaluations of eval_while_train; set"),
    ({"stop_early": 2, "eval_while_train": False}, "stop_early chooses among"),
    ({"keep_best": True, "forget_loss": "SKU"},
     "keep_best has no meaning for SKU: the weights are transformed after training"),
    ({"stop_early": 1, "retain_split": None}, "stop_early compares the retain rows with their start; set retain_split"),
])  # fmt: skip
def test_what_cannot_be_chosen_is_refused(changes: dict[str, Any], message: str) -> None:
    settings = ForgetSettings(**{"forget_loss": "npo", "retain_split": "kept", "eval_while_train": True, **changes})
    with pytest.raises(ValueError, match=message):
        pipeline.choose_method(settings)
    check_watch(ForgetSettings(forget_loss="SKU", eval_while_train=True), build_method("SKU"))  # looking on is allowed


def test_only_what_changes_the_result_is_in_the_hash() -> None:
    plain = settings_hash(ForgetSettings())
    looking = ForgetSettings(eval_while_train=True, eval_while_train_items=3, keep_retain=0.5, forget_target=0.1)
    assert settings_hash(looking) == plain
    chosen = [{"keep_best": True}, {"stop_early": 2}, {"keep_best": True, "keep_retain": 0.5},
              {"keep_best": True, "eval_while_train_items": 3}, {"keep_best": True, "forget_target": 0.5}]  # fmt: skip
    assert len({plain, *(settings_hash(ForgetSettings(eval_while_train=True, **extra)) for extra in chosen)}) == 6  # type: ignore[arg-type]


# ---- whole runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    model, processor = tiny_llava()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def forget(base: Path, folder: Path, **changes: Any) -> Path:
    """Four epochs of three steps: gradient ascent that soon wrecks the retain rows too."""
    defaults: dict[str, Any] = {
        "save_dir": str(folder),
        "model_path": str(base),
        "LoRA": LoraSettings(r=2, dropout=0.2),
        "forget_loss": "grad_ascent",
        "batch_size": 2,
        "num_epochs": 4,
        "logging_steps": 1,
        "lr": 3e-3,
        "retain_split": "kept",
        "eval_while_train": True,
        "eval_while_train_items": 4,
        "keep_retain": 0.4,
        "lr_scheduler": "constant",
        "warmup_epochs": 0.0,
    }
    sources = ListSource(3, 2, "forget"), ListSource(3, 3, "retain", offset=50)
    settings = ForgetSettings(**{**defaults, **changes})
    return pipeline.forget(settings, Family("llava", "x", rmu_layer=1), lambda: sources, REFUSALS)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys() and one
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_looking_on_changes_neither_the_weights_nor_the_log(base: Path, tmp_path: Path) -> None:
    watched, plain = forget(base, tmp_path / "a"), forget(base, tmp_path / "b", eval_while_train=False)
    assert same(tensors(watched), tensors(plain))
    losses = [[e for e in lines(folder / "train_log.jsonl") if "loss" in e] for folder in (watched, plain)]
    assert losses[0] == losses[1] and len(losses[0]) == record(plain)["steps"] == 12
    curve = lines(watched / "watch.jsonl")
    assert [e["step"] for e in curve] == [0, 3, 6, 9, 12] and [e["epoch"] for e in curve] == [0, 1, 2, 3, 4]
    assert (
        curve == [e for e in lines(watched / "train_log.jsonl") if FORGET in e] and curve[-1][FORGET] < curve[0][FORGET]
    )
    seen = quantities_of(lines(watched / "train_log.jsonl"))
    assert seen[FORGET] == {"step": [0, 3, 6, 9, 12], "value": [pytest.approx(e[FORGET], rel=1e-4) for e in curve]}
    assert seen["loss"]["step"] == list(range(1, 13)) and "train_loss" not in seen
    assert {"eval_forget_rouge", "eval_retain_rouge", RETAIN} <= curve[0].keys()
    assert (watched / "watch.png").stat().st_size > 5000 and not (plain / "watch.jsonl").exists()
    assert record(watched)["saved"] == "last" and "best" not in record(plain)


@pytest.mark.parametrize("lora", [2, 0])
def test_the_best_weights_are_saved(base: Path, tmp_path: Path, lora: int) -> None:
    """A run that ends at the best epoch has the weights that the longer run has to save."""
    options = {"LoRA": LoraSettings(r=lora), **({} if lora else {"lr": 1e-3})}
    folder = forget(base, tmp_path / "long", keep_best=True, **options)
    curve, best = lines(folder / "watch.jsonl"), record(folder)["best"]
    assert 0 < best["step"] < 12 and best in curve and record(folder)["saved"] == "best"
    assert any(e[FORGET] < best[FORGET] and e[RETAIN] < 0.4 * curve[0][RETAIN] for e in curve)  # the bound did decide
    short = forget(base, tmp_path / "short", eval_while_train=False, max_steps=best["step"], **options)
    assert same(tensors(folder), tensors(short))
    assert {f.name for f in short.iterdir()} | {"watch.jsonl", "watch.png"} == {f.name for f in folder.iterdir()}


def test_when_every_evaluation_breaks_the_rule_the_start_is_saved(base: Path, tmp_path: Path) -> None:
    folder = forget(base, tmp_path / "run", keep_best=True, lr=0.1, num_epochs=1)
    assert record(folder)["best"]["step"] == 0
    assert all(not tensor.any() for name, tensor in tensors(folder).items() if "lora_B" in name)


@pytest.fixture(scope="module")
def stopped(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forget(base, tmp_path_factory.mktemp("stopped") / "run", stop_early=1)


def test_a_run_stops_early_and_says_why(stopped: Path) -> None:
    """The best is step 6, and the next evaluation is no better; without keep_best the last weights are saved."""
    assert record(stopped)["steps"] == 9 < 12 and "step 6 in 1 (stop_early=1)" in record(stopped)["stopped"]
    assert (
        record(stopped)["saved"] == "last"
        and record(stopped)["best"]["step"] == 6
        and record(stopped)["status"] == "finished"
    )
    assert [entry["step"] for entry in lines(stopped / "watch.jsonl")] == [0, 3, 6, 9]


def test_a_stop_within_an_epoch_is_evaluated_too(base: Path, tmp_path: Path) -> None:
    folder = forget(base, tmp_path / "run", stop_when=0.01)
    assert record(folder)["steps"] == 1 and [e["step"] for e in lines(folder / "watch.jsonl")] == [0, 1]


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the killed runs below have to end in: the best is step 6, the stop comes at step 9."""
    folder = forget(base, tmp_path_factory.mktemp("whole") / "run", keep_best=True, stop_early=1)
    assert record(folder)["best"]["step"] == 6 and record(folder)["steps"] == 9
    return folder


@pytest.mark.parametrize(("moment", "save_steps"), [
    ("step 5", 2), ("step 8", 0), ("best 6", None), ("checkpoint 6", None), ("saving", None),
])  # fmt: skip
def test_a_killed_run_keeps_the_same_best(
    base: Path, whole: Path, tmp_path: Path, moment: str, save_steps: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in a step, while the best is saved, between that and the checkpoint, while the result is saved."""
    run = functools.partial(forget, base, tmp_path / "run", keep_best=True, stop_early=1, save_steps=save_steps)
    kind, _, number = moment.partition(" ")
    trainer = training.UnlearnTrainer
    owner, name = {"step": (trainer, "compute_loss"), "best": (trainer, "save_model"),
                   "checkpoint": (trainer, "_save_checkpoint"), "saving": (pipeline, "save_trained")}[kind]  # fmt: skip
    plain = getattr(owner, name)

    def killed(self: Any, *inputs: Any, **options: Any) -> Any:
        if not number or self.state.global_step == int(number):
            raise Killed
        return plain(self, *inputs, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, killed)
        run()
    assert record(tmp_path / "run")["status"] == "running"
    folder = run()
    assert same(tensors(folder), tensors(whole)) and lines(folder / "watch.jsonl") == lines(whole / "watch.jsonl")
    assert all(record(folder)[key] == record(whole)[key] for key in ("best", "steps", "stopped", "saved"))
    assert not [file.name for file in folder.iterdir() if file.is_dir()]


def test_a_checkpoint_that_a_signal_saved_at_the_stop_is_not_trained_on(
    base: Path, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without keep_best the last weights count: one step more would be another result."""
    run, plain = functools.partial(forget, base, tmp_path / "run", stop_early=1), Watch.on_step_end

    def saving(self: Any, args: Any, state: Any, control: Any, **options: Any) -> None:
        plain(self, args, state, control, **options)
        control.should_save = True

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Watch, "on_step_end", saving)
        patch.setattr(pipeline, "save_trained", _die)
        run()
    assert (tmp_path / "run" / "checkpoint-9").is_dir()
    folder = run()
    assert same(tensors(folder), tensors(stopped)) and record(folder)["stopped"] == record(stopped)["stopped"]
    assert lines(folder / "watch.jsonl") == lines(stopped / "watch.jsonl") and record(folder)["steps"] == 9


def _die(*_: Any, **__: Any) -> None:
    raise Killed


def test_a_checkpoint_without_its_best_weights_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = functools.partial(forget, base, tmp_path / "run", keep_best=True)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(pipeline, "save_trained", _die)
        run()
    (best,) = (tmp_path / "run").glob("best-*")
    shutil.rmtree(best)
    with pytest.raises(ValueError, match=rf"{best.name} is gone, the best weights so far"):
        run()
