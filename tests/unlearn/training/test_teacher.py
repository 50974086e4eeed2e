"""The teacher stays the model that training started from, whatever the student becomes."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny_llava, tiny_qwen2vl
from tests.training import make_trainer, micro_batches
from unlearn.data.collator import Collator
from unlearn.method import HiddenSpec
from unlearn.models.forward import StudentForward, score_views
from unlearn.registry import build_method
from unlearn.training.teacher import Teacher


def scores(scored: Any) -> torch.Tensor:
    return torch.cat([view.token_logps().flatten() for view in scored.values()])


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
@pytest.mark.parametrize("lora", [2, 0])
def test_it_equals_the_original_after_training(tmp_path: Path, tiny: Any, lora: int) -> None:
    original = copy.deepcopy(tiny()[0])
    trainer = make_trainer(tmp_path, build_method("npo"), tiny=tiny, lora=lora, num_epochs=2)
    views = micro_batches(trainer)[0]["views"]
    with torch.no_grad():
        before = scores(score_views(StudentForward(original)(views)))
        assert trainer.teacher is not None
        torch.testing.assert_close(scores(trainer.teacher.forward(views)), before)
    trainer.train()
    with torch.no_grad():
        student = scores(score_views(trainer.student.eval()(views)))
    torch.testing.assert_close(scores(trainer.teacher.forward(views)), before)
    assert (student - before).abs().max() > 0.1  # it did train


def test_an_adapter_that_starts_with_noise_does_not_colour_the_teacher(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, build_method("scrub"), init_noise=0.5)
    views = micro_batches(trainer)[0]["views"]
    with torch.no_grad():
        before = scores(score_views(StudentForward(tiny_llava()[0])(views)))
        student = scores(score_views(trainer.student.eval()(views)))
    assert trainer.teacher is not None
    torch.testing.assert_close(scores(trainer.teacher.forward(views)), before)
    assert (student - before).abs().max() > 0.1


@pytest.mark.parametrize("lora", [2, 0])
@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_modes_adapters_and_gradients_alone(tmp_path: Path, lora: int, training: bool) -> None:
    trainer = make_trainer(tmp_path, build_method("npo"), lora=lora)
    views = micro_batches(trainer)[0]["views"]
    student, teacher = trainer.student.train(training), trainer.teacher
    assert teacher is not None
    trainable = [name for name, p in student.named_parameters() if p.requires_grad]
    scored = teacher.forward(views)
    assert not any(view.logits.requires_grad for view in scored.values())
    assert all(module.training == training for module in student.modules())
    assert [name for name, p in student.named_parameters() if p.requires_grad] == trainable
    score_views(student(views))["forget"].cross_entropy().backward()  # the adapter is back on
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    if teacher.frozen is not None:
        assert not any(p.requires_grad for p in teacher.frozen.parameters()) and not teacher.frozen.training


def test_dropout_is_off_in_the_teacher_while_the_student_trains() -> None:
    from unlearn.config.settings import LoraSettings
    from unlearn.models.lora import prepare_trainable

    model, processor = copy.deepcopy(tiny_llava()[0]), tiny_llava()[1]
    model.config.text_config.attention_dropout = 0.5
    for layer in model.model.language_model.layers:
        layer.self_attn.attention_dropout = 0.5
    student = StudentForward(prepare_trainable(model, LoraSettings(r=2), freeze_vision=True)).train()
    sample: Any = {"question": "Where?", "answer": "In Lisbon.", "image": None, "id": "a"}
    views = {"forget": Collator(processor).rows([sample])}
    assert not torch.equal(scores(score_views(student(views))), scores(score_views(student(views))))
    teacher = Teacher.of(student)
    torch.testing.assert_close(scores(teacher.score(views)), scores(teacher.score(views)), rtol=0, atol=0)


def test_no_views_cost_no_forward() -> None:
    def broken(*_: Any) -> Any:
        raise AssertionError("a forward was run")

    teacher = Teacher(broken, broken)  # type: ignore[arg-type]
    assert teacher.score({}) == {}


def test_another_reference_model() -> None:
    model, processor = tiny_llava()
    other = tiny_llava(seed=1)[0]
    student = StudentForward(copy.deepcopy(model), HiddenSpec(1))
    teacher = Teacher.of(student, reference=copy.deepcopy(other))
    sample: Any = {"question": "Where?", "answer": "In Lisbon.", "image": None, "id": "a"}
    views = {"forget": Collator(processor).rows([sample])}
    with torch.no_grad():
        expected = score_views(StudentForward(other, HiddenSpec(1))(views))
    scored = teacher.forward(views)
    torch.testing.assert_close(scores(scored), scores(expected))
    torch.testing.assert_close(scored["forget"].hidden, expected["forget"].hidden)
    assert not any(p.requires_grad for p in teacher.frozen.parameters())  # type: ignore[union-attr]
