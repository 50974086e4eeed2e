"""What a step dispatches at the real shapes, counted on a CPU without the weights (benchmarks/kernel_meter.py).

    python benchmarks/dispatch.py                        # LLaVA-1.5-7B and Qwen2-VL-2B, every case: a minute
    python benchmarks/dispatch.py --shape 7b --case KL --peft-casts --library-check      # as it was before
    python benchmarks/dispatch.py --fused --liger --checkpointing mlp                    # with these options

The project's own StudentForward, Teacher and method.loss run on fake tensors (a shape and a type, no numbers) under
bf16 autocast, LoRA r 8 on the language model, forward and backward; the optimiser's step is left out. Whole numbers and
masks are real, so that what is read back from them decides as it does in a run. Models of 2 and of 4 decoder blocks
(the vision tower whole) give a slope and an intercept; the numbers are extrapolated from these to the full depth.

Kernels are dispatched operators without views and empty tensors. Bytes are what goes in and out of all of them but
matrix products and attention. Syncs are values that the host reads back. Saved is what autograd keeps for the backward
pass, each storage once, without the model's parameters."""

import argparse
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import liger_stand_in as stand_in
import torch
from kernel_meter import Counts, Meter, as_on_a_gpu, on_the_host, saved_bytes
from shapes import IMAGE_ID, Padder, llava, qwen2vl
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from unlearn.config.settings import LoraSettings
from unlearn.data.collator import Prompt
from unlearn.evaluation.growing import decode_growing
from unlearn.evaluation.prefix import read_prefix
from unlearn.evaluation.recorded import cache_size
from unlearn.evaluation.sampling import likeliest
from unlearn.evaluation.step import Step
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.lora import prepare_trainable
from unlearn.models.options import checkpoint_mlps, use_fused_lora
from unlearn.registry import build_method
from unlearn.training.accumulation import one, together
from unlearn.training.teacher import Teacher

COLUMNS = ("kernels", "GB", "TFLOP", "syncs", "saved GB")


# ---- models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """`build(layers)` makes the model and one picture; `depth`: all decoder blocks, `tokens`: of a picture."""

    title: str
    depth: int
    tokens: int
    build: Callable[[int], tuple[Any, dict[str, Tensor]]]


SHAPES = {
    "7b": Shape("LLaVA-1.5-7B", 32, 576, lambda layers: llava(True, layers)),
    "2b": Shape("Qwen2-VL-2B, 504 pixels", 28, 324, lambda layers: qwen2vl(True, layers, side=36)),
    "tiny": Shape("LLaVA, thin", 12, 576, lambda layers: llava(False, layers)),
}


def on_meta(shape: Shape, layers: int, *, lora: bool) -> tuple[Any, dict[str, Tensor]]:
    """A bf16 model without storage, with fp32 adapters if wanted, and its picture's inputs."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            model, picture = shape.build(layers)
            model.requires_grad_(False)
            if lora:
                model = prepare_trainable(model, LoraSettings(r=8), freeze_vision=True)
    finally:
        torch.set_default_dtype(torch.float32)
    return model.eval(), picture


def fill_in(model: nn.Module) -> None:
    """Inside a fake mode: parameters and buffers become fake tensors of the CPU (whole numbers real zeros)."""
    made: dict[int, Any] = {}

    def stand_in(tensor: Any) -> Any:
        if id(tensor) not in made:
            with contextlib.nullcontext() if tensor.is_floating_point() else unset_fake_temporarily():
                new = torch.zeros(tensor.shape, dtype=tensor.dtype)
            made[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
        return made[id(tensor)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers, vars(module)):
            for name, tensor in list(tensors.items()):
                if isinstance(tensor, Tensor):
                    tensors[name] = stand_in(tensor)


def pictures(shape: Shape, picture: dict[str, Tensor]) -> dict[str, Tensor]:
    """A picture's inputs: grids real, pixels fake (inside a fake mode) and fp32, as processors make them."""
    side = round((4 * shape.tokens) ** 0.5)
    with unset_fake_temporarily():
        grid = torch.tensor([[1, side, side]])
    return {name: torch.zeros(t.shape) if t.is_floating_point() else grid for name, t in picture.items()}


