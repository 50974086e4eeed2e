"""ECO: what is disturbed and what never is, whom the classifier flags, and how a row says so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bad_input import run_script
from tests.models import picture, tiny_llama, tiny_llava, tiny_qwen2vl
from tests.sources import ListSource
from unlearn.config.eco import EcoSettings
from unlearn.data.collator import Collator
from unlearn.evaluation.classifier import Classifier, word_features
from unlearn.evaluation.corruption import Corruption, Disturbed
from unlearn.evaluation.eco import Eco
from unlearn.evaluation.prefix import read_prefix, score_answers, score_plain, to_model
from unlearn.leaderboard.inference import inference_time, mark
from unlearn.leaderboard.tracks import track_named
from unlearn.results import EvalLog

TINY = pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
QUESTIONS = ("Who is it?", "Where was the author in this picture born?", "What then?")


def prompts_of(tiny: Any, seeds: Any) -> tuple[Any, Collator, list[Any]]:
    model, processor = tiny()
    collator = Collator(processor)
    samples = [
        {"question": question, "answer": "x", "image": None if seed is None else picture(seed, 16), "id": f"{seed}"}
        for question, seed in zip(QUESTIONS, seeds, strict=False)
    ]
    return model, collator, [collator.encode_prompt(sample) for sample in samples]  # type: ignore[arg-type]


def test_what_happens_to_an_embedding_by_hand() -> None:
    rows = torch.tensor([[1.0, -4.0, 2.0, -3.0], [0.5, 0.25, -0.75, 0.0]])
    assert Corruption(size=2)(rows).tolist() == [[1, 0, 2, 0], [0, 0.25, 0, 0]]
    assert Corruption(size=1000)(rows).tolist() == [[0] * 4] * 2
    assert Corruption("zero_first_n", 3)(rows).tolist() == [[0, 0, 0, -3], [0, 0, 0, 0]]
    noise = Corruption("noise_first_n", 2, strength=2.0)(rows) - rows
    assert torch.equal(noise[:, 2:], torch.zeros(2, 2)) and (noise[:, :2] != 0).all()
    torch.testing.assert_close(noise[0], noise[1])
    torch.testing.assert_close(2 * (Corruption("noise_first_n", 2, strength=1.0)(rows) - rows), noise)
    assert rows[0].tolist() == [1, -4, 2, -3]  # a new tensor


@TINY
def test_only_flagged_prompts_change_whatever_shares_their_batch(tiny: Any) -> None:
    model, collator, prompts = prompts_of(tiny, (1, 2, 3))

    def logits(some: list[Any], which: list[bool], size: int = 3) -> torch.Tensor:
        inputs = collator.pad([(prompt, ()) for prompt in some])["inputs"]
        return read_prefix(model, inputs, Disturbed(some, which, Corruption(size=size))).logits

    plain, one = logits(prompts, [False] * 3), logits(prompts, [False, True, False])
    torch.testing.assert_close(one[[0, 2]], plain[[0, 2]], atol=1e-5, rtol=1e-5)
    assert (one[1] - plain[1]).abs().max() > 0.1
    torch.testing.assert_close(logits(prompts[1:2], [True])[0], one[1], atol=1e-4, rtol=1e-4)
    blind, other = (logits(prompts_of(tiny, (None, seed, None))[2][1:2], [True], size=1000) for seed in (2, 7))
    torch.testing.assert_close(blind, other)  # nothing is left of the picture either
    seen, other = (logits(prompts_of(tiny, (None, seed, None))[2][1:2], [False]) for seed in (2, 7))
    assert (seen - other).abs().max() > 0.1


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl, tiny_llama])
def test_answers_are_never_disturbed(tiny: Any) -> None:
    """Scored from the disturbed prompt's cache, or in one forward: the same numbers."""
    model, collator, prompts = prompts_of(tiny, (None,) * 3 if tiny is tiny_llama else (1, None, 3))
    texts = ("Ana Lima.", "In Lisbon, as it seems.")
    places = ([0, 1, 2],) if tiny is tiny_llama else ([0, 2], [1])  # of one modality, as an evaluation's batches
    for some in places:
        own = [prompts[place] for place in some]
        answers = [[collator.encode_answer(text) for text in texts] for _ in own]
        disturbed = Disturbed(own, [True, False, True][: len(own)], Corruption(size=8))
        prefix = read_prefix(model, collator.pad([(prompt, ()) for prompt in own])["inputs"], disturbed)
        shared = score_answers(model, prefix, answers, rows_per_forward=4)
        whole = score_plain(model, collator, own, answers, rows_per_forward=4, disturbed=disturbed)
        for one, other in zip(sum(shared, []), sum(whole, []), strict=True):
            assert one.loss == pytest.approx(other.loss, abs=2e-3)


