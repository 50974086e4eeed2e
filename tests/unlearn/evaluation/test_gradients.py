"""GradNorm: one row's gradient against its slow form, a model that was trained on the rows, and the table's AUC."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.eval_suite import PEOPLE
from tests.models import picture, tiny_llava
from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.evaluation.stress.gradients import gradient_norm, gradient_norms, pulled
from unlearn.evaluation.suite import EvalTask
from unlearn.leaderboard.auc import aucs_without
from unlearn.leaderboard.stress import summarise
from unlearn.metrics.membership import attack_auc
from unlearn.models.families import decoder
from unlearn.models.lora import lora_targets
from unlearn.stress_log import Number, write_index, write_unit


def task(name: str, places: range, image: bool = True) -> EvalTask:
    items = []
    for row in places:
        shown = picture(row, side=16) if image and row % 2 else None
        sample = {"question": "Who?", "answer": f"It is {PEOPLE[row]}", "image": shown, "id": f"{name}/{row}"}
        items.append(EvalItem(str(row), sample, "", [], PEOPLE[row]))  # type: ignore[arg-type]
    return EvalTask(name, items, identity=name)


@pytest.fixture
def llava() -> tuple[Any, Collator]:
    model, processor = tiny_llava()
    return copy.deepcopy(model), Collator(processor)


def test_one_row_against_its_slow_form_and_the_model_stays(llava: tuple[Any, Collator]) -> None:
    model, collator = llava
    slow = copy.deepcopy(model)
    for item in task("t", range(4)).items:
        prompt, answer = collator.encode_prompt(item.sample), collator.encode_answer(item.sample["answer"])
        slow.zero_grad()
        logits = slow(**collator.pad([(prompt, answer)])["inputs"]).logits[0, len(prompt.ids) - 1 : -1]
        F.cross_entropy(logits, torch.tensor(answer)).backward()
        norms = [dict(slow.named_parameters())[f"{name}.weight"].grad.norm() for name in lora_targets(slow)]
        with pulled(model):
            total, tensors = gradient_norm(model, collator, item)
        assert total == pytest.approx(float(sum(norm**2 for norm in norms) ** 0.5), rel=1e-5)
        assert tensors == pytest.approx(float(sum(norms)) / len(norms), rel=1e-5)
    before = [(name, p.requires_grad) for name, p in slow.named_parameters()]
    assert [(name, p.requires_grad) for name, p in model.named_parameters()] == before
    assert all(p.grad is None for p in model.parameters())


def test_a_model_in_half_precision_is_measured_in_full_and_goes_back(llava: tuple[Any, Collator]) -> None:
    """Loaded as the scripts do it: rotary frequencies stay in fp32 then, and must afterwards."""
    model, collator = llava
    (item,) = task("t", range(1)).items
    half = copy.deepcopy(model)
    for parameter in half.parameters():
        parameter.data = parameter.data.bfloat16()
    whole = copy.deepcopy(half).float()
    before = {name: one.clone() for name, one in (*half.named_parameters(), *half.named_buffers())}
    assert {one.dtype for one in before.values()} >= {torch.bfloat16, torch.float32}
    with pulled(half), pulled(whole):
        assert gradient_norm(half, collator, item) == gradient_norm(whole, collator, item)
    after = dict((*half.named_parameters(), *half.named_buffers()))
    assert all(one.dtype == after[name].dtype and torch.equal(one, after[name]) for name, one in before.items())


def test_a_linear_that_a_row_does_not_reach_pulls_with_nothing(llava: tuple[Any, Collator]) -> None:
    model, collator = llava
    (item,) = task("t", range(1)).items
    with pulled(model):
        total, tensors = gradient_norm(model, collator, item)
    count = len(lora_targets(model))
    decoder(model).lost = torch.nn.Linear(3, 3)
    with pulled(model):
        assert gradient_norm(model, collator, item) == pytest.approx((total, tensors * count / (count + 1)))


def test_rows_that_were_trained_on_pull_less(llava: tuple[Any, Collator], tmp_path: Path) -> None:
    model, collator = llava
    known, unseen = task("known", range(3)), task("unseen", range(3, 6))
    with pulled(model):
        weights = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=2e-3)
        for _ in range(40):
            for item in known.items:
                row = collator.encode_prompt(item.sample), collator.encode_answer(item.sample["answer"])
                batch = collator.pad([row])
                logits = model(**batch["inputs"]).logits[0, :-1][-len(row[1]) :]
                F.cross_entropy(logits, torch.tensor(row[1])).backward()
                optimizer.step()
                optimizer.zero_grad()
    numbers = gradient_norms(model, collator, known, unseen, batch_size=3, folder=tmp_path, key="k")
    by = {(number.task, number.label, number.kind): list(number.rows.values()) for number in numbers}
    assert len(by) == 4 and attack_auc(by["known", "known", "total"], by["unseen", "known", "total"]) == 1.0


def test_the_auc_beside_golds_by_hand(tmp_path: Path) -> None:
    """Base knows all four people, the model half of them, gold nobody in particular."""
    unseen = [3.0, 4.0, 5.0, 6.0]
    known = {"base": [1.0, 1.0, 2.0, 2.0], "gold": [3.0, 6.0, 4.0, 5.0], "npo": [1.0, 2.0, 6.0, 7.0]}
    people = {"t": {str(row): f"f{row}" for row in range(4)}, "h": {str(row): f"h{row}" for row in range(4)}}
    for name, own in known.items():
        numbers = [Number("t", "t", "total", {str(row): value for row, value in enumerate(own)}),
                   Number("h", "t", "total", {str(row): value for row, value in enumerate(unseen)})]  # fmt: skip
        write_unit(tmp_path / name / "gradient.json", "key", numbers, people, 1.0)
    write_index(tmp_path, {"models": [{"name": name, "path": name} for name in known], "tests": ["gradient"]})
    (entry,) = json.loads(json.dumps(summarise(tmp_path)))["tests"]["gradient"]
    # npo: 4 + 4 pairs of the first two, 0.5 of the third (6 against 6), 0 of the fourth; gold: .5 each way
    assert [entry["models"][name]["mean"] for name in known] == [1.0, 0.5, 8.5 / 16]
    assert entry["models"]["npo"]["difference"][0] == pytest.approx(0.5 / 16)
    without, _ = aucs_without(np.array(known["npo"]), np.array(unseen), list("abcd"), list("wxyz"))
    assert without.tolist() == pytest.approx([4.5 / 12, 4.5 / 12, 8 / 12, 8.5 / 12])
