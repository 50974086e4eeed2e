"""From the files of a stress run to numbers, the table and the page: no model is needed."""

import json

import numpy as np
import pytest

from unlearn.leaderboard.stress import find, summarise
from unlearn.report.stress import cell, short, write_stress
from unlearn.stress_log import Number, read_unit, write_index, write_unit

PEOPLE = {str(row): f"person {row // 2}" for row in range(12)}
MODELS = ("base", "gold", "npo", "KL")


def rows(*values: float) -> dict[str, float]:
    """A value for each of six people, both of whose rows have it."""
    return {str(row): values[row // 2 % len(values)] for row in range(12)}


def write(folder, tests):
    """`tests`: {test: {model: [Number]}}."""
    models = [{"name": name, "path": f"models/{name}", "method": name, "modality": "both"} for name in MODELS]
    write_index(folder, {"models": models, "tests": list(tests)})
    for test, units in tests.items():
        for name, numbers in units.items():
            people = {number.task: PEOPLE for number in numbers}
            write_unit(folder / name / f"{test}.json", "key", numbers, people, 2.0)
    return folder


def leakage_run(folder):
    label = "forget: image → name"
    values = {"base": rows(0.8, 0.82), "gold": rows(0.2, 0.22), "npo": rows(0.5, 0.52), "KL": rows(0.2, 0.22)}
    units = {name: [Number("eval_forget_facerec", label, "p", own)] for name, own in values.items()}
    return write(folder, {"matrix": units})


def test_leakage_by_hand(tmp_path):
    entry = summarise(leakage_run(tmp_path))["tests"]["matrix"][0]
    npo = entry["models"]["npo"]
    assert npo["leakage"]["value"] == pytest.approx(0.5) and entry["models"]["KL"]["leakage"]["value"] == 0
    assert npo["leakage"]["interval"] == pytest.approx([0.5, 0.5])
    assert npo["mean"] == pytest.approx(0.51) and (npo["rows"], npo["people"]) == (12, 6)
    assert npo["difference"] == pytest.approx([0.3, 0.3, 0.3])
    assert "difference" not in entry["models"]["gold"] and "leakage" not in entry["models"]["base"]


def test_leakage_of_names_that_base_always_says(tmp_path):
    label, always = "forget: image → name", rows(1)
    units = {"base": always, "gold": rows(0, 0, 0, 0, 0, 0.1), "npo": rows(0.5, 0.4, 0.6, 0.5, 0.4, 0.6), "KL": always}
    units = {name: [Number("t", label, "ROUGE", own)] for name, own in units.items()}
    models = summarise(write(tmp_path, {"matrix": units}))["tests"]["matrix"][0]["models"]
    assert models["npo"]["leakage"]["value"] == pytest.approx((3 - 0.1) / (6 - 0.1))
    assert models["npo"]["leakage"]["interval"] is not None and models["KL"]["leakage"]["value"] == 1


def test_no_leakage_where_base_and_gold_cannot_be_told_apart(tmp_path):
    label, rng = "forget: image → name", np.random.default_rng(0)
    units = {name: [Number("t", label, "p", rows(*rng.uniform(0.2, 0.8, 6)))] for name in MODELS}
    npo = summarise(write(tmp_path, {"matrix": units}))["tests"]["matrix"][0]["models"]["npo"]
    assert npo["leakage"] == {"value": None, "interval": None}


def test_the_worst_prompt_is_of_the_row_and_pictures_are_no_prompts(tmp_path):
    def numbers(plain, insist, grey):
        return [Number("t", label, "name", own) for label, own in
                (("plain", plain), ("insist", insist), ("grey", grey))]  # fmt: skip

    units = {name: numbers(rows(0), rows(0), rows(1)) for name in MODELS}
    units["npo"] = numbers(rows(1, 0, 0), rows(0, 1, 0), rows(1))
    entries = summarise(write(tmp_path, {"variants": units}))["tests"]["variants"]
    worst = find(entries, "t", "worst prompt", "name")
    assert worst is not None
    assert worst["models"]["npo"]["mean"] == pytest.approx(2 / 3) and worst["models"]["gold"]["mean"] == 0


def test_curves_by_hand(tmp_path):
    def curve(*heights):
        return [
            Number("t", f"retain, step {step}", "p", rows(own)) for step, own in zip((0, 1, 3), heights, strict=True)
        ]

    units = {"base": curve(0.8, 0.8, 0.8), "gold": curve(0.1, 0.1, 0.1), "npo": curve(0.1, 0.5, 0.75),
             "KL": curve(0.1, 0.3, 0.2)}  # fmt: skip
    summary = summarise(write(tmp_path, {"relearning": units}))
    area = find(summary["tests"]["relearning"], "t", "retain, area", "p")
    assert area is not None and area["models"]["npo"]["mean"] == pytest.approx((0.3 + 0.625) / 2)
    assert summary["curves"]["retain"]["npo"] == {
        "first_step": 3,
        "peak": {"step": 3, "difference": pytest.approx(0.65)},
    }
    assert summary["curves"]["retain"]["KL"]["first_step"] is None
    assert summary["curves"]["retain"]["KL"]["peak"]["step"] == 1


def test_depth_leaves_the_last_block_out(tmp_path):
    def drops(*layers):
        return [Number("t", f"layer {layer}", "drop", rows(own)) for layer, own in enumerate(layers)]

    units = {"base": drops(0, 0, 0, 0, 0), "gold": drops(0.02, 0.5, 1, 2, 9), "npo": drops(0.5, 0.25, 1.5, -1, 9),
             "KL": drops(0, 0, 0, 0, 9)}  # fmt: skip
    summary = summarise(write(tmp_path, {"depth": units}))
    models = summary["tests"]["depth"][0]["models"]
    assert [models[name]["mean"] for name in MODELS] == pytest.approx([0, 1, 0.357143, 0], abs=1e-6)
    assert models["npo"]["interval"] == pytest.approx([0.357143] * 2, abs=1e-6)
    assert models["npo"]["difference"] == pytest.approx([0.357143 - 1] * 3, abs=1e-6)
    assert summary["profile"]["npo"] == pytest.approx([0.5, 0.25, 1.5, -1, 9])


def test_models_of_other_rows_are_refused(tmp_path):
    folder = leakage_run(tmp_path)
    file = folder / "npo" / "matrix.json"
    unit = json.loads(file.read_text())
    unit["numbers"][0]["rows"]["99"] = unit["numbers"][0]["rows"].pop("3")
    file.write_text(json.dumps(unit))
    with pytest.raises(
        ValueError, match="matrix: npo and gold were asked about other rows of eval_forget_facerec .3, 99"
    ):
        summarise(folder)


@pytest.mark.parametrize(("text", "said"), [
    ("{", "not valid JSON"), ('{"schema_version": 0}', "no result of a stress test of this version"),
])  # fmt: skip
def test_a_damaged_unit_is_named(tmp_path, text, said):
    file = leakage_run(tmp_path) / "gold" / "matrix.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"gold/matrix.json.*{said}.*stress test again"):
        summarise(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="gold/matrix.json: no such file"):
        summarise(tmp_path)


def test_units_come_back_as_they_were(tmp_path):
    write_unit(tmp_path / "a.json", "k", [Number("t", "plain", "p", {"0": 0.25})], {"t": {"0": None}}, 1.5)
    unit = read_unit(tmp_path / "a.json")
    assert unit.numbers["t", "plain", "p"].rows == {"0": 0.25} and unit.people == {"t": {"0": None}}
    assert unit.seconds == 1.5


def test_the_page_the_table_and_the_pictures(tmp_path):
    rng = np.random.default_rng(1)

    def units(task, kinds, labels, models=MODELS):
        return {name: [Number(task, label, kind, rows(*rng.uniform(0.1, 0.9, 6))) for label in labels for kind in kinds]
                for name in models}  # fmt: skip

    folder = write(tmp_path, {
        "variants": units("eval_forget_facerec", ("p", "name"), ("plain", "insist", "grey")),
        "leak": units("eval_forget_facerec", ("name",), ("greedy", "k=1", "k=4")),
        "matrix": units("eval_x", ("p", "ROUGE"), ("forget: image → name", "retain: image → name")),
        "quantisation": units("eval_log_forget", ("p",), ("plain", "rtn8", "rtn4")),
        "relearning": units("eval_log_forget", ("p",), ("few, step 0", "few, step 2")),
        "depth": units("eval_log_forget", ("drop",), ("layer 0", "layer 1", "layer 2")),
        "probe": units("eval_forget_facerec", ("named",), ("layer 0", "layer 1")),
    })  # fmt: skip
    table = write_stress(folder)
    head, _, *lines = table.split("\n\n")[0].split("\n")
    assert head == "| test | what | base | gold | npo | KL |"
    for said in (
        "worst prompt",
        "k=4",
        "rtn4",
        "few: p of log_forget, area",
        "like gold inside",
        "told from the states",
    ):
        assert sum(said in line for line in lines) == (2 if said == "worst prompt" else 1), said
    page = (folder / "stress.html").read_text()
    names = ("variants", "leak", "matrix", "collateral", "relearning", "depth")
    assert page.count("data:image/png;base64,") == len(names) and "models/npo (both)" in page
    for name in names:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "stress_summary.json").read_text())["seconds"]["leak"]["npo"] == 2.0
    assert "Seconds per model, on average: variants 2" in (folder / "stress.md").read_text()


def test_a_cell_marks_what_is_not_golds():
    numbers = {"mean": 0.314, "interval": [0.22, 0.42], "difference": [0.2, 0.1, 0.3]}
    assert cell(numbers) == ".31 [.22, .42]*"
    assert cell({**numbers, "difference": [0.2, -0.1, 0.3], "interval": None}) == ".31"
    assert cell({"mean": None}) == cell(None) == "—"
    assert [short(value) for value in (0, 1, -0.5, 0.055)] == [".00", "1.00", "-.50", ".06"]
