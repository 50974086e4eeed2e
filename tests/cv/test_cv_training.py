"""Models trained side by side are the models trained one by one; batches, teachers and schedules by hand."""

import dataclasses
import math

import pytest
import torch

from cv.data.batches import plan_batches, stack_plans
from cv.methods import NAMES, face_method
from cv.network.margin import Margin
from cv.network.stack import NetworkSpec, Stack, new_network
from cv.settings import Optimisation
from cv.training.loop import Faces, Teacher, step_loss, train

SPEC = NetworkSpec("resnet-mini", 6, Margin())
OPTIONS = {
    "llmu": {"answers": "random", "k": 2},
    "twins": {"distance": "mse"},
    "sparsity": {"lambda": 1e-4, "reduction": "sum"},
}


def faces(people: int = 6, each: int = 4) -> Faces:
    generator = torch.Generator().manual_seed(3)
    base = torch.randint(256, (people, 3, 16, 16), generator=generator).repeat_interleave(each, 0)
    noise = torch.randint(-20, 20, (people * each, 3, 16, 16), generator=generator)
    return Faces((base + noise).clamp(0, 255).to(torch.uint8), torch.arange(people).repeat_interleave(each))


def plan(method, data, model, *, epochs=2, batch_size=8, oversample=2):
    rows = {"forget": (data.labels == model % 3).nonzero()[:, 0], "retain": (data.labels > 2).nonzero()[:, 0]}
    return plan_batches(
        method, rows, data.labels, epochs=epochs, batch_size=batch_size, oversample=oversample, seed=5, model=model
    )


def networks(count: int, dtype: torch.dtype = torch.float32) -> list[dict[str, torch.Tensor]]:
    return [new_network(SPEC, seed).to(dtype).state_dict() for seed in range(count)]


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", ["finetune", "scrub", "llmu", "rmu", "twins", "sparsity", "neggrad"])
def test_side_by_side_is_one_by_one(name, batchnorm):
    """To fp32 tolerance. In train mode weights are fp64: batch norm over 8 photos, at scale 30, amplifies rounding."""
    dtype = torch.float64 if batchnorm == "train" else torch.float32
    data, method = faces(), face_method(name, OPTIONS.get(name))
    settings = Optimisation(lr=0.01, schedule="cosine", warmup=0.2, batchnorm=batchnorm)
    together = Stack(SPEC, networks(3, dtype))
    train(together, method, data, stack_plans([plan(method, data, m) for m in range(3)]), settings)
    for model, start in enumerate(networks(3, dtype)):
        alone = Stack(SPEC, [start])
        train(alone, method, data, stack_plans([plan(method, data, model)]), settings)
        for tensor_name, expected in alone.network(0).items():
            got = together.network(model)[tensor_name]
            assert torch.allclose(got.float(), expected.float(), rtol=1e-3, atol=1e-4), tensor_name


def test_training_moves_running_statistics_only_in_train_mode():
    data, method = faces(), face_method("finetune")
    moved = {}
    for mode in ("train", "eval"):
        stack = Stack(SPEC, networks(2))
        before = {name: tensor.clone() for name, tensor in stack.buffers.items()}
        train(
            stack,
            method,
            data,
            stack_plans([plan(method, data, m, epochs=1) for m in range(2)]),
            Optimisation(0.01, batchnorm=mode),
        )
        moved[mode] = any(not torch.equal(before[name], tensor) for name, tensor in stack.buffers.items())
    assert moved == {"train": True, "eval": False}


def test_no_model_feels_the_data_of_its_neighbour():
    data, method = faces(), face_method("finetune")
    batch = stack_plans([plan(method, data, m) for m in range(2)])[0]
    stack = Stack(SPEC, networks(2))
    with torch.no_grad():
        stack.parameters["head.weight"][1] = math.nan
    parts = step_loss(stack, method, data, batch)
    parts["retain"].backward()
    for name, tensor in stack.parameters.items():
        assert torch.isfinite(tensor.grad[0]).all(), name


def test_a_diverging_run_stops():
    data, method = faces(), face_method("finetune")
    stack = Stack(SPEC, networks(1))
    with pytest.raises(ValueError, match="'retain' is not finite any more"):
        train(stack, method, data, stack_plans([plan(method, data, 0)]), Optimisation(1e30))


def test_batches_are_full_and_show_every_photo_equally_often():
    data, method = faces(), face_method("scrub")
    steps = plan(method, data, 0, epochs=3, batch_size=8, oversample=4)
    assert len(steps) == 3 * math.ceil(4 * 4 / 8)
    for view, rows in (("forget", range(0, 4)), ("retain", range(12, 24))):
        seen = torch.cat([batch.rows[view] for batch in steps])
        assert len(seen) == 8 * len(steps)
        counts = torch.bincount(seen, minlength=24)
        assert set(counts.nonzero()[:, 0].tolist()) == set(rows)
        assert counts[list(rows)].max() - counts[list(rows)].min() <= 1


