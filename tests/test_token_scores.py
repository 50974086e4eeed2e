"""token_scores through the evaluation scripts: what lies beside the log, and what is kept."""

import json
import math

import pytest

from minibench.tables import write_dataset
from tests.bad_input import PERTURBED, ROOT, TEXT_PERTURBED, photos, run_script, texts
from unlearn.results import read_log
from unlearn.token_log import read_tokens

MODELS = {"mm": "llava-mini", "nlp": "llama-mini"}
TASKS = {"mm": ("[2]", "eval_log_forget"), "nlp": ("[3]", "eval_log_forget")}


def question_and_wrong(row: dict, number: int) -> dict:
    return {**row, "paraphrased_answer": f"It is {number}.", "perturbed_answer": ["Nobody.", "No one at all."]}


@pytest.mark.parametrize("track", ["mm", "nlp"])
def test_through_the_script(track, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {
        "mm": (PERTURBED, photos(0, 3)),
        "nlp": (TEXT_PERTURBED, [question_and_wrong(row, i) for i, row in enumerate(texts(0, 3))]),
    }
    write_dataset(tmp_path / "data", {"forget10_perturbed": rows[track]}, "Small.\n")
    number, task = TASKS[track]
    folder = tmp_path / "results"
    words = (f"model_path={ROOT}/minibench/weights/{MODELS[track]}", "data_path=data", f"eval_task_ids={number}",
             f"save_dir={folder}", "generation.max_new_tokens=2")  # fmt: skip

    def evaluate(*more: str) -> tuple[str, int]:
        """(the log, when it was written)"""
        run_script(f"{track}/eval.py", *words, *more)
        file = folder / f"{task}.json"
        return file.read_text(), file.stat().st_mtime_ns

    before, first = evaluate()
    file = folder / f"{task}.tokens.json"
    assert not file.exists()
    after, then = evaluate("token_scores=true", "overwrite=false")
    assert after == before and then > first, "evaluated again for the tokens alone"
    log = read_log(folder / "eval_log_aggregated.json")
    tokens = read_tokens(log, task)
    assert tokens is not None and list(tokens) == list(log.tasks[task]["gt_loss"]) and len(tokens) == 3
    for row, scores in tokens.items():
        assert -math.fsum(scores["logps"]) == pytest.approx(log.tasks[task]["gt_loss"][row], rel=1e-5)
        assert len(scores["hits"]) == log.tasks[task]["num_token_gt"][row]
        assert all(variance >= 0 > mean for mean, variance in zip(scores["means"], scores["variances"], strict=True))
    written = file.stat().st_mtime_ns
    for asked in ("token_scores=true", "token_scores=false"):
        assert evaluate(asked, "overwrite=false")[1] == then, "done"
    assert file.stat().st_mtime_ns == written and json.loads(file.read_text()) == tokens
    file.unlink()
    assert evaluate("token_scores=true", "overwrite=false", "batch_size=1")[1] > then
    again = read_tokens(log, task)
    assert again is not None and {row: scores["hits"] for row, scores in again.items()} == {
        row: scores["hits"] for row, scores in tokens.items()
    }
    assert evaluate("batch_size=auto")[0] == before, "three rows make one batch either way"
    assert not file.exists(), "a log that is written anew without them has none beside it"
