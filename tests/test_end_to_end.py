"""The whole story on the embedded benchmark, in one process: two steps in every corner, and one run that must mean
something."""

import json
import math
from pathlib import Path

import pytest

from sweeps.jobs import AGGREGATE, Job
from sweeps.work import carry_out, plan
from tests.bad_input import BASE, run_script
from unlearn.aggregate import AggregateSettings, update_leaderboard
from unlearn.results import AGGREGATE as LOG
from unlearn.results import read_log

QUICK = ("ds_size=2", "generation.max_new_tokens=3", "batch_size=4")


def made(
    script: str, folder: Path, *words: str, evaluation: tuple[str, ...] = QUICK, family: str = "llava-mini"
) -> Path:
    """Trains with `words` and evaluates, as the scripts would; returns the folder."""
    overrides = (f"model_family={family}", f"save_dir={folder}", "save_steps=0", *words)
    evaluations = ((f"model_family={family}", f"model_path={folder}", *evaluation),)
    carry_out(plan(Job(script, folder.name, folder, overrides, evaluations), folder.parent / "jobs"))
    return folder


@pytest.mark.parametrize(("rank", "family"), [
    (8, "qwen2vl-mini"), (0, "llava-mini"),
    *(pytest.param(*both, marks=pytest.mark.slow) for both in ((8, "llava-mini"), (0, "qwen2vl-mini"))),
])  # fmt: skip
def test_two_steps_of_everything(tmp_path, family, rank):
    words = (f"LoRA.r={rank}", "max_steps=2", "batch_size=4")
    base = made("finetune", tmp_path / "base", "split=full+tofu", *words, family=family)
    gold = made("finetune", tmp_path / "gold", "split=retain90+tofu", *words, family=family)
    gone = made("forget", tmp_path / "gone", f"model_path={base}", "forget_loss=npo", *words, family=family)
    assert (gone / ("adapter_model.safetensors" if rank else "model.safetensors")).is_file()
    *anchors, row = update_leaderboard(AggregateSettings(
        retain_result=str(gold / AGGREGATE), base_result=str(base / AGGREGATE), ckpt_result=str(gone / AGGREGATE),
        save_file=str(tmp_path / "leaderboard.json"),
    ))  # fmt: skip
    assert row["method"] == "npo" and row["model_family"] == family and row["items"]["Forget"] == 2
    assert row["global_batch"] == 4
    assert [anchor["role"] for anchor in anchors] == ["gold", "base"] and anchors[0]["Forget Quality"] == 1.0
    assert json.loads((tmp_path / "leaderboard.json").read_text())[2]["reference"]["method"] == "npo"
    assert (tmp_path / "leaderboard.html").stat().st_size > 10**6


def test_a_gold_that_was_asked_otherwise_is_no_gold(tmp_path, monkeypatch):
    """Other pictures, or fewer words: same rows, same references, and yet no yardstick."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    asked = {"own": (), "shuffled": ("images=shuffled",), "brief": ("generation.max_new_tokens=2",)}
    for name, words in asked.items():
        settings = dict(word.split("=", 1) for word in (*QUICK, "ds_size=6", "selection=random", *words))
        overrides = [f"{key}={value}" for key, value in settings.items()]
        run_script("mm/eval.py", f"model_path={BASE}", f"save_dir={tmp_path / name}", *overrides)

    def aggregate(gold):
        words = (f"retain_result={tmp_path / gold}/{LOG}", f"ckpt_result={tmp_path / 'own'}/{LOG}")
        run_script("aggregate_eval_stat.py", *words, f"save_file={tmp_path / 'board.json'}")

    with pytest.raises(ValueError, match=r"another picture in rows \d.*thumbnails/.* against .*thumbnails/"):
        aggregate("shuffled")
    with pytest.raises(ValueError, match=r"another generation limit \(max_new_tokens\), 3 against 2"):
        aggregate("brief")
    aggregate("own")
    (row,) = json.loads((tmp_path / "board.json").read_text())
    assert row["role"] == "gold" and row["unchecked"] == []


def name_probability(folder: Path) -> float:
    """Mean closed-set probability of the forget authors' right names."""
    log = read_log(folder / AGGREGATE).tasks["eval_forget_facerec"]
    return sum(math.exp(-value) for value in log["normalized_gt_loss"].values()) / len(log["normalized_gt_loss"])


def test_base_knows_the_names_gold_does_not_and_an_unlearned_model_lies_between(tmp_path):
    names = ("eval_task_ids=[4]", "generation.max_new_tokens=1", "batch_size=16")
    base = made("finetune", tmp_path / "base", "split=full+tofu", "num_epochs=5", evaluation=names)
    gold = made("finetune", tmp_path / "gold", "split=retain90+tofu", "num_epochs=5", evaluation=names)
    words = (f"model_path={base}", "forget_loss=grad_diff", "lr=1e-3", "num_epochs=4")
    gone = made("forget", tmp_path / "gone", *words, evaluation=names)
    known, unlearned, unseen = map(name_probability, (base, gone, gold))
    assert known > 0.5 and unseen < 0.35, (known, unseen)
    assert known - 0.1 > unlearned > unseen, (known, unlearned, unseen)
