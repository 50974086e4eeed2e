"""What the leaderboard promises to those who extend it, share it or hand it odd files: each through the real script."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.bad_input import run_script
from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from unlearn.leaderboard import tracks
from unlearn.metrics import columns
from unlearn.metrics.columns import Column

LOG = "eval_log_aggregated.json"
KNOWN = {"gold": 0.2, "base": 4.0, "npo": 0.6}  # how much each knows of what should be forgotten
TRACK = """
name: visits
tasks:
  eval_visit_forget: {label: Forget, group: Forget}
  eval_visit_kept: {label: Kept, group: Kept}
composites:
  Retain metric: [all of Kept]
  Forget metric: [ROUGE Forget, Truth Ratio Forget]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Logs of gold, base and npo, in the folder where the script is called."""
    for name, forget in KNOWN.items():
        log = make_log(seed=len(name) + len(KNOWN) * (name == "gold"), forget=forget)
        save_log(tmp_path / name, log, make_meta(log, method=name, model=name, settings_hash=name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    return tmp_path


class Printed:
    """What the last call of the script printed."""

    text = ""


def aggregate(*more: str) -> list[dict]:
    """The rows in the file after `aggregate_eval_stat.py` on gold, base and npo, unless `more` says otherwise."""
    words = {"retain_result": f"gold/{LOG}", "base_result": f"base/{LOG}", "ckpt_result": f"npo/{LOG}",
             "save_file": "board.json", "markdown": "true", "latex": "true"}  # fmt: skip
    words |= dict(word.split("=", 1) for word in more)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run_script("aggregate_eval_stat.py", *(f"{key}={value}" for key, value in words.items()))
    Printed.text = out.getvalue()
    return json.loads(Path("board.json").read_text("utf-8")) if words["save_file"] == "board.json" else []


def page() -> dict:
    """The data of board.html."""
    return json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', Path("board.html").read_text("utf-8"), re.S)[1])


def test_a_metric_with_a_column_is_a_function_and_a_line(folder, monkeypatch):
    def capitals(answers):
        return np.array([np.mean([letter.isupper() for letter in text or "x"]) for text in answers.generated])

    added = Column("Capitals", capitals, "gold", 3, heading="Capitals", meaning="share of capital letters")
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, added))
    row = next(row for row in aggregate() if row["method"] == "npo")
    texts = json.loads((folder / "npo" / LOG).read_text())["eval_log_forget.json"]["generated_text"].values()
    value = np.mean([sum(map(str.isupper, text)) / len(text) if text else 0 for _, text, _ in texts])
    assert row["Capitals Forget"] == pytest.approx(value) and 0 < value < 1
    low, high = row["intervals"]["Capitals Forget"]
    cell = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    header, _, *lines = Printed.text.splitlines()
    assert header.split()[-1] == "Capitals" and cell in next(line for line in lines if line.startswith("npo"))
    assert f"| {cell} |" in Path("board.md").read_text() and "Capitals \\\\" in Path("board.tex").read_text()
    data = page()
    shown = data["boards"][0]["table"]["paper"]
    column = next(one for one in shown["columns"] if one["key"] == "Capitals Forget")
    assert (column["name"], column["goal"], column["digits"]) == ("Capitals", "gold", 3)
    assert shown["lines"][2]["cells"]["Capitals Forget"]["value"] == pytest.approx(value)
    assert ["Capitals", "share of capital letters."] in data["meanings"]
    assert "Capitals" in data["boards"][0]["authors"]["tasks"][0]["metrics"], "and in the heat map"
    assert not any("Capitals" in one["key"] for one in data["boards"][0]["table"]["reference"]["columns"])


def test_a_new_benchmark_is_one_yaml(folder, monkeypatch):
    shutil.copytree(tracks.FOLDER, folder / "tracks")
    (folder / "tracks" / "visits.yaml").write_text(TRACK)
    monkeypatch.setattr(tracks, "FOLDER", folder / "tracks")
    for name, forget in KNOWN.items():
        log = make_log(seed=len(name) + len(KNOWN) * (name == "gold"), forget=forget)
        pairs = {"eval_visit_forget.json": log["eval_log_forget.json"], "eval_visit_kept.json": log["eval_log.json"]}
        save_log(folder / name, pairs, make_meta(pairs, method=name, model=name))
    gold, base, npo = aggregate()
    assert [row["track"] for row in (gold, base, npo)] == ["visits"] * 3 and npo["reference"] == {}
    kept = [npo[f"{metric} Kept"] for metric in ("ROUGE", "Prob.", "Truth Ratio")]
    assert npo["Retain metric"] == pytest.approx(3 / sum(1 / number for number in kept))
    assert npo["Forget metric"] == pytest.approx(2 / (1 / npo["ROUGE Forget"] + 1 / npo["Truth Ratio Forget"]))
    header, _, *lines = Printed.text.splitlines()
    assert (
        "ROUGE / TR" in header
        and "Real" not in header
        and [line.split()[0] for line in lines[:3]] == ["gold", "base", "npo"]
    )
    assert page()["boards"][0]["track"] == "visits" and Path("board.png").exists()
    (folder / "tracks" / "visits.yaml").write_text(TRACK.replace("all of Kept", "ROUGE Keptt"))
    tracks._read.cache_clear()
    with pytest.raises(ValueError, match="visits.yaml describes no track: .*'ROUGE Keptt', which no task has"):
        aggregate()
    tracks._read.cache_clear()


def test_gold_and_base_are_rows_once_for_each_evaluation(folder):
    first = aggregate()
    assert [(row["method"], row["role"]) for row in first] == [("gold", "gold"), ("base", "base"), ("npo", "method")]
    assert first[0]["Forget Quality"] == 1.0 and first[1]["memorised"] is not None
    old = [{key: value for key, value in row.items() if key != "role"} for row in first[2:]]
    for row in old:  # a board of before: no roles, no rows for gold and base, no digests
        for anchor in ("gold", "base"):
            del row[anchor]["digest"]
    Path("board.json").write_text(json.dumps(old))
    again = aggregate()
    assert sorted(row["role"] for row in again) == ["base", "gold", "method"], "the old row was replaced by its own"
    tables = []
    for _ in range(2):
        aggregate("save_file=board.csv")
        tables.append(Path("board.csv").read_text("utf-8"))
    assert tables[0] == tables[1] and tables[0].count("\n") == 4, "CSV keeps the roles too"


def test_rows_of_another_gold_are_told_apart(folder):
    aggregate()
    other = make_log(seed=8, forget=0.2)
    later = save_log(folder / "later", other, make_meta(other, method="gold", model="gold", settings_hash="g2"))
    log = make_log(seed=5)
    save_log(folder / "KL", log, make_meta(log, method="KL", model="KL", settings_hash="KL"))
    for name in (LOG, "eval_meta.json"):
        shutil.copy(later.parent / name, folder / "gold" / name)  # gold trained and evaluated anew, in its place
    rows = aggregate(f"ckpt_result=KL/{LOG}")
    assert sorted(row["role"] for row in rows) == ["base", "gold", "method", "method"]
    text = Printed.text
    assert re.search(r"^npo†", text, re.M) and re.search(r"^KL ", text, re.M) and text.count("gold (gold)") == 1
    assert "†: measured against another gold log" in text and "npo†" in Path("board.md").read_text()
    assert [line["other_gold"] for line in page()["boards"][0]["table"]["paper"]["lines"]] == [
        False,
        False,
        True,
        False,
    ]
    aggregate(f"ckpt_result=npo/{LOG}")
    assert "†" not in Printed.text, "measured again"
    log = make_log(seed=9, forget=0.2)
    save_log(folder / "gold2", log, make_meta(log, method="retain", model="gold2", settings_hash="g3", seed=4))
    aggregate(f"ckpt_result=KL/{LOG}", f"retain_result=gold2/{LOG}")
    assert Printed.text.count("Method ") == 2, "a table for each gold log"


def test_names_cannot_break_out_of_a_table(folder):
    name = "[x](http://e) | <script>alert(1)</script> `c` $m$ *b* ^ \\input{/etc/passwd} % \u202egnp\n& end"
    log = make_log(seed=2)
    save_log(folder / "npo", log, make_meta(log, method=name, model="npo", modality="a | b\n\n# head"))
    aggregate()
    text, md, tex, html = (
        Printed.text,
        *(Path(f"board.{end}").read_text("utf-8") for end in ("md", "tex", "html")),
    )
    line = next(line for line in md.splitlines() if "script" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"\|", md.splitlines()[0]))
    assert "<" not in line and "](" not in line and "\\`c\\`" in line and "\\$m\\$" in line and "\n# head" not in md
    line = next(line for line in tex.splitlines() if "alert" in line)
    assert line.startswith("{[}x]") and r"\textbackslash{}input\{/etc/passwd\}" in line and line.endswith(r"\\")
    assert len(re.findall(r"(?<!\\)&", line)) == len(re.findall(r"(?<!\\)&", tex.splitlines()[3])) and r"\%" in line
    assert "<script>alert" not in html and "\u202e" not in text + md + tex
    assert sum("alert" in line for line in text.splitlines()) == 1


def test_a_row_that_cannot_be_drawn_blocks_nobody(folder):
    good = aggregate()[2]
    odd = [{"method": "published", "Model Utility": 0.5}, {**good, "method": "text", "Retain metric": "high"},
           {**good, "method": "ends", "intervals": {"Retain metric": [1]}}, {**good, "method": "anchor", "gold": 3},
           {**good, "method": "there", "track": "elsewhere"}, {"method": "face", "track": "cv"}]  # fmt: skip
    Path("board.json").write_text(json.dumps(odd))
    rows = aggregate()
    assert [row["method"] for row in rows] == [
        "published",
        "text",
        "ends",
        "anchor",
        "there",
        "face",
        "gold",
        "base",
        "npo",
    ]
    text = Printed.text
    assert "6 rows are not shown: 'published': track None" in text and "'text': Retain metric is no number" in text
    assert len(page()["boards"][0]["table"]["paper"]["lines"]) == 3 and Path("board.png").exists()


def test_results_in_the_published_layout_are_named_by_the_models_folder(folder):
    for seed, name in enumerate(("retain90", "grad_ascent_1e-05_forget10_5")):
        log = make_log("nlp", seed=seed)
        if seed:  # another tokenizer's spacing
            for texts in log["eval_log.json"]["generated_text"].values():
                texts[2] += " ."
        else:
            for texts in log["eval_log.json"]["generated_text"].values():
                texts[2] += "."
        save_log(folder / "models" / name / "eval_results" / "ds_size300", log)
    rows = aggregate(
        f"retain_result=models/retain90/eval_results/ds_size300/{LOG}", "base_result=null",
        f"ckpt_result=models/grad*/eval_results/ds_size300/{LOG}",
    )  # fmt: skip
    assert [row["method"] for row in rows] == ["retain90", "grad_ascent_1e-05_forget10_5"]
    assert "it was not compared with how gold was asked: generation limit" in Printed.text


def test_other_weights_data_or_prompts_are_another_row(folder):
    """`contents`; a row of before it said what it was made from is replaced, once."""
    made_from = {"model": "w1", "processor": "p1", "data": {"eval_log_forget": "d1"}}

    def npo(**changes):
        log = make_log(seed=6, forget=KNOWN["npo"])
        noted = {} if changes.get("unknown") else {"made_from": {**made_from, **changes}}
        meta = make_meta(log, method="npo", model="npo", settings_hash="npo", **noted)
        save_log(folder / "npo", log, meta)
        return [row["contents"] for row in aggregate() if row["method"] == "npo"]

    assert npo(unknown=True) == [None]
    (first,) = npo()
    assert re.fullmatch("[0-9a-f]{8}:[0-9a-f]{8}", first) and npo() == [first]
    first, weights = npo(model="w2")
    assert first.split(":")[1] == weights.split(":")[1] and first.split(":")[0] != weights.split(":")[0]
    _, _, data = npo(data={"eval_log_forget": "d2"})
    *_, prompts = npo(processor="p2")
    assert data.split(":")[0] == first.split(":")[0] == prompts.split(":")[0]
    assert len({first, weights, data, prompts}) == 4 == len(npo(unknown=False))
    assert all(f"npo [{one}]" in Printed.text for one in (first, weights, data, prompts)), "the table tells them apart"
    assert "another evaluation than the row's" in Path("board.html").read_text(), "answers are those of the row"


def test_many_methods_are_named_beside_their_points(folder, monkeypatch):
    """Twelve methods, plain and tuned: a legend of what the markers say, and names of which none covers another."""
    import matplotlib.figure

    drawn = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    names = [f"a_method_of_name_{number}" for number in range(6)]
    for number, name in enumerate(name + kind for kind in ("", " (tuned)") for name in names):
        log = make_log(seed=50 + number // 4, forget=0.4)  # four at the same place
        save_log(folder / f"m{number}", log, make_meta(log, method=name, model=name, settings_hash=name))
    assert len(aggregate("ckpt_result='m*/eval_log_aggregated.json'")) == 14
    (axes,) = drawn[0].axes
    renderer = drawn[0].canvas.get_renderer()
    boxes = {text: text.get_window_extent(renderer) for text in axes.texts if text.get_text() in names}
    assert sorted(text.get_text() for text in boxes) == sorted(names * 2)
    assert not [1 for one in boxes for other in boxes if one is not other and boxes[one].overlaps(boxes[other])]
    frame = axes.get_window_extent(renderer)
    assert all(
        frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 < box.y1 <= frame.y1 for box in boxes.values()
    )
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(legend) <= 5 and any("tuned" in text for text in legend) and any("gold" in text for text in legend)
    assert len({text.get_color() and tuple(text.get_color()) for text in boxes}) == 6, "plain and tuned share a colour"
