"""redact=true through the scripts: the numbers stay what they were, and no text, name or picture of anybody is left."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import BASE, ROOT, run_script
from tests.unlearn.leaderboard.planted import KNOWN, NEVER_MET, WORDS, write_planted
from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from unlearn.leaderboard.redact import alike, is_redacted, redacted
from unlearn.leaderboard.row import leaderboard_row
from unlearn.publish.privacy import public_record
from unlearn.results import as_log, read_log

LLAMA = "minibench/weights/llama-mini"
# what is made of texts and cannot be kept row by row: why it is null stands under `unmeasured`
GONE = {"Knowledge hole", "Privacy score", "overall", "knowledge holes", "logs", "privacy"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def texts_of(log: dict[str, Any]) -> set[str]:
    return {text for task in log.values() for row in task["generated_text"].values() for text in row}


@pytest.mark.parametrize("track", ["mm", "nlp"])
def test_a_row_of_redacted_logs_has_the_same_numbers(track: str) -> None:
    logs = []
    for seed, forget in ((2, 0.2), (3, 3.0), (10, 0.6)):
        log = make_log(track, seed=seed, forget=forget, rows=24, ragged=True)
        logs.append(as_log(log, make_meta(log, authors=6)))  # type: ignore[arg-type]
    bank = ["the portrait"]
    gold, base, model = logs
    row = leaderboard_row(model, gold, base_log=base, refusals=bank)
    less = leaderboard_row(
        *(redacted(one, bank) for one in (model, gold)), base_log=redacted(base, bank), refusals=bank
    )
    for name in row.keys() - GONE:
        if isinstance(row[name], float):
            assert math.isclose(less[name], row[name], rel_tol=1e-12), name
        else:
            assert less[name] == row[name], name
    assert less["Knowledge hole"] is None and all(
        "redacted" in one["unmeasured"] for one in less["knowledge holes"].values()
    )
    assert less["Refusal rate Forget"] is not None


def test_a_redacted_log_beside_a_whole_one_and_twice() -> None:
    log = make_log(rows=8)
    whole = as_log(log, make_meta(log))  # type: ignore[arg-type]
    once = redacted(whole)
    assert is_redacted(once) and not is_redacted(whole)
    again = redacted(once)
    assert (again.tasks, again.meta) == (once.tasks, once.meta)
    assert all(one is not None and is_redacted(one) for one in alike(once, whole))
    assert leaderboard_row(once, whole)["Forget metric"] == leaderboard_row(whole, whole)["Forget metric"]
    assert once.meta is not None
    people = {row["author"] for task in once.meta["tasks"].values() for row in task["rows"].values()}
    assert people == {"person 1", "person 2", "person 3", "person 4"}


@pytest.mark.parametrize("track", ["mm", "nlp"])
def test_an_evaluation_keeps_ids_and_numbers(track: str) -> None:
    data = {"mm": ROOT / "data" / "clear-mini", "nlp": ROOT / "data" / "tofu-mini"}[track]
    words = (f"model_path={ROOT / (BASE if track == 'mm' else LLAMA)}", f"data_path={data}", "ds_size=2",
             "eval_task_ids=[2,3]", "generation.max_new_tokens=4", "token_scores=true")  # fmt: skip
    run_script(f"{track}/eval.py", *words, "save_dir=whole")
    run_script(f"{track}/eval.py", *words, "save_dir=less", "redact=true")
    whole, less = (json.loads(Path(f"{name}/eval_log_aggregated.json").read_text()) for name in ("whole", "less"))
    for task in whole:
        assert {key: less[task][key] for key in less[task] if key != "generated_text"} == {
            key: whole[task][key] for key in whole[task] if key != "generated_text"
        }
    assert texts_of(less) == {""} and len(texts_of(whole)) > 4
    left = "".join(file.read_text() for file in Path("less").rglob("*.json"))
    meta = json.loads(Path("whole/eval_meta.json").read_text())
    rows = [row for task in meta["tasks"].values() for row in task["rows"].values()]
    held = {row[key] for row in rows for key in ("question", "answer", "author", "picture") if row.get(key)} | texts_of(
        whole
    )
    assert held and not [text for text in held if len(text) > 8 and json.dumps(text)[1:-1] in left]
    assert not Path("less/thumbnails").exists() and Path("whole/thumbnails").exists() is (track == "mm")
    before = Path("less/eval_log_aggregated.json").stat().st_mtime_ns
    run_script(f"{track}/eval.py", *words, "save_dir=less", "redact=true", "overwrite=false")
    assert json.loads(Path("less/eval_log_aggregated.json").read_text()) == less and before


def test_the_board_and_the_certificate_of_redacted_logs() -> None:
    model, base, gold = (write_planted(Path(name), known, seed=seed) for name, known, seed in (
        ("npo", {**NEVER_MET, "own_forget": 0.6}, 3), ("base", KNOWN, 1), ("gold", NEVER_MET, 2)))  # fmt: skip
    words = (f"ckpt_result={model}", f"base_result={base}", f"retain_result={gold}")
    run_script("aggregate_eval_stat.py", *words, "save_file=whole.json")
    run_script("aggregate_eval_stat.py", *words, "save_file=less.json", "redact=true")
    pages = [Path(f"{name}.html").read_text() for name in ("whole", "less")]
    assert ["Anna Lee" in page for page in pages] == [True, False]
    assert " ".join(WORDS[:6]) in pages[0] and " ".join(WORDS[:3]) not in pages[1]
    rows = [json.loads(Path(f"{name}.json").read_text()) for name in ("whole", "less")]
    assert [row["Forget metric"] for row in rows[0]] == [row["Forget metric"] for row in rows[1]]
    run_script("aggregate_eval_stat.py", *words, "certificate=out.html", "redact=true")
    assert json.loads(Path("out.json").read_text())["verdict"]["name"] == "not forgotten"
    unmeasured = next(row for row in rows[1] if row.get("role") == "method")["privacy"]["unmeasured"]
    assert any("ZLib: needs the texts, and the log is redacted" in why for why in unmeasured)
    assert any("blind AUC: needs the texts" in why for why in unmeasured)
    with pytest.raises(ValueError, match="examples=true shows texts and redact=true removes them"):
        run_script("aggregate_eval_stat.py", *words, "certificate=out.html", "redact=true", "examples=true")


def test_publish_counts_people_unless_told_otherwise() -> None:
    own = {"path": "data/people", "forget": ["Anna Conti", "Olga Castro"], "holdout": "names.txt", "seed": 0}
    record = {"kind": "forget", "settings": {"own_data": own, "exclude_people": ["Rosa Abbott"], "seed": 1}}
    known = public_record(record)["settings"]
    assert known["own_data"]["forget"] == "(2 people)" and known["exclude_people"] == "(1 people)"
    assert known["own_data"]["holdout"] == "(a local folder)" and "Conti" not in json.dumps(known)
    assert public_record(record, redact=False)["settings"]["own_data"]["forget"] == ["Anna Conti", "Olga Castro"]


def test_a_log_without_meta_is_redacted_too(tmp_path: Path) -> None:
    path = save_log(tmp_path / "foreign", make_log(rows=4))
    log = redacted(read_log(path))
    assert is_redacted(log) and all(text == ["", "", ""] for text in log.tasks["eval_log"]["generated_text"].values())
    assert log.tasks["eval_log"]["rougeL_recall"]
