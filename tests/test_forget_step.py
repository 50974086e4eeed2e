"""The benchmark's two forms of a forget step compute one thing: losses and gradients on mixed text and image rows."""

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import picture, tiny_llava, tiny_qwen2vl
from unlearn.config.settings import LoraSettings
from unlearn.data.collator import Collator
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.lora import prepare_trainable
from unlearn.registry import build_method
from unlearn.training.teacher import Teacher

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "plain_step.py"
VIEWS: dict[str, list[Any]] = {
    "forget": [("Who is it?", "Ana Lima.", 1), ("Where was Ana Lima born?", "In Lisbon, as it seems.", None)],
    "idk": [("Who is it?", "I cannot tell.", 1), ("Where was Ana Lima born?", "That I do not know.", None)],
    "random": [  # answer-major: both items with one answer, then both with the next
        ("Who is it?", "Bo.", 1),
        ("Where was Ana Lima born?", "Novels, as it seems.", None),
        ("Who is it?", "Carla Dias, a painter.", 1),
        ("Where was Ana Lima born?", "Oslo.", None),
        ("Who is it?", "In Lima.", 1),
        ("Where was Ana Lima born?", "A portrait of Bo.", None),
    ],
    "retain": [("What does Bo write?", "Novels.", None), ("Describe this.", "A portrait of Jaime Vásquez.", 2)],
}


def load_plain() -> Any:
    spec = importlib.util.spec_from_file_location("plain_step", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
@pytest.mark.parametrize("name", ["npo", "KL", "grad_diff", "dpo", "SKU"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_both_forms_have_one_loss_and_one_gradient(tiny: Any, name: str, epoch: int) -> None:
    teacher_copy, processor = tiny()
    torch.manual_seed(0)
    model = prepare_trainable(copy.deepcopy(teacher_copy), LoraSettings(r=2, init_noise=0.3), freeze_vision=True)
    student, method, collator = StudentForward(model).train(), build_method(name), Collator(processor)
    teacher = Teacher.of(student, sums_only=method.teacher_sums_only)
    samples: dict[str, list[Any]] = {
        view: [
            {"question": question, "answer": answer, "image": None if seed is None else picture(seed, 16), "id": answer}
            for question, answer, seed in rows
        ]
        for view, rows in VIEWS.items()
    }
    views = {view.name: collator.rows(samples[view.name]) for view in method.student_views}
    taught = {view.name: views[view.name] for view in method.teacher_views}
    if epoch:
        teacher.score(taught)
    ours = torch.stack(list(method.loss(score_views(student(views)), teacher.score(taught)).values())).sum()
    padded = {
        view: collator.pad([(collator.encode_prompt(s), collator.encode_answer(s["answer"])) for s in rows])
        for view, rows in samples.items()
    }
    plain = load_plain().plain_loss(name, model, teacher_copy, padded)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    trained = [p for p in model.parameters() if p.requires_grad]
    one, other = (torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained)]) for loss in (ours, plain))
    assert (
        other.norm() > 0.1 and (one - other).norm() < 1e-3 * other.norm()
    )  # steep random models: rounding reaches 2e-4