# ---- cases ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A step of `method` ("": a decoded token). Of the retain partners every second has a picture."""

    title: str
    method: str
    micro_batches: tuple[tuple[bool, int], ...]  # (the forget items have pictures, how many items)


CASES = {
    "npo": Case("npo b1 x 2, first epoch", "npo", ((True, 1), (False, 1))),
    "KL": Case("KL b8", "KL", ((True, 8),)),
    "dpo": Case("DPO b8, first epoch", "dpo", ((True, 8),)),
    "SKU": Case("SKU b4", "SKU", ((True, 4),)),
    "decode": Case("one decoded token, b8", "", ((True, 8),)),
    "decode-growing": Case("one decoded token, b8, growing cache", "", ((True, 8),)),
}
ANSWER, QUESTION, TEXT_QUESTION = 11, 20, 12  # tokens


def prompt(shape: Shape, picture: dict[str, Tensor] | None, number: int) -> Prompt:
    """A question of its own, behind a picture or alone."""
    words = [100 + number] * (TEXT_QUESTION if picture is None else QUESTION)
    if picture is None:
        return Prompt(words)
    kinds = {"mm_token_type_ids": [1] * shape.tokens + [0] * QUESTION} if "image_grid_thw" in picture else {}
    return Prompt([IMAGE_ID] * shape.tokens + words, picture, str(number).encode(), kinds)


def micro_batch(shape: Shape, picture: dict[str, Tensor], method: Any, image: bool, items: int) -> dict[str, Any]:
    """The rows of each view."""
    views = {}
    for place, view in enumerate({v.name: v for v in (*method.student_views, *method.teacher_views)}.values()):
        own = view.name != "retain"
        shown = [picture if (image if own else i % 2) else None for i in range(items)]
        asked = [prompt(shape, shown[i], i + 50 * (not own)) for i in range(items)]
        views[view.name] = Padder().arrange(
            [(asked[i], [300 + 10 * place + k] * ANSWER) for k in range(view.k) for i in range(items)]
        )
    return views


def train_step(
    shape: Shape, case: Case, layers: int, *, peft_casts: bool = False, fused: bool = False, liger: bool = False,
    checkpointing: str = "false", joined: bool = True,
) -> Counts:  # fmt: skip
    """Forward, teacher, loss and backward of one optimiser step with `layers` decoder blocks; `joined`: its
    micro-batches in one forward."""
    from accelerate.utils import convert_outputs_to_fp32

    counts, method = Counts(), build_method(case.method)
    model, picture = on_meta(shape, layers, lora=True)
    if peft_casts:
        for module in model.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = True
    use_fused_lora(model, fused)
    with FakeTensorMode(allow_non_fake_inputs=True), stand_in.liger(model, liger):
        fill_in(model)
        image_inputs = pictures(shape, picture)
        student: Any = StudentForward(model, method.hidden).train()
        student.lay_out = on_the_host(student.lay_out)
        if checkpointing == "mlp":
            checkpoint_mlps(model)
        elif checkpointing == "true":
            student.activation_checkpointing_enable()
        # as accelerate wraps it
        student.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(student.forward))
        teacher = Teacher.of(student, sums_only=method.teacher_sums_only)
        with unset_fake_temporarily():
            batches = [{"views": micro_batch(shape, image_inputs, method, *asked)} for asked in case.micro_batches]
        for group in [batches] if joined else [[batch] for batch in batches]:
            with as_on_a_gpu(counts), Meter(counts):
                with saved_bytes(counts, model):
                    scored = score_views(student(together(group, method.student_views)))
                    told = teacher.score(together(group, method.teacher_views))
                    parts = [method.loss(one(scored, i), one(told, i)) for i in range(len(group))]
                    loss = torch.stack([part for own in parts for part in own.values()]).sum()
                loss.backward()
    return counts


