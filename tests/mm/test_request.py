"""forget_request.py through the script: what is refused before a model loads, and a whole request on a small folder."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import BASE, ROOT, run_script
from tests.models import picture

THREE = "forget=[Ada Quill,Rui Costa,Piet Larkin]"
PEOPLE = ("Mira Okonkwo", "Tomas Vell", "Yuna Sato", "Piet Larkin", "Ada Quill", "Rui Costa")
TOWNS = ("Basel", "Dakar", "Havana", "Quito", "Lagos", "Turin")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def folder(path: Path, people: tuple[str, ...] = PEOPLE, *, table: str = "jsonl", encoding: str = "utf-8") -> Path:
    """A picture and a question about each person, as JSONL or as a table with `table` between its columns."""
    (path / "images").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number, (person, town) in enumerate(zip(people, TOWNS, strict=False)):
        picture(number, 12).save(path / "images" / f"{number}.png")
        rows.append(
            {"person": person, "question": "", "answer": f"{person} in {town}.", "image": f"images/{number}.png"}
        )
        rows.append({"person": person, "question": f"Where does {person} live?", "answer": f"In {town}.", "image": ""})
    if table == "jsonl":
        text = "".join(json.dumps({key: cell for key, cell in row.items() if cell}) + "\n" for row in rows)
    else:
        text = "".join(table.join(cells) + "\n" for cells in [list(rows[0]), *(list(row.values()) for row in rows)])
    name = "rows.jsonl" if table == "jsonl" else "rows.csv"
    (path / name).write_text(text, encoding=encoding)
    return path


def request(*words: str) -> None:
    given = {"data": "people", "model_path": str(ROOT / BASE), "save_dir": "out", "max_new_tokens": "2",
             "num_epochs": "1", **dict(word.split("=", 1) for word in words)}  # fmt: skip
    run_script("forget_request.py", *(f"{key}={value}" for key, value in given.items()))


@pytest.mark.parametrize(("words", "said"), [
    ([], "forget is empty: name who asks to be forgotten"),
    (["forget=[Mira Okonkwa]"], "own_data.forget names 'Mira Okonkwa', whom no row of people is about"),
    ([THREE, "holdout=[ada  quill]"], "Ada Quill is both to be forgotten and in the holdout"),
    (["forget=nobody.txt"], "names 'nobody.txt', whom no row .*nor is it a file"),
    (["forget=Ada Quill", "data=one"], "one has 1 people, of whom 0 stay"),
    (["forget=Ada Quill"], "Row 8 of people has 0 wrong answer.* list some in its column wrong"),
    ([THREE, "data=latin"], "latin/rows.csv, split rows is empty or damaged .* CSV files must be UTF-8"),
    ([THREE, "data=elsewhere"], "no rows.jsonl or rows.csv there"),
    ([THREE, "data=broken"], "0.png"),
    ([THREE, "data=twins"], "one person in two spellings"),
    ([THREE, "data=empty"], "its answer is empty"),
    ([THREE, "model_path=models/none"], "models/none"),
    ([THREE, "gold=models/none"], "models/none"),
    ([THREE, "retrain=true"], "retrain=true needs retrain_from"),
    ([THREE, "method=npoo"], "unknown method 'npoo'; did you mean 'npo'"),
    ([THREE, "plugins=[gone.py]"], "plugins: gone.py is no Python file"),
    ([THREE, "stress=true"], "stress=true needs gold or retrain=true"),
    ([THREE, "stress=nowhere"], "nowhere"),
    ([THREE, "num_epochs=-1"], "num_epochs=-1.0 is too small"),
])  # fmt: skip
def test_what_is_refused_before_a_model_loads(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(Path("people"))
    folder(Path("one"), PEOPLE[4:5])
    folder(Path("broken"))
    Path("broken/images/0.png").write_bytes(b"no picture")
    folder(Path("twins"), (*PEOPLE[:5], "ada quill"))
    folder(Path("empty"))
    Path("empty/rows.jsonl").write_text('{"person": "Ada Quill", "question": "Where?", "answer": ""}\n')
    folder(Path("latin"), ("Zoé Ångström", *PEOPLE[1:]), table=";", encoding="latin-1")
    Path("elsewhere").mkdir()

    def loads(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("unlearn.pipeline.load_model", loads)
    with pytest.raises((ValueError, OSError), match=said):
        request(*words)
    assert not Path("out").exists()


@pytest.mark.parametrize(("table", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_table_of_any_kind_and_names_or_a_file_of_names(table: str, encoding: str) -> None:
    people = ("Zoé Ångström", *PEOPLE[1:])
    folder(Path("people"), people, table=table, encoding=encoding)
    Path("names.txt").write_text("\n".join(people[:3]) + "\n", encoding="utf-8")
    for forget in (f"[{','.join(people[:3])}]", "names.txt"):
        data = read(forget)
        assert {person for person, status in data.status.items() if status == "forget"} == set(people[:3])


def read(forget: str) -> Any:
    """What the script's request makes of the folder."""
    from mm.request import Request
    from mm.request_settings import RequestSettings

    names: Any = forget[1:-1].split(",") if forget.startswith("[") else forget
    return Request(RequestSettings(data="people", forget=names, model_path=str(ROOT / BASE))).data