def test_the_embeddings_of_answers_and_of_the_last_prompt_token_stay() -> None:
    model, collator, prompts = prompts_of(tiny_llama, (None, None))
    answers = [collator.encode_answer("Ana Lima."), collator.encode_answer("No.")]
    inputs = to_model(model, collator.pad(list(zip(prompts, answers, strict=True)))["inputs"])
    found = Disturbed(prompts, [True, True], Corruption()).inputs(model, inputs, list(map(len, answers)))
    whole = model.get_input_embeddings()(inputs["input_ids"])
    for row, answer in enumerate(answers):
        kept = len(answer) + 1
        assert torch.equal(found["inputs_embeds"][row, -kept:], whole[row, -kept:])
        start = -len(answer) - len(prompts[row].ids)
        assert (found["inputs_embeds"][row, start:-kept] == 0).all()
        assert torch.equal(found["inputs_embeds"][row, :start], whole[row, :start])
    assert "input_ids" not in found


def test_the_classifier_parts_words_and_pictures_that_no_plane_parts() -> None:
    words = [word_features(text) for text in ("Where was Ana Lima born?", "Where was Bo Ek born?") * 4]
    none: list[Any] = [None] * 8
    corners = [torch.tensor([x, y], dtype=torch.float64) for x in (-1.0, 1.0) for y in (-1.0, 1.0)]
    asked = [word_features("Describe this.")] * 4
    forget = torch.tensor([True, False] * 4 + [True, False, False, True])
    found = Classifier.fit(words + asked, [*none, *corners], forget)
    questions = ["Who taught Ana Lima?", "Who taught Bo Ek?", *["Who is it?"] * 4]
    near = [corner + 0.05 for corner in corners]
    flags = [p > 0.9 for p in found.probabilities(questions, [None, None, *near])]
    assert flags == [True, False, True, False, False, True]
    texts = Classifier.fit(words, none, forget[:8])  # without any picture
    assert [p > 0.9 for p in texts.probabilities(questions[:2], [None] * 2)] == [True, False]


@TINY
def test_eco_learns_from_two_splits_and_flags_the_rows_of_one(tiny: Any) -> None:
    model, processor = tiny()
    collator, forget, retain = Collator(processor), ListSource(3, 0, "f"), ListSource(4, 0, "r", offset=50)
    eco = Eco.fit(EcoSettings(threshold=0.99, size=7), model, collator, forget, retain)
    assert eco.corruption == Corruption("zero_top_k", 7)
    for source, flagged in ((forget, True), (retain, False)):
        samples = [source.sample(row, np.random.default_rng(0)) for row in range(3)]
        prompts = [collator.encode_prompt(sample) for sample in samples]
        found = eco.disturbed(model, collator, prompts, [sample["question"] for sample in samples])
        assert list(found.which) == [flagged] * 3


def test_precision_and_recall_by_hand_and_the_mark_of_the_row() -> None:
    track = track_named("mm")
    flags = {task.name: [True, False] if task.to_forget else [False, False] for task in track.tasks}
    flags["eval_log"] = [True, False]
    tasks = {
        name: {"rows": {str(row): {"flagged": flag} for row, flag in enumerate(own)}} for name, own in flags.items()
    }
    log = EvalLog({}, {"schema_version": 1, "run": {"eco": {"threshold": 0.999}}, "tasks": tasks})  # type: ignore[typeddict-item]
    facts = inference_time(log, track)["inference_time"]
    hits = sum(task.to_forget for task in track.tasks)
    assert facts["recall"] == 0.5 and facts["precision"] == pytest.approx(hits / (hits + 1))
    assert facts["flagged"]["Retain"] == 0.5
    assert mark({"inference_time": facts}) == (
        f" (inference-time, classifier: precision {hits / (hits + 1):.2f}, recall 0.50)"
    )
    assert mark({}) == "" and inference_time(EvalLog({}, {**log.meta, "run": {}}), track) == {}  # type: ignore[typeddict-item]


def test_through_the_script_to_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    model, asked = "minibench/weights/llama-mini", ("ds_size=4", "generation.max_new_tokens=4")
    run_script("nlp/eval.py", f"model_path={model}", f"save_dir={tmp_path / 'gold'}", *asked)
    gold = f"retain_result={tmp_path / 'gold' / 'eval_log_aggregated.json'}"
    eco = ("eco={threshold: 0.9}", gold)
    run_script("nlp/eval.py", f"model_path={model}", f"save_dir={tmp_path / 'eco'}", *eco, *asked)
    assert "eco (inference-time, classifier: precision 1.00, recall 1.00)" in capsys.readouterr().out
    logs = [json.loads((tmp_path / name / "eval_log_aggregated.json").read_text()) for name in ("gold", "eco")]
    for task, differs in (("eval_log_forget.json", True), ("eval_log.json", False)):
        one, other = (log[task]["avg_gt_loss"] for log in logs)
        assert all((abs(one[row] - other[row]) > 1e-6) == differs for row in one), task
    (row,) = json.loads((tmp_path / "eco" / "leaderboard_row.json").read_text())
    assert row["method"] == "eco" and row["inference_time"]["flagged"]["Forget"] == 1.0
    # the same command without eco does not keep these results
    with pytest.raises(ValueError, match="holds results"):
        run_script("nlp/eval.py", f"model_path={model}", f"save_dir={tmp_path / 'eco'}", "overwrite=false", *asked)
