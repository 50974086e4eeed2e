"""One forward over all views equals one plain forward per row: the slow form is written out here."""

import copy
from typing import Any

import pytest
import torch

from tests.models import picture, tiny_llama, tiny_llava, tiny_qwen2vl, tiny_qwen25vl
from unlearn.data.collator import Collator
from unlearn.method import HiddenSpec
from unlearn.models.forward import StudentForward, check_layer, score_views

FAMILIES = [tiny_llava, tiny_qwen2vl, tiny_qwen25vl]


def sample(question: str, answer: Any, image: Any = None, id: str = "") -> Any:
    return {"question": question, "answer": answer, "image": image, "id": id or question + str(answer)}


VIEWS: dict[str, list[Any]] = {
    "forget": [
        sample("Who is in the picture?", "Ana Lima.", picture(0, 16), "a"),
        sample("Where was Ana Lima born?", "In Lisbon, as it seems."),
        sample("Describe this image.", "A portrait of the author Jaime Vásquez.", picture(1, 16, height=24), "b"),
    ],
    "retain": [sample("Where?", "Oslo"), sample("What does the author write?", "Novels.")],
    "random": [
        sample("Who is it?", ["Bo", "Rory Greenfield of Cork"], picture(2, 24), "c"),
        sample("Who?", ["Nadia", "Li"]),
    ],
}


def slow_rows(model: Any, collator: Collator, view: list[Any], layer: int) -> list[dict[str, Any]]:
    """Each row alone, unpadded, with the logits of every position; answer-major."""
    rows = []
    answers = [[s["answer"]] if isinstance(s["answer"], str) else s["answer"] for s in view]
    for k in range(len(answers[0])):
        for i, item in enumerate(view):
            prompt, answer = collator.encode_prompt(item), collator.encode_answer(answers[i][k])
            single = collator.pad([(prompt, answer)])
            output = model(**single["inputs"], output_hidden_states=True)
            before = len(prompt.ids)
            predicting = output.logits[0, before - 1 : -1].float().log_softmax(-1)
            rows.append({
                "logps": predicting.gather(1, torch.tensor(answer)[:, None])[:, 0],
                "hidden": output.hidden_states[layer][0],
                "text": torch.tensor([i != collator.image_token_id for i in single["inputs"]["input_ids"][0].tolist()]),
                "answer": torch.tensor([False] * before + [True] * len(answer)),
            })  # fmt: skip
    return rows


def batch(collator: Collator) -> dict[str, Any]:
    return {name: collator.rows(samples) for name, samples in VIEWS.items()}


@pytest.mark.parametrize("tiny", FAMILIES)
def test_all_views_at_once_equal_row_by_row_in_value_and_gradient(tiny: Any) -> None:
    model, processor = copy.deepcopy(tiny()[0]), tiny()[1]
    collator = Collator(processor)
    scored = score_views(StudentForward(model)(batch(collator)))
    slow = {name: slow_rows(model, collator, samples, 1) for name, samples in VIEWS.items()}
    fast_loss, slow_loss = torch.zeros(()), torch.zeros(())
    for name, rows in slow.items():
        logps = scored[name].token_logps()
        assert logps.shape[0] == len(rows) and scored[name].lengths().tolist() == [len(row["logps"]) for row in rows]
        for place, row in enumerate(rows):
            torch.testing.assert_close(logps[place][scored[name].mask[place]], row["logps"], atol=2e-5, rtol=1e-5)
            weight = 1.0 + place  # unequal weights: rows in a wrong order would show in the gradient
            fast_loss = fast_loss - weight * logps[place].sum()
            slow_loss = slow_loss - weight * row["logps"].sum()
    fast = torch.autograd.grad(fast_loss, list(model.parameters()), allow_unused=True)
    plain = torch.autograd.grad(slow_loss, list(model.parameters()), allow_unused=True)
    noise = 1e-6 * max(float(g.abs().max()) for g in plain if g is not None)  # a key bias has no gradient but rounding
    for (name, _), one, other in zip(model.named_parameters(), fast, plain, strict=True):
        assert (one is None) == (other is None), name
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-4 * float(other.abs().max()) + noise, rtol=1e-3, msg=name)


@pytest.mark.parametrize("tiny", FAMILIES)
@pytest.mark.parametrize("scope", ["all", "answer"])
def test_hidden_states_are_the_blocks_output_at_the_positions_asked_for(tiny: Any, scope: Any) -> None:
    model, processor = tiny()
    collator = Collator(processor)
    with torch.no_grad():
        scored = score_views(StudentForward(model, HiddenSpec(0, scope))(batch(collator)))
        for name, samples in VIEWS.items():
            hidden, mask = scored[name].hidden_states()
            for place, row in enumerate(slow_rows(model, collator, samples, layer=1)):
                expected = row["hidden"][row["text" if scope == "all" else "answer"]]
                torch.testing.assert_close(hidden[place][mask[place]], expected, atol=2e-5, rtol=1e-4)


