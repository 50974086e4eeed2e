"""A sweep for real: base, gold and one method of each language track, two steps each, to the table and the record."""

import json
from pathlib import Path

import pytest

from sweeps.settings import Sweep
from sweeps.study import run_sweep


@pytest.mark.slow
@pytest.mark.parametrize(("track", "family", "table"), [("mm", "llava-mini", "1"), ("nlp", "llama-mini", "4")])
def test_two_steps_of_a_table(tmp_path: Path, track: str, family: str, table: str) -> None:
    quick = ["ds_size=2", "generation.max_new_tokens=3"]
    sweep = Sweep(
        track=track,
        model_family=family,
        table=table,
        save_dir=str(tmp_path / "a sweep"),
        methods=["npo"],
        seeds=[1],
        modalities=["both" if track == "mm" else "text"],
        executor="local",
        jobs=2,
        finetune=["max_steps=2", "save_steps=0"],
        forget=["max_steps=2", "save_steps=0"],
        eval=quick,
    )
    said = run_sweep(sweep)
    assert "3 jobs in" in said and "0 kept, 0 failed" in said and "npo" in said
    kept = json.loads((tmp_path / "a sweep" / f"table{table}.json").read_text())
    assert {line["key"] for line in kept["rows"]} == {"gold", "base", "npo"}
    assert all(value is not None for line in kept["rows"] for value in line["numbers"].values())
    assert (tmp_path / "a sweep" / "leaderboard.html").is_file()
    assert "3 kept, 0 failed" in run_sweep(sweep)


@pytest.mark.slow
def test_the_face_track_is_one_job_to_its_table(tmp_path: Path) -> None:
    small = [
        "overrides.prepare=['models=8','size=16']",
        "overrides.pretrain=['size=16','num_epochs=1']",
        "overrides.finetune_models=['num_epochs=1','batch_size=64']",
        "overrides.retrain=['num_epochs=1','batch_size=64']",
        "overrides.scrub=['num_epochs=1','batch_size=64']",
        "overrides.attack=['draws=20']",
        "compute.processes=1",
    ]
    sweep = Sweep(
        track="cv",
        table="5",
        model_family="faces",
        save_dir=str(tmp_path / "faces"),
        methods=["retrain", "scrub"],
        executor="debug",
        forget=small,
    )
    assert "1 jobs in" in run_sweep(sweep)
    kept = json.loads((tmp_path / "faces" / "table5.json").read_text())
    assert [line["key"] for line in kept["rows"]] == ["original", "retrain", "scrub"]
    assert kept["rows"][2]["paper"] == [99.74, 16.77, 99.93, 0.98, 0.9] and not kept["rows"][2]["low_retain"]
    assert all(0 <= value <= 100 for line in kept["rows"] for value in line["numbers"].values())
    assert "1 kept, 0 failed" in run_sweep(sweep)
