"""Four protocols on one checkpoint: what is asked, how it is counted, and the script from end to end."""

import json
import random
from pathlib import Path

import pytest

from mm.protocol_rows import WHO, Clear
from mm.protocol_scores import by_name, by_option, by_published_letter, by_published_name, protocol_numbers
from tests.bad_input import BASE, run_script
from unlearn.results import TaskLog


@pytest.fixture(scope="module")
def asked() -> dict:
    return Clear("data/clear-mini", "forget10", rows=6).questions()


def test_the_right_name_stands_where_one_generator_puts_it(asked: dict) -> None:
    drawn = random.Random(42)
    for row in asked["vqa"]["vqa_forget_published"]:
        place = drawn.randint(0, 5)
        lines = row.question.splitlines()
        assert lines[0] == WHO and lines[1 + place] == f"{'ABCDEF'[place]}. {row.person}" == row.answer
    places = [row.answer[0] for row in asked["vqa"]["vqa_forget_corrected"]]
    assert places == [row.answer[0] for row in Clear("data/clear-mini", "forget10", rows=9).questions()
                      ["vqa"]["vqa_forget_corrected"]][:6]  # of the row alone, not of those before it  # fmt: skip


def test_published_captions_end_with_the_right_one_and_ours_do_not_always(asked: dict) -> None:
    assert {row.answer[0] for row in asked["mip"]["mip_forget_published"]} == {"F"}
    assert len({row.answer[0] for row in asked["mip"]["mip_forget_corrected"]}) > 1
    row = asked["mip"]["mip_forget_published"][0]
    assert row.question.startswith("Answer with ONE LETTER direclty. Options: A. ") and row.side == 224


def test_options_are_distinct_where_we_ask(asked: dict) -> None:
    for part in ("forget", "retain", "faces", "world"):
        for row in asked["vqa"][f"vqa_{part}_corrected"]:
            options = [line[3:] for line in row.question.splitlines()[1:]]
            assert len(set(options)) == len(options)


def test_rules_by_hand() -> None:
    question = "Who?\nA. Ann Lee\nB. Bo Sand\n"
    texts = [("The answer is B.", "B. Bo Sand"), ("A person named Bo Sand", "B. Bo Sand"), ("", "A. Ann Lee"),
             ("B", "B. Bo Sand")]  # fmt: skip
    assert by_published_letter(texts, [question] * 4) == 0.25  # T, A and nothing are not B
    assert by_option(texts, [question] * 4) == 0.75
    names = [("Hina Ameenah", "Hina Ameen"), ("It is Jose Diaz.", "José Díaz")]
    assert by_published_name(names, ["", ""]) == 0.5 and by_name(names, ["", ""]) == 0.5


def log(*texts: tuple[str, str]) -> TaskLog:
    rows = {str(place): ["", text, reference] for place, (text, reference) in enumerate(texts)}
    return {"generated_text": rows}  # type: ignore[typeddict-item]


def test_numbers_side_by_side() -> None:
    options = "Q\nA. Ann Lee\nB. Bo Sand\n"
    right, wrong = ("A. Ann Lee", "A. Ann Lee"), ("B", "A. Ann Lee")
    logs = {f"{group}_{part}_{form}": log(right, wrong) for form in ("published", "corrected")
            for group, parts in (("vqa", ("forget", "retain", "faces", "world")), ("mip", ("forget", "retain")))
            for part in parts}  # fmt: skip
    logs |= {"kvw_forget": log(("Ann Leeds", "Ann Lee")), "kvw_retain": log(("Ann Lee", "Ann Lee"))}
    logs |= {
        f"{group}_forget_{kind}": log(("a b c", "a b c")) for group in ("texts", "long") for kind in ("captions", "qa")
    }
    numbers = protocol_numbers(logs, {task: {"0": options, "1": options} for task in logs})
    assert numbers["vqa+qa"]["forget accuracy"] == {"as_published": 0.5, "corrected": 0.5}
    assert numbers["kvw"]["forget accuracy"] == {"as_published": 1.0, "corrected": 0.0}
    assert numbers["kvw"]["retain accuracy"] == {"as_published": None, "corrected": 1.0}
    assert numbers["vqa+qa"]["forget qa ROUGE-L F1"] == {"as_published": None, "corrected": 1.0}
    assert numbers["mip"]["forget qa ROUGE-L F1"] == {"as_published": 1.0, "corrected": 1.0}


@pytest.mark.slow
def test_the_script(tmp_path: Path) -> None:
    run_script("mm/protocols.py", f"model_path={BASE}", f"save_dir={tmp_path}/p", "ds_size=2")
    found = json.loads((tmp_path / "p" / "protocols.json").read_text())
    assert set(found["protocols"]) == {"clear", "vqa+qa", "mip", "kvw"}
    values = [value for own in found["protocols"].values() for both in own.values() for value in both.values()]
    assert all(value is None or 0 <= value <= 1 for value in values)
    assert (tmp_path / "p" / "protocols.png").stat().st_size > 10_000
    assert "kvw" in (tmp_path / "p" / "protocols.md").read_text()


def test_a_model_beside_it_was_asked_before(tmp_path: Path) -> None:
    with pytest.raises((ValueError, SystemExit), match=r"nowhere/protocols/protocols.json is not there"):
        run_script("mm/protocols.py", f"model_path={BASE}", "beside=[nowhere]", f"save_dir={tmp_path}/q")
