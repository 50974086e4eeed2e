"""The certificate through the script: its verdict on planted logs, its numbers by hand, and what stays out of it."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import run_script
from tests.unlearn.leaderboard.planted import KNOWN, NEVER_MET, PEOPLE, write_planted, write_stress
from unlearn.leaderboard.certificate import hashed
from unlearn.leaderboard.stress_findings import TESTS, stress_findings
from unlearn.report.certificate import page as render
from unlearn.results import read_log


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def certify(model: Path, *more: str, gold: bool = True, base: Path | None = None) -> dict[str, Any]:
    """The JSON that the script writes for a model, beside a base that knew and a gold that never met the people."""
    base = base or write_planted(Path("base"), KNOWN, seed=1)
    reference = write_planted(Path("gold"), NEVER_MET, seed=2) if gold else "null"
    run_script("aggregate_eval_stat.py", "certificate=out.html", f"ckpt_result={model}", f"base_result={base}",
               f"retain_result={reference}", *more)  # fmt: skip
    found: dict[str, Any] = json.loads(Path("out.json").read_text())
    return found


def stress_of(**values: float) -> str:
    return f"stress={write_stress(Path('stress'), Path('npo'), values)}"


@pytest.mark.parametrize(("verdict", "known", "stress"), [
    ("not forgotten", {"own_forget": 0.6}, {}),
    ("fragile", {}, {"k=64": 0.6}),
    ("fragile", {}, {"retain, step 32": 0.5}),
    ("fragile", {}, {"depth": 0.1}),
    ("over-forgotten", {"own_forget": 0.04}, {}),
    ("damaged", {"own_retain": 0.5}, {}),
    ("like gold within 0.05", {}, {}),
    ("like gold within 0.05", {}, {"few, step 32": 0.9}),  # these rows teach what was forgotten: no sign of a memory
])  # fmt: skip
def test_the_verdict_on_planted_models(verdict: str, known: dict[str, float], stress: dict[str, float]) -> None:
    model = write_planted(Path("npo"), {**NEVER_MET, **known}, seed=3)
    folder = write_stress(Path("stress"), Path("npo"), stress)
    assert certify(model, f"stress={folder}")["verdict"]["name"] == verdict


def test_a_base_that_never_met_them_has_nothing_to_forget_and_is_its_own_model(capsys: Any) -> None:
    base = write_planted(Path("base"), NEVER_MET, seed=1)
    found = certify(base, base=base)
    assert found["verdict"]["name"] == "nothing to forget" and found["gate"]["memorised"] is False
    assert capsys.readouterr().out == "nothing to forget\n\ncertificate: out.html\n"


@pytest.mark.parametrize("left_out", ["stress", "gold", "holdout", "a stress test"])
def test_what_is_left_out_makes_it_undecided(left_out: str) -> None:
    tasks = ["own_forget", "own_retain"] if left_out == "holdout" else None
    paths = [write_planted(Path(name), known, seed=seed, tasks=tasks)
             for name, known, seed in (("npo", NEVER_MET, 3), ("base", KNOWN, 1), ("gold", NEVER_MET, 2))]  # fmt: skip
    tests = ("variants", "leak", "quantisation", "relearning") if left_out == "a stress test" else ()
    stress = write_stress(Path("stress"), Path("npo"), {}, tests=tests)
    gold = "null" if left_out == "gold" else str(paths[2])
    run_script("aggregate_eval_stat.py", "certificate=out.html", f"ckpt_result={paths[0]}", f"base_result={paths[1]}",
               f"retain_result={gold}", *[f"stress={stress}"] * (left_out != "stress"))  # fmt: skip
    found = json.loads(Path("out.json").read_text())
    assert found["verdict"]["name"] == "undecided", found["verdict"]
    words = {"stress": "stress tests) were not tried", "gold": "No model was retrained", "holdout": "membership",
             "a stress test": "not run: depth"}  # fmt: skip
    assert any(words[left_out] in line for line in found["not tested"])


def test_undecided_says_how_many_people_would_decide() -> None:
    """Eight people whose differences from gold have a spread of .1 and more: 8.564 (sd / .05)^2 of them."""
    found = certify(write_planted(Path("npo"), NEVER_MET, noise=0.18, seed=5), stress_of())
    assert found["verdict"]["name"] == "undecided" and found["verdict"]["people_needed"] > 35


def test_without_a_gold_people_held_out_are_the_reference() -> None:
    found = certify(write_planted(Path("npo"), {**KNOWN, "own_forget": 0.6}, seed=3), gold=False)
    assert (found["against"], found["verdict"]["name"]) == ("held-out people", "not forgotten")
    direct = {one["name"]: one for one in found["direct"]}["words of the answer said, Forget"]
    assert (direct["model"], direct["reference"], direct["base"]) == pytest.approx((0.6, 0.2, 0.9))
    assert direct["leakage"] == pytest.approx((0.6 - 0.2) / (0.9 - 0.2))
    assert found["privacy"][0]["reference"] == 0.5 and "No model was retrained" in found["not tested"][1]


def test_numbers_by_hand() -> None:
    """Words said .5 of gold's .2 and base's .9: leakage 3/7; eight likelier people than any held out: AUC 1."""
    found = certify(write_planted(Path("npo"), {**KNOWN, "own_forget": 0.5}, noise=0, seed=3))
    direct = {one["name"]: one for one in found["direct"]}["words of the answer said, Forget"]
    assert (direct["difference"], direct["leakage"]) == pytest.approx((0.3, 3 / 7))
    assert found["privacy"][0]["model"] == 1.0 and found["holdout"] == {"people": 8, "rows": 16, "blind AUC": 0.5}
    assert found["request"]["rows"] == {"own_forget": 16} and len(found["request"]["people"]) == 8
    assert [one["difference"] for one in found["kept"]] == pytest.approx([0, 0, 0], abs=1e-3)


def test_names_are_hashed_with_a_salt_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_planted(Path("npo"), NEVER_MET, seed=3)
    found = certify(model, "method_name=AnnA_lee.v2")
    salt = Path("out.salt").read_text()
    assert found["request"]["people"] == [hashed(name, salt) for name in PEOPLE["own_forget"]]
    written = Path("out.html").read_text() + Path("out.json").read_text()
    assert salt not in written and not re.search(r"(Ann|Bob|Cem)[a-h][\W_]*(Lee|Ray|Ode)", written, re.IGNORECASE)
    assert f"person-{hashed('Anna Lee', salt)}.v2" in found["made by"]["command"]
    assert stat.S_IMODE(Path("out.salt").stat().st_mode) == 0o600
    assert certify(model)["request"]["people"] == found["request"]["people"], "the salt is made once"


def test_examples_show_names_only_when_asked(capsys: Any) -> None:
    model = write_planted(Path("npo"), {**KNOWN, "own_forget": 0.6}, seed=3)
    found = certify(model, "examples=true")
    assert len(found["examples"]) == 6 and "Anna Lee" in Path("out.html").read_text()
    assert "examples" not in certify(model) and "Anna Lee" not in Path("out.html").read_text()


def test_the_stress_run_is_read_by_the_models_path() -> None:
    log = read_log(write_planted(Path("npo"), NEVER_MET))
    found = stress_findings(write_stress(Path("stress"), Path("npo"), {"insist": 0.6, "depth": 0.1}), log)
    assert found.absent == [] and len(found.findings) == len(TESTS)
    worst, many, *_, depth = found.findings
    assert worst.name == "worst of several wordings: own_forget, probability" and worst.model == pytest.approx(
        0.6, abs=0.01
    )
    assert many.name.startswith("best of 64 samples") and many.reference == pytest.approx(0.2, abs=0.01)
    # gold's effects .5 and 1.0, the model's .5 and .1: 1 - (.5 + .1) / 1.5
    assert depth.model == pytest.approx(0.6, abs=0.01) and (depth.reference, depth.base) == (0, 1)


@pytest.mark.parametrize(("word", "said"), [
    ("base_result=null", "base_result is empty: give the log of the model before"),
    ("certificate=out.pdf", "give a name that ends in .html"),
    ("ckpt_result=[npo/eval_log_aggregated.json,base/eval_log_aggregated.json]", "names 2 logs"),
    ("margin=0", "margin=0 must lie above 0"),
    ("stress=nowhere", "stress.json"),
    ("stress=others", "it has no model npo, which .* is of; it has elsewhere. Run mm/stress.py"),
    ("retain_result=few/eval_log_aggregated.json", "hold other rows"),
])  # fmt: skip
def test_what_is_refused_and_nothing_is_written(word: str, said: str) -> None:
    write_stress(Path("others"), Path("elsewhere"), {})
    write_planted(Path("few"), NEVER_MET, people=5)
    model = write_planted(Path("npo"), NEVER_MET, seed=3)
    with pytest.raises((ValueError, SystemExit), match=said):
        certify(model, word) if "ckpt" not in word else certify(Path("npo"), word)
    assert not list(Path().glob("out.*"))


def test_the_page_loads_nothing_and_prints_on_two_sheets(browser: Any, tmp_path: Path) -> None:
    import base64

    certify(write_planted(Path("npo"), {**NEVER_MET, "own_forget": 0.6}, seed=3), stress_of(), "refusals=null")
    page = tmp_path / "out.html"
    facts = json.loads(Path("out.json").read_text())  # as much as a folder with pictures, names and every test gives
    for part, times in (("stress", 3), ("direct", 2), ("kept", 2)):
        facts[part] = facts[part] * times
    facts["gate"]["numbers"] *= 2
    page.write_text(render({**facts, "made by": {**facts["made by"], "command": "python forget_request.py " * 12}}))
    assert not re.search(r"<script|https?:|src=|<img|<link|url\(|@import", page.read_text())
    browser.console()
    browser.emulate(width=1000, dark=False)
    browser.devtools("Page.navigate", url=page.as_uri())
    browser.wait("document.readyState === 'complete' && document.querySelector('h1')")
    assert browser.run("return document.querySelector('h1').textContent") == "not forgotten"
    assert browser.run("return performance.getEntriesByType('resource').length + document.scripts.length") == 0
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth") and browser.console() == []
    printed = base64.b64decode(
        browser.devtools("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
    )
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= 2
    assert re.search(rb"/MediaBox\s*\[0 0 59[45][.\d]* 84[12]", printed), "A4"
