"""The original model writes: what it is asked, what is drawn again, how ranks share, and what a resumed run reads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny_llava, tiny_qwen2vl
from tests.sources import ListSource
from unlearn.data.collator import Collator
from unlearn.data.views import ForgetRetainDataset
from unlearn.evaluation.corruption import Corruption, Disturbed
from unlearn.evaluation.generation import generate_greedy, stop_token_ids
from unlearn.evaluation.prefix import read_prefix
from unlearn.method import View
from unlearn.training import answers
from unlearn.training.answers import Task, Writer


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model hardly ever ends an answer."""
    real = answers.recipe_of
    monkeypatch.setattr(answers, "recipe_of", lambda view: (r := real(view)) and r.__class__(
        **{**vars(r), "max_new_tokens": 6, "questions": r.questions[:2]}
    ))  # fmt: skip


def writer(view: View, tiny: Any = tiny_llava, batch_size: int = 4) -> Writer:
    model, processor = tiny()
    data = ForgetRetainDataset((View("forget"), view), forget=ListSource(3, 3, "f"), retain=None, seed=3)
    return Writer(model, Collator(processor), data, view.name, 5, batch_size)


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
def test_alternates_are_drawn_answers_to_a_prompt_that_shows_question_and_truth(tiny: Any) -> None:
    made = writer(View("alternate", written=3), tiny)
    found = made.write()
    assert [len(own) for own in found] == [3] * 6 and len({answer.text for own in found for answer in own}) > 12
    assert found == writer(View("alternate", written=3), tiny, batch_size=1).write()  # whatever shares a batch
    own, asked = made.dataset.sample("forget", 4), made._asked(Task(4))["question"]
    assert own["question"] in asked and str(own["answer"]) in asked and "different facts" in asked


def test_a_corrupted_answer_is_the_likeliest_after_the_disturbed_prompt() -> None:
    made = writer(View("corrupted"))
    model, processor = tiny_llava()
    collator = Collator(processor)
    for row in (0, 4):
        prompt = collator.encode_prompt(made.dataset.sample("forget", row))
        inputs = collator.pad([(prompt, ())])["inputs"]
        texts = []
        for disturbed in (Disturbed([prompt], [True], Corruption()), None):
            prefix = read_prefix(model, inputs, disturbed)
            stop = stop_token_ids(model, collator)
            (tokens,) = generate_greedy(model, prefix, max_new_tokens=6, stop_ids=stop)
            texts.append(collator.tokenizer.decode(tokens, skip_special_tokens=True).strip())
        assert made.write()[row][0].text == texts[0] != texts[1]


def test_anchors_are_asked_about_pictures_only() -> None:
    found = writer(View("anchor")).write()
    assert [len(own) for own in found] == [2, 2, 2, 0, 0, 0]
    assert len({answer.question for own in found for answer in own}) == 2


def test_a_question_that_brings_the_true_answer_only_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row has its others; a row that has none is an error."""
    made = writer(View("anchor"))
    question = made.recipe.questions[0]
    truth = str(made.dataset.sample("forget", 1)["answer"])

    def drawn(tasks: Any, again: int) -> list[list[str]]:
        return [[truth if task.row == 1 and task.question in spoilt else "Red."] for task in tasks]

    monkeypatch.setattr(made, "_drawn", drawn)
    spoilt = [question]
    assert [[answer.question for answer in own] for own in made.write()[:3]] == [
        [*made.recipe.questions], [*made.recipe.questions[1:]], [*made.recipe.questions],
    ]  # fmt: skip
    spoilt = [*made.recipe.questions]
    with pytest.raises(ValueError, match="anchor of forget row f/1 is the true one"):
        made.write()


def test_the_true_answer_is_drawn_again_five_times_and_then_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = writer(View("alternate", written=2))
    truths = [str(made.dataset.sample("forget", row)["answer"]) for row in range(6)]
    tries: list[int] = []

    def drawn(tasks: Any, again: int) -> list[list[str]]:
        tries.append(again)
        good = ["Another.", ""] if again < stubborn else ["One more.", "And more."]
        return [good if task.row != 1 or again >= stubborn else [f" {truths[1].upper()}", ""] for task in tasks]

    monkeypatch.setattr(made, "_drawn", drawn)
    stubborn = 5
    found = made.write()
    assert [answer.text for answer in found[1]] == ["One more.", "And more."] and max(tries) == 5
    assert [answer.text for answer in found[0]] == ["Another.", "Another."]
    stubborn = 6
    with pytest.raises(ValueError, match=r"alternate of forget row f/1 is the true one .* or empty, 5 times again"):
        made.write()


def test_processes_share_the_rows_and_gather_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = writer(View("alternate", written=2), batch_size=2).write()
    parts: list[list[Any]] = []
    monkeypatch.setattr(answers, "world_size", lambda: 2)
    monkeypatch.setattr("accelerate.utils.gather_object", lambda part: parts.append(part) or sum(parts, []))
    for rank in (0, 1):
        monkeypatch.setattr(answers, "process_state", lambda rank=rank: type("State", (), {"process_index": rank}))
        made = writer(View("alternate", written=2), batch_size=2)
        if rank == 0:
            with pytest.raises(KeyError):  # rank 1's share is not there yet
                made.write()
        else:
            assert made.write() == alone
    assert [len(part) for part in parts] == [4, 2]


def test_a_resumed_run_reads_what_was_written_and_ends_at_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from mm import track
    from unlearn import pipeline

    def forget(name: str) -> Path:
        values = {
            "model_path": "minibench/weights/llava-mini", "save_dir": str(tmp_path / name), "batch_size": 2,
            "forget_loss": "altpo", "method_args": {"altpo": {"K": 2, "retain_weight": 0.0}}, "warmup_epochs": 0,
            "forget_split": "forget01", "retain_split": None, "max_steps": 3, "save_steps": 1,
        }  # fmt: skip
        return track.forget(track.settings("forget", values))

    whole = forget("whole")
    train = pipeline.train

    def dies(*args: Any, **more: Any) -> Any:
        train(*args, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "train", dies)
        with pytest.raises(KeyboardInterrupt):
            forget("cut")
    kept = (tmp_path / "cut" / "answers_alternate.jsonl").read_bytes()
    assert kept == (whole / "answers_alternate.jsonl").read_bytes()
    head, *lines = map(json.loads, kept.decode().split("\n")[:-1])
    rows = {line["row"] for line in lines}
    assert len(lines) == 2 * len(rows) and {"model", "data", "seed", "prompt"} <= head["recipe"].keys()
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", lambda self: pytest.fail("they are there already"))
        again = forget("cut")
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert json.loads((again / "run.json").read_text())["status"] == "finished"
