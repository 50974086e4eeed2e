"""The scores of the tokens of an answer: by hand, by the definition, by both forms, and through the evaluation."""

import json
import math
from pathlib import Path

import pytest
import torch

from tests.engine import build, prefix_of
from tests.eval_suite import run, tasks
from tests.models import tiny_llama, tiny_llava, tiny_qwen2vl
from unlearn.evaluation.prefix import TokenScores, score_answers, score_tokens, score_tokens_plain
from unlearn.evaluation.scores import token_scores
from unlearn.results import read_log
from unlearn.token_log import read_tokens


def scores_of(logits: list[float], token: int) -> TokenScores:
    return token_scores(torch.tensor([logits]), [token])


def test_by_hand():
    one = scores_of([2.0, 0.0, -1.0, 0.5], 0)
    assert one.logps == pytest.approx([-0.342350], abs=1e-6) and one.hits == [True]
    assert one.means == pytest.approx([-0.878281], abs=1e-6)
    assert one.variances == pytest.approx([0.771868], abs=1e-6)
    sure = scores_of([1000.0, 0.0, 0.0, 0.0], 1)
    assert sure == TokenScores([-1000.0], [False], [0.0], [0.0])
    shut = scores_of([0.0, -math.inf, 0.0], 2)  # 0 ln 0 = 0
    assert shut.means == pytest.approx([-math.log(2)]) and shut.variances == pytest.approx([0.0], abs=1e-12)


def test_of_equal_logits_the_first_is_the_hit_and_the_spread_is_none():
    """Counting every maximum, a collapsed model would have everything by heart."""
    scores = token_scores(torch.zeros(3, 50), [0, 1, 49])
    assert scores.hits == [True, False, False]
    assert scores.means == pytest.approx([-math.log(50)] * 3) and scores.variances == pytest.approx([0] * 3, abs=1e-9)
    assert min(token_scores(1e-3 * torch.randn(200, 32), [0] * 200).variances) >= 0


def definition(model, prompt, answer: list[int]) -> TokenScores:
    """One unpadded row through the model, in fp64, by the formulas as they are written."""
    ids = torch.tensor([prompt.ids + answer])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **prompt.image_inputs}
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).long()
    with torch.no_grad():
        logits = model(**inputs).logits[0, len(prompt.ids) - 1 : -1].double()
    p = logits.softmax(-1)
    mean = (p * p.log()).sum(-1)
    variance = (p * p.log() ** 2).sum(-1) - mean**2
    logps = p.log()[torch.arange(len(answer)), answer]
    best = [row.index(max(row)) for row in logits.tolist()]
    hits = [token == first for token, first in zip(answer, best, strict=True)]
    return TokenScores(logps.tolist(), hits, mean.tolist(), variance.tolist())


def alike(ours: TokenScores, theirs: TokenScores, tolerance: float = 1e-4) -> None:
    assert ours.hits == theirs.hits
    for name in ("logps", "means", "variances"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=tolerance, rel=tolerance), name


@pytest.mark.parametrize(
    ("factory", "images"),
    [(tiny_llama, (False,) * 3), (tiny_llava, (True, False, True)), (tiny_qwen2vl, (False, True, True))],
)
def test_both_forms_and_every_fork_equal_the_definition(factory, images):
    model, collator, prompts, answers = build(factory, images)
    answers[0].append([collator.template.end_id])  # a single token comes from the prefix alone
    prefix = prefix_of(model, collator, prompts)
    truth = [[definition(model, prompt, ids) for ids in own] for prompt, own in zip(prompts, answers, strict=True)]
    forms = [score_tokens(model, prefix, answers, rows_per_forward=rows) for rows in (1, 4, 64)]
    forms.append(score_tokens_plain(model, collator, prompts, answers, rows_per_forward=3))
    losses = score_answers(model, prefix, answers, rows_per_forward=4)
    for form in forms:
        assert [len(own) for own in form] == [len(own) for own in answers]
        for own, expected, scored, ids in zip(form, truth, losses, answers, strict=True):
            for one, other, score, tokens in zip(own, expected, scored, ids, strict=True):
                assert len(one.logps) == len(one.hits) == len(one.means) == len(one.variances) == len(tokens)
                alike(one, other)
                assert -math.fsum(one.logps) == pytest.approx(score.loss, rel=1e-5, abs=1e-5)