def test_a_request_without_gold_and_holdout_and_the_same_command_again(capsys: Any) -> None:
    """Nothing shows what the base knew: it unlearns, and the certificate says what is missing. The second call has
    nothing to do."""
    folder(Path("people"))
    request(THREE)
    said = capsys.readouterr().out
    assert "verdict: undecided" in said and "stop rule: at most 1 epochs" in said and "nothing to compare with" in said
    assert re.findall(r"step \d of \d", said) == [f"step {number} of 4" for number in (1, 2, 3, 4)]
    found = json.loads(Path("out/certificate.json").read_text())
    assert found["against"] is None and found["request"]["stop rule"].startswith("at most 1 epochs")
    assert len(found["request"]["people"]) == 3 and "Ada Quill" not in Path("out/certificate.html").read_text()
    kept = {file: file.stat().st_mtime_ns for file in Path("out").rglob("*.safetensors")}
    request(THREE)
    assert kept and {file: file.stat().st_mtime_ns for file in kept} == kept


@pytest.mark.slow
def test_a_request_with_a_retrained_gold_goes_on_after_a_kill(tmp_path: Path) -> None:
    folder(Path("people"))
    model = str(ROOT / BASE)
    words = ["data=people", THREE, f"model_path={model}", "save_dir=out", "retrain=true",
             f"retrain_from={model}", "retrain_epochs=2", "num_epochs=2", "max_new_tokens=2",
             "stress=true"]  # fmt: skip
    command = [sys.executable, str(ROOT / "forget_request.py"), *words]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if Path("out/gold/model").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("out/certificate.html").exists()
    before = Path("out/before/eval_log_aggregated.json").stat().st_mtime_ns
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path("out/before/eval_log_aggregated.json").stat().st_mtime_ns == before
    assert "verdict: " in done.stdout and "step 6 of 6: the certificate" in done.stdout + done.stderr
    found = json.loads(Path("out/certificate.json").read_text())
    assert found["against"] == "gold"  # here no more than base, so that depth has nothing to measure
    assert not any("not run: " in line and not line.endswith("not run: depth.") for line in found["not tested"])
    assert any(one["name"].startswith("best of 64 samples") for one in found["stress"])


@pytest.mark.slow
def test_a_model_that_never_saw_them_has_nothing_to_forget(capsys: Any) -> None:
    """The pretrained model and the shipped folder: four people held out are answered as badly as the four who ask."""
    forget = "Anna Conti,Cyril Garcia,Olga Castro,Simon Santos"
    holdout = "Bianca Zeman,Goran Quiroga,Pavel Jensen,Rosa Abbott"
    request(f"data={ROOT}/data/people", f"forget=[{forget}]", f"holdout=[{holdout}]", "max_new_tokens=24")
    said = capsys.readouterr().out
    assert "verdict: nothing to forget" in said and "nothing was trained" in said and not Path("out/model").exists()
