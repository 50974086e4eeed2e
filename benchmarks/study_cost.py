"""What Table 1 on LLaVA-1.5-7B costs, worked out and not measured: steps, tokens, FLOPs, GPU hours, disk.

    python benchmarks/study_cost.py                    # the tables of docs/scaling.md
    python benchmarks/study_cost.py --seeds 1 --utilisation 0.2

A forward takes 2 FLOPs a parameter and token, the backward through frozen weights under LoRA 2 more. Attention, the
vision tower's own passes, loading and data are not counted. The share of a GPU's peak (`--utilisation`) is an
assumption; rows that come one at a time, as in the paper's forget step, reach less: there a GPU waits for the host. The
last two columns say what a step then takes, before and after the work of docs/performance.md, from its counts: the
longer of 36 microseconds a kernel on the host, and of products at 84 % of a measured 797 TFLOP/s with elementwise bytes
at 2.2 TB/s on the GPU (fitted to one profiled step on an H100; *predicted* for everything else).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from memory_model import SHAPES

from unlearn import ROOT
from unlearn.method import View
from unlearn.registry import build_method

# Rows of therem/CLEAR (data/README.md); of the evaluation: real faces, real world, forget and retain asked twice each.
FULL, GOLD, FORGET = (3768, 4000), (3391, 3600), (379, 400)  # (with a picture, questions)
EVALUATED = 151 + 367 + 2 * (378 + 395)
# Tokens, assumed: 576 of the picture, a request, a caption; a question with its answer; an answer; a generation.
PICTURE, QUESTION, ANSWER, GENERATED, ANSWERS = 650, 60, 35, 60, 7
METHODS = yaml.safe_load((ROOT / "config" / "table" / "1.yaml").read_text(encoding="utf-8"))["methods"]
PEAKS = {"A100": (312e12, 2.0e12), "H100": (989e12, 3.35e12)}  # dense bf16 FLOP/s and bytes/s of the data sheets
SHAPE = next(shape for shape in SHAPES if shape.name.startswith("7B"))
EPOCHS_FINETUNE, EPOCHS_FORGET, BATCH_FINETUNE, BATCH_FORGET, BATCH_EVAL = 3, 5, 12, 2, 8


@dataclass(frozen=True)
class Form:
    """What benchmarks/dispatch.py counts at the 7B shape.

    Args:
        student, teacher: kernels that a decoder block dispatches in one inner forward, the student's with its backward.
        gigabytes: that elementwise kernels move for each of the student's tokens; of the teacher's a third.
        joined: the views and micro-batches of a step are one inner forward, else one for each modality in each.
        rows, token: an evaluation's batch, and milliseconds a decoded token of it.
    """

    student: int
    teacher: int
    gigabytes: float
    joined: bool
    rows: int
    token: float

    def seconds(self, floats: float, tokens: tuple[float, float], forwards: tuple[float, float]) -> float:
        """Of a step: FLOPs; tokens and inner forwards of (the student, the teacher)."""
        kernels = SHAPE.layers * (forwards[0] * self.student + forwards[1] * self.teacher) + FIXED
        moved = 1e9 * self.gigabytes * (tokens[0] + tokens[1] / 3)
        return max(36e-6 * kernels, floats / (0.84 * 797e12) + moved / 2.2e12)


FIXED = 900  # kernels of a step outside the decoder blocks: the vision tower, the head, the loss
FORMS = (Form(217, 45, 0.112, False, 8, 38.0), Form(96, 14, 0.017, True, 32, 12.0))


@dataclass(frozen=True)
class Work:
    """`floats` FLOPs, and `read` bytes of weights that a generation reads one token after another."""

    name: str
    steps: int
    tokens: float
    floats: float
    read: float = 0
    counted: tuple[float, float] = (0.0, 0.0)  # hours on an H100 from the counts, before and after

    def hours(self, gpu: str, utilisation: float) -> float:
        peak, bandwidth = PEAKS[gpu]
        return (self.floats / (utilisation * peak) + self.read / bandwidth) / 3600


def tokens_of(rows: tuple[int, int]) -> int:
    """Tokens of one pass over (rows with a picture, questions)."""
    return rows[0] * PICTURE + rows[1] * QUESTION


def finetuning(name: str, rows: tuple[int, int]) -> Work:
    tokens, steps = EPOCHS_FINETUNE * tokens_of(rows), EPOCHS_FINETUNE * -(-sum(rows) // BATCH_FINETUNE)
    floats = 4 * SHAPE.parameters * tokens
    before, after = (steps * form.seconds(floats / steps, (tokens / steps, 0), (1, 0)) / 3600 for form in FORMS)
    return Work(name, steps, tokens, floats, counted=(before, after))


def forgetting(method: str) -> Work:
    """Rows of all of the method's views: the student's forward and backward, the teacher's forward. A retain partner is
    as long as a forget row on average."""
    built = build_method(method)
    student = sum(view.k for view in built.student_views)
    teacher = sum(view.k for view in built.teacher_views)
    passes = EPOCHS_FORGET * tokens_of(FORGET)
    floats = SHAPE.parameters * passes * (4 * student + 2 * teacher)
    steps = EPOCHS_FORGET * -(-sum(FORGET) // BATCH_FORGET)
    tokens = passes * student / steps, passes * teacher / steps
    views = (built.student_views, built.teacher_views)
    hours = []
    for form in FORMS:  # the paper's steps are two micro-batches of one row
        forwards = [bool(some) if form.joined else BATCH_FORGET * modalities(some) for some in views]
        hours.append(steps * form.seconds(floats / steps, tokens, (forwards[0], forwards[1])) / 3600)
    return Work(method, steps, passes * (student + teacher), floats, counted=(hours[0], hours[1]))


def modalities(views: Sequence[View]) -> float:
    """How many kinds of rows, with a picture or without, a micro-batch of one item has on average: every second retain
    partner is of the other kind."""
    kinds = {view.name == "retain" for view in views}
    return (0, 1, 1.5)[len(kinds)]


def evaluation() -> Work:
    """The prompt once, all answers after it (docs/performance.md), a generation a batch at a time."""
    tokens = EVALUATED * (PICTURE + ANSWERS * ANSWER + GENERATED)
    batches, floats = -(-EVALUATED // BATCH_EVAL), 2 * SHAPE.parameters * tokens
    before, after = (
        (EVALUATED / form.rows * GENERATED * form.token / 1e3 + floats / (0.84 * 797e12)) / 3600 for form in FORMS
    )
    read = batches * GENERATED * 2 * SHAPE.parameters
    return Work("an evaluation", batches, tokens, floats, read, counted=(before, after))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of each method")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of the peak that is reached")
    options = parser.parse_args()
    once = [finetuning("base", FULL), finetuning("gold", GOLD)]
    methods, asked = [forgetting(name) for name in METHODS], evaluation()
    print("| worked out | steps | million tokens | PFLOP | hours on an A100 | on an H100 | counted, before | after |")
    print("|---|---|---|---|---|---|---|---|")
    for work in [*once, *methods, asked]:
        hours = [work.hours(gpu, options.utilisation) for gpu in PEAKS]
        show(work.name, f"{work.steps:,}", work, [*hours, *work.counted])
    jobs = options.seeds * len(methods)
    totals = []
    for gpu in PEAKS:
        trained = sum(work.hours(gpu, options.utilisation) for work in [*once, *options.seeds * methods])
        totals.append(trained + (jobs + len(once)) * asked.hours(gpu, options.utilisation))
    for form in (0, 1):
        trained = sum(work.counted[form] for work in [*once, *options.seeds * methods])
        totals.append(trained + (jobs + len(once)) * asked.counted[form])
    everything = f"{jobs} jobs, base, gold, {jobs + len(once)} evaluations"
    print(f"| **{everything}** | | | | {' | '.join(f'**{total:.0f}**' for total in totals)} |\n")
    whole, adapter = 2 * SHAPE.parameters / 1e9, 4 * SHAPE.adapter(8) / 1e9
    kept, passing = jobs * adapter, 3 * adapter
    print(f"GB of disk: {3 * whole:.0f} for the hub's weights, base and gold (bf16; the adapter is folded in),")
    print(f"{kept:.1f} for {jobs} adapters of {adapter:.2f}, {passing:.2f} for a run's checkpoint while it lasts,")
    print("0.6 for CLEAR and as much again for the cache of `datasets`.\n")
    llava, qwen = 336 // 14, round(1024 / 28)
    print(f"Tokens of a picture of 1024 pixels: LLaVA-1.5 {llava**2} (made 336 wide, {llava} x {llava} patches of 14);")
    print(f"Qwen2-VL {qwen**2:,} ({qwen} x {qwen} squares of 28; fewer where its processor's max_pixels is low).")


def show(name: str, steps: str, work: Work, hours: list[float]) -> None:
    cells = " | ".join(f"{value:.2f}" for value in hours)
    print(f"| {name} | {steps} | {work.tokens / 1e6:.1f} | {work.floats / 1e15:.0f} | {cells} |")


if __name__ == "__main__":
    main()