def test_they_cost_no_further_forward_and_only_those_asked_for_have_them():
    model, collator, prompts, answers = build(tiny_llava, (True, True, False))
    prefix, calls = prefix_of(model, collator, prompts), []
    hook = model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        plain = score_answers(model, prefix, answers, rows_per_forward=64)
        exact = [own[:1] for own in answers]
        both = score_answers(model, prefix, answers, rows_per_forward=64, by_token=exact)
    finally:
        hook.remove()
    assert len(calls) == 2
    for own, other, ids in zip(plain, both, answers, strict=True):
        assert [score.loss for score in own] == [score.loss for score in other], "to the bit"
        assert [score.by_token is not None for score in other] == [answer == ids[0] for answer in ids]
        assert all(score.by_token is None for score in own)


NAMES = ("eval_log_forget", "eval_forget_facerec")


def tokens_in(folder: Path) -> dict:
    return {name: json.loads((folder / f"{name}.tokens.json").read_text()) for name in NAMES}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    run(folder, token_scores=True)
    return folder


def test_the_file_holds_the_exact_answers_of_the_log(reference):
    log = read_log(reference / "eval_log_aggregated.json")
    for name in NAMES:
        rows, task = read_tokens(log, name), log.tasks[name]
        assert list(rows) == list(task["gt_loss"])
        for row, tokens in rows.items():
            assert set(tokens) == {"logps", "hits", "means", "variances"}
            assert {len(values) for values in tokens.values()} == {task["num_token_gt"][row]}
            assert -math.fsum(tokens["logps"]) == pytest.approx(task["gt_loss"][row], rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_batch_size_changes_nothing(reference, tmp_path, batch_size):
    run(tmp_path, token_scores=True, batch_size=batch_size)
    same_tokens(tmp_path, reference)


def same_tokens(ours: Path, theirs: Path) -> None:
    for task, other in zip(tokens_in(ours).values(), tokens_in(theirs).values(), strict=True):
        assert list(task) == list(other)
        for row in task:
            alike(TokenScores(**task[row]), TokenScores(**other[row]))


def test_a_file_of_another_evaluation_is_refused(reference, tmp_path):
    run(tmp_path, token_scores=True)
    file = tmp_path / "eval_log_forget.tokens.json"
    whole = json.loads(file.read_text())

    def read(rows):
        file.write_text(json.dumps(rows))
        return read_tokens(read_log(tmp_path / "eval_log_aggregated.json"), "eval_log_forget")

    assert read(whole) == whole
    changed = {**whole, "10": {**whole["10"], "logps": [value - 0.1 for value in whole["10"]["logps"]]}}
    with pytest.raises(ValueError, match="rows 10: the tokens do not add up to the loss of the log"):
        read(changed)
    with pytest.raises(ValueError, match="other rows than the log of eval_log_forget.*token_scores=true"):
        read({row: tokens for row, tokens in whole.items() if row != "10"})
    with pytest.raises(ValueError, match="rows 10: logps, hits, means, variances are no lists of equal length"):
        read({**whole, "10": {**whole["10"], "hits": []}})
    file.unlink()
    assert read_tokens(read_log(tmp_path / "eval_log_aggregated.json"), "eval_log_forget") is None


def test_a_task_whose_name_is_taken_is_refused(tmp_path):
    with pytest.raises(ValueError, match="eval_log.tokens: no task may end in .tokens"):
        run(tmp_path, suite=tasks(names=("eval_log.tokens",)))