def test_an_epoch_without_forget_photos_passes_over_the_retain_photos():
    data, method = faces(), face_method("finetune")
    steps = plan(method, data, 0, epochs=3, batch_size=8)
    assert len(steps) == 3 * math.ceil(12 / 8) and set(steps[0].rows) == {"retain"}


def test_neggrad_alternates_whole_passes():
    data, method = faces(), face_method("neggrad")
    steps = plan(method, data, 0, epochs=2, batch_size=2, oversample=9)
    assert [batch.info.pass_name for batch in steps] == (["forget"] * 2 + ["retain"] * 6) * 2
    assert all(set(batch.rows) == {batch.info.pass_name} for batch in steps)


def test_random_names_belong_to_retain_photos():
    data, method = faces(), face_method("llmu", {"answers": "random", "k": 3})
    for batch in plan(method, data, 0):
        assert batch.random.shape == (24,) and batch.random.min() > 2


def test_plans_differ_between_models_and_seeds_and_repeat():
    data, method = faces(), face_method("finetune")
    rows = [plan(method, data, m)[0].rows["retain"].tolist() for m in (0, 1, 0)]
    assert rows[0] == rows[2] != rows[1]


def test_models_of_unequal_steps_cannot_share_a_stack():
    data, method = faces(), face_method("finetune")
    with pytest.raises(ValueError, match="same number of steps"):
        stack_plans([plan(method, data, 0), plan(method, data, 1, epochs=3)])


def test_a_view_that_faces_lack_is_refused():
    from unlearn.registry import build_method

    data = faces()
    with pytest.raises(ValueError, match="view 'idk', which faces do not have"):
        plan(build_method("idk"), data, 0)


def test_the_teacher_is_the_network_before_training_on_these_very_photos():
    data, method = faces(), face_method("twins", {"distance": "mse"})
    stack = Stack(SPEC, networks(2))
    batch = stack_plans([plan(method, data, m) for m in range(2)])[0]
    teacher = Teacher(stack, data, method)
    views = teacher.scored(stack, data, batch, 1)
    assert set(views) == {"augmented", "retain"}
    network = Stack(SPEC, [stack.network(1)])
    for name, pixels in (("retain", data.pixels), ("augmented", data.pixels.flip(-1))):
        rows = batch.rows["forget" if name == "augmented" else name][1]
        expected, _ = network.forward(pixels[rows][None])
        assert torch.allclose(views[name].hidden[:, 0], expected[0], atol=1e-5)
        assert not views[name].logits.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_every_weight_it_should(name):
    """A step gives a finite gradient, and each part is the sum over the models of what one model has."""
    data, method = faces(), face_method(name, OPTIONS.get(name))
    stack = Stack(SPEC, networks(2))
    batch = stack_plans([plan(method, data, m) for m in range(2)])[0]
    teacher = Teacher(stack, data, method) if method.teacher_views else None
    together = step_loss(stack, method, data, batch, teacher, "train")
    torch.stack(list(together.values())).sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in stack.parameters.values() if t.grad is not None)
    singles = []
    for model in range(2):
        alone = Stack(SPEC, [networks(2)[model]])
        own = stack_plans([plan(method, data, model)])[0]
        reference = Teacher(alone, data, method) if method.teacher_views else None
        singles.append(step_loss(alone, method, data, own, reference, "train"))
    for part, value in together.items():
        assert value.item() == pytest.approx(sum(single[part].item() for single in singles), rel=1e-3, abs=1e-5)


def test_the_rate_rises_to_lr_and_falls_to_zero():
    settings = Optimisation(lr=0.1, schedule="cosine", warmup=0.125)
    rates = [settings.rate(step, 160) for step in range(160)]
    assert rates[0] == pytest.approx(0.1 / 20) and max(rates) == rates[20] == pytest.approx(0.1)
    assert rates[90] == pytest.approx(0.05) and rates[-1] < 1e-4
    constant = dataclasses.replace(settings, schedule="constant", warmup=0.0)
    assert {constant.rate(step, 7) for step in range(7)} == {0.1}


def test_wrong_names_and_options_are_refused():
    with pytest.raises(ValueError, match="did you mean 'scrub'"):
        face_method("scrubb")
    with pytest.raises(ValueError, match="options.bet.*Did you mean 'options.beta'"):
        face_method("dpo", {"bet": 1.0})
    with pytest.raises(ValueError, match="beta must be a finite number > 0"):
        face_method("dpo", {"beta": 0})