def decode_step(shape: Shape, case: Case, layers: int) -> Counts:
    """One token for each row of a batch: a step of fixed shape, as a GPU records it; over a growing cache, a generation
    of two tokens less one of a single token."""
    model, picture = on_meta(shape, layers, lora=False)
    found = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        fill_in(model)
        image_inputs = pictures(shape, picture)
        (image, items), *_ = case.micro_batches
        asked = [prompt(shape, image_inputs if image else None, i) for i in range(items)]
        with unset_fake_temporarily():
            inputs = Padder().pad([(each, ()) for each in asked])["inputs"]
        with as_on_a_gpu(Counts()), Meter(Counts()):
            prefix = read_prefix(model, inputs)
        if case is CASES["decode"]:
            size, stop = cache_size(prefix.mask.shape[1] + 64), frozenset({-1})
            with as_on_a_gpu(Counts()), Meter(Counts()):
                step = Step(model, prefix, rows=items, size=size, limit=64, choose=likeliest, stop_ids=stop)
                step.begin(prefix, None, None)
            with as_on_a_gpu(counts := Counts()), Meter(counts):
                step.step()
            return counts
        for tokens in (1, 2):
            found.append(counts := Counts())
            with as_on_a_gpu(counts), Meter(counts):
                decode_growing(model, prefix, None, likeliest, None, max_new_tokens=tokens, stop_ids=frozenset({-1}))
    one, two = found
    return Counts(two.kernels - one.kernels, two.syncs - one.syncs, two.moved - one.moved, two.flops - one.flops)


def at_full_depth(shape: Shape, measure: Callable[[int], Counts]) -> dict[str, float]:
    """Each column at `depth` blocks, on the line through 2 and 4; `a layer` is the slope of the kernels."""
    two, four = measure(2).row(), measure(4).row()
    slopes = {name: (four[name] - two[name]) / 2 for name in COLUMNS}
    whole = {name: two[name] + slopes[name] * (shape.depth - 2) for name in COLUMNS}
    return {**whole, "a layer": slopes["kernels"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["7b", "2b"])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--peft-casts", action="store_true", help="PEFT casts each adapter's input, as by default")
    parser.add_argument("--fused", action="store_true", help="fused_lora=true")
    parser.add_argument("--liger", action="store_true", help="liger=true, by stand-ins for its kernels")
    parser.add_argument("--checkpointing", default="false", choices=("false", "mlp", "true"))
    parser.add_argument("--one-by-one", action="store_true", help="a forward for each micro-batch")
    parser.add_argument("--library-check", action="store_true", help="transformers counts image tokens in each forward")
    options = parser.parse_args()
    os.environ["TRANSFORMERS_DISABLE_TORCH_CHECK"] = str(int(not options.library_check))
    print("Extrapolated from 2 and 4 decoder blocks to all of them; forward and backward, no optimiser.\n")
    print(
        "| model | step | kernels | a layer | GB moved | TFLOP | syncs | GB saved |\n|---|---|---|---|---|---|---|---|"
    )
    for key in options.shape:
        shape = SHAPES[key]
        for name in options.case:
            case = CASES[name]

            def measure(layers: int, shape: Shape = shape, case: Case = case) -> Counts:
                if not case.method:
                    return decode_step(shape, case, layers)
                how = {"peft_casts": options.peft_casts, "fused": options.fused, "liger": options.liger}
                how["joined"] = not options.one_by_one
                return train_step(shape, case, layers, checkpointing=options.checkpointing, **how)

            row = at_full_depth(shape, measure)
            print(
                f"| {shape.title} | {case.title} | {row['kernels']:,.0f} | {row['a layer']:,.0f} | {row['GB']:,.1f} | "
                f"{row['TFLOP']:,.2f} | {row['syncs']:,.0f} | {row['saved GB']:,.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