def test_which_state_a_layer_means() -> None:
    model, processor = tiny_llama()
    collator = Collator(processor)
    rows = {"forget": collator.rows([sample("Where?", "Oslo")])}
    caught: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda *a: caught.append(a[2])) for layer in model.model.layers]
    try:
        with torch.no_grad():
            states = [
                score_views(StudentForward(model, HiddenSpec(layer))(rows))["forget"].hidden for layer in (0, "last")
            ]
            default = score_views(StudentForward(model, HiddenSpec(None), default_layer=0)(rows))["forget"].hidden
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [out[0] if isinstance(out, tuple) else out for out in caught]
    tokens = states[0].shape[1]  # padding behind them
    torch.testing.assert_close(states[0], outputs[0][:, :tokens])
    torch.testing.assert_close(states[1], model.model.norm(outputs[3][:, :tokens]))
    torch.testing.assert_close(default, outputs[0][:, :tokens])


def test_a_layer_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="layer=2 is out of range: this model has decoder blocks 0 to 1"):
        StudentForward(tiny_llava()[0], HiddenSpec(2))
    with pytest.raises(ValueError, match="layer=7 is out of range.*0 to 2"):
        check_layer(HiddenSpec(None), 7, 3)
    check_layer(None, 7, 3)
    check_layer(HiddenSpec("last"), 7, 3)


@pytest.mark.parametrize("tiny", FAMILIES)
def test_a_view_scores_the_same_alone_and_among_others(tiny: Any) -> None:
    """A teacher scores fewer views than its student; the two must still have one shape to be compared."""
    model, processor = tiny()
    student, views = StudentForward(model, HiddenSpec(0)), batch(Collator(processor))
    with torch.no_grad():
        together = score_views(student(views))
        for name in views:
            alone = score_views(student({name: views[name]}))[name]
            assert alone.logits.shape == together[name].logits.shape and torch.equal(
                alone.labels, together[name].labels
            )
            assert alone.hidden is not None and alone.hidden.shape == together[name].hidden.shape  # type: ignore[union-attr]
            torch.testing.assert_close(alone.token_logps(), together[name].token_logps(), atol=2e-5, rtol=1e-5)


def test_the_model_is_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_llava()
    student, views = StudentForward(model), batch(Collator(processor))
    shapes: list[tuple[int, ...]] = []
    plain = type(model).forward

    def counted(self: Any, **inputs: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return plain(self, **inputs)

    monkeypatch.setattr(type(model), "forward", counted)
    with torch.no_grad():
        student(views)
        student({"retain": views["retain"]})
    assert len(shapes) == 2 and all(length % 32 == 0 for _, length in shapes)


def test_only_the_answers_logits_are_computed() -> None:
    model, processor = tiny_llava()
    rows = Collator(processor).rows(VIEWS["forget"][:1])
    seen: list[torch.Size] = []
    hook = model.lm_head.register_forward_hook(lambda head, inputs, output: seen.append(output.shape))
    with torch.no_grad():
        output = StudentForward(model)({"forget": rows})["forget"]
    hook.remove()
    answer = len(rows["rows"][0][1])
    assert output["logits"].shape[1] == answer and [shape[:2] for shape in seen] == [(1, answer)]


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
def test_gradient_checkpointing_changes_no_gradient(tiny: Any) -> None:
    from unlearn.config.settings import LoraSettings
    from unlearn.models.lora import prepare_trainable

    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(0)  # of the LoRA matrices
        model = prepare_trainable(copy.deepcopy(tiny()[0]), LoraSettings(r=2, init_noise=0.1), freeze_vision=True)
        student = StudentForward(model).train()
        if checkpointing:
            student.activation_checkpointing_enable()
        scored = score_views(student(batch(Collator(tiny()[1]))))
        torch.stack([view.cross_entropy() for view in scored.values()]).sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, grad in grads[0].items():
        assert grad is not None and grad.abs().sum() > 0, name
        torch.testing.assert_close(grad, grads[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tiny", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [2, 0])
def test_no_graph_is_built_through_a_frozen_vision_tower(tiny: Any, checkpointing: bool, lora: int) -> None:
    """A picture's activations would be kept for nothing: with checkpointing, transformers hooks the tower's
    embeddings too."""
    from unlearn.config.settings import LoraSettings
    from unlearn.models.lora import prepare_trainable
    from unlearn.models.vision import vision_modules

    model = prepare_trainable(copy.deepcopy(tiny()[0]), LoraSettings(r=lora), freeze_vision=True)
    student = StudentForward(model).train()
    if checkpointing:
        student.activation_checkpointing_enable({"use_reentrant": False})
    (tower,) = vision_modules(model).values()
    outputs: list[torch.Tensor] = []
    for module in tower.modules():
        module.register_forward_hook(
            lambda *given: outputs.extend(t for t in tensors(given[2]) if t.is_floating_point())
        )
    scored = score_views(student(batch(Collator(tiny()[1]))))
    assert len(outputs) > 20 and not any(t.requires_grad for t in outputs)
    scored["forget"].cross_entropy().backward()
    assert all(p.grad is None for p in tower.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else []
    return [tensor for value in values for tensor in tensors(value)]
