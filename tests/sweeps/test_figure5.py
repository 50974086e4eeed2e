"""Figure 5's check: nested parts of a split, distances from the last model, and how monotonic each is."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sweeps.figure5 import COLUMNS, distances, forget_ratios, markdown, monotonic, picture
from sweeps.settings import Sweep
from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from unlearn import pipeline
from unlearn.config.settings import FinetuneSettings
from unlearn.data.samples import part_of
from unlearn.metrics.truth_ratio import truth_ratio
from unlearn.models.families import load_family
from unlearn.runs.record import settings_hash


class Rows:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def sample(self, index, rng):
        return {"question": "q", "answer": str(index), "image": None, "id": str(index)}

    def has_image(self, index):
        return index % 2 == 0

    def subject(self, index):
        return f"person {index}"


def test_a_part_is_seeded_and_lies_within_every_larger_part() -> None:
    def rows(fraction: float, seed: int = 42) -> list[int]:
        part = part_of(Rows(97), fraction, seed)
        answers = [int(part.sample(place, None)["answer"]) for place in range(len(part))]
        assert [part.has_image(place) for place in range(len(part))] == [answer % 2 == 0 for answer in answers]
        assert [part.subject(place) for place in range(len(part))] == [f"person {answer}" for answer in answers]
        return answers

    parts = [rows(tenth / 10) for tenth in range(1, 11)]
    assert [len(part) for part in parts] == [10, 19, 29, 39, 48, 58, 68, 78, 87, 97]
    assert all(set(small) < set(large) for small, large in zip(parts, parts[1:], strict=False))
    assert parts[9] == list(range(97)) and parts[4] == sorted(parts[4]) == rows(0.5)
    assert rows(0.5, seed=1) != parts[4]


def test_finetuning_is_on_the_part_and_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def stop(settings, family, start, method, dataset, collator):
        raise Stop(len(dataset))

    monkeypatch.setattr(pipeline, "load_collator", lambda *ignored: SimpleNamespace(check=lambda samples: None))
    monkeypatch.setattr(pipeline, "note_contents", lambda *ignored: None)
    monkeypatch.setattr(pipeline, "build_trainer", stop)
    with pytest.raises(Stop, match="^10$"):
        settings = FinetuneSettings(save_dir=str(tmp_path), data_fraction=0.25)
        pipeline.finetune(settings, load_family("llava-mini"), lambda: Rows(40))
    assert settings_hash(settings) != settings_hash(FinetuneSettings(save_dir=str(tmp_path)))


@pytest.mark.parametrize("fraction", [0.0, 1.1, 0.001])
def test_no_part_without_a_row(fraction: float) -> None:
    with pytest.raises(ValueError, match="data_fraction"):
        part_of(Rows(20), fraction, 0)


def test_distances_are_from_the_last_model_by_hand() -> None:
    """u = R / (1 + R): 0.25 against 0.75 everywhere. No bin is shared, every step of the two distributions is 0.5
    apart."""
    ratios = {0.1: np.full(8, 3.0), 0.5: np.full(8, 1 / 3), 1.0: np.full(8, 1 / 3)}
    far, near, last = distances(ratios)
    assert (far["js"], far["ks"], far["wasserstein"]) == (pytest.approx(1.0), 1.0, pytest.approx(0.5))
    assert far["p"] < 1e-3 and far["null_js"] > 0
    for row in (near, last):
        assert (row["js"], row["ks"], row["wasserstein"], row["p"]) == (pytest.approx(0.0), 0.0, 0.0, 1.0)
    assert [row["fraction"] for row in (far, near, last)] == [0.1, 0.5, 1.0]


def test_a_step_the_wrong_way_is_counted_for_distances_and_for_p_values() -> None:
    rows = [
        {"fraction": f, "js": js, "wasserstein": 0.1, "ks": 1 - f, "p": p, "null_js": 0.1}
        for f, js, p in ((0.2, 0.9, 0.1), (0.4, 0.5, 0.5), (0.6, 0.6, 0.2), (0.8, 0.2, 0.6), (1.0, 0.0, 1.0))
    ]
    found = monotonic(rows)
    assert {key: found[key]["wrong_steps"] for key in COLUMNS} == {"js": 1, "wasserstein": 0, "ks": 0, "p": 1}
    assert found["js"]["rho"] == pytest.approx(-0.8) and found["ks"]["rho"] == pytest.approx(-1)
    assert found["wasserstein"]["rho"] is None and found["p"]["rho"] == pytest.approx(0.8)
    assert {found[key]["steps"] for key in COLUMNS} == {3}, "the last model is its own reference"


@pytest.mark.parametrize("track", ["mm", "nlp"])
def test_the_forget_task_alone_is_enough_of_a_log(tmp_path: Path, track: str) -> None:
    log = {"eval_log_forget.json": make_log(track, seed=1)["eval_log_forget.json"]}
    meta = make_meta(log)
    meta["tasks"]["eval_log_forget"]["rows"]["3"]["wrong_equals_right"][0] = True  # left out, as in every truth ratio
    path = save_log(tmp_path, log, meta)
    ratios = forget_ratios(path, track)
    task = log["eval_log_forget.json"]
    wrong = [losses[row == "3" :] for row, losses in task["average_perturb_loss"].items()]
    assert ratios == pytest.approx(truth_ratio(list(task["avg_paraphrased_loss"].values()), wrong))


def test_table_and_picture(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = distances({share / 10: draw.lognormal(1 - share / 10, 0.5, size=48) for share in range(1, 11)})
    text = markdown(Sweep(), rows, 48)
    assert text.count(" % | ") == 10 and "| 100 % | 0.000 | 0.000 | 0.000 | 1 |" in text and "48 forget items" in text
    assert picture(rows, tmp_path / "new" / "fig5.png", "llava-mini").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["fig5.png"]
