"""A forget step of this project against a plain one: seconds an item, peak memory, ratios, all in one run.

    python benchmarks/forget_step.py         # about 50 M parameters on a CPU, 7B and 2B on a GPU
    python benchmarks/forget_step.py --models llava --methods npo --repeats 1

Half of the forget items and half of their retain partners have a picture of 576 tokens, the others are text. `plain`
(benchmarks/plain_step.py) shuffles them into batches; ours composes batches by modality (unlearn/data/views.py). LoRA r
8 on the language model, AdamW; the optimiser's step is part of both. "first epoch" starts with no teacher score kept,
"later epochs" with all of them. Each repeat runs every form in turn; given are the fastest of each. On a CPU the
seconds are processor time of one thread, and the peak is the resident memory that a process of its own adds from before
it builds its models to the end of a round; on a GPU it is what is allocated at most. What does not fit is said to."""

import argparse
import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from meters import alone, clock, exact_memory, matrix_rate, peak, reset_peak
from plain_step import plain_loss
from shapes import IMAGE_ID, IMAGE_TOKENS, MODELS, Padder, build, token_kinds

from unlearn.config.settings import LoraSettings
from unlearn.data.collator import Prompt
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.lora import prepare_trainable
from unlearn.registry import build_method
from unlearn.training.teacher import Teacher

METHODS = ("npo", "KL", "grad_diff", "dpo", "SKU")
KINDS = ("plain", "first epoch", "later epochs")
QUESTION, ANSWER_LENGTHS = 24, (24, 44)  # tokens
OTHER_ANSWERS = 3  # SKU's k
Row = tuple[Prompt, list[int]]
Item = dict[str, list[Row]]  # view -> rows, which are SKU's three other answers for "random", else one


def make_items(count: int, picture: dict[str, torch.Tensor]) -> list[Item]:
    """`count` forget items with their retain partners: first those with a picture, then as many without; partners
    alternate. A refusal (`idk`) and other items' answers (`random`) are asked for by the forget item's prompt."""
    generator = torch.Generator().manual_seed(0)

    def words(length: int) -> list[int]:
        return torch.randint(100, 30000, (length,), generator=generator).tolist()

    def answer() -> list[int]:
        return words(int(torch.randint(*ANSWER_LENGTHS, (1,), generator=generator)))

    def row(image: bool) -> Row:
        prompt = Prompt(words(QUESTION))
        if image:
            kinds = token_kinds(picture, QUESTION)
            prompt = Prompt([IMAGE_ID] * IMAGE_TOKENS + prompt.ids, picture, b"a picture", kinds)
        return prompt, answer()

    items: list[Item] = [{"forget": [row(i < count // 2)], "retain": [row(i % 2 == 0)]} for i in range(count)]
    for item in items:
        prompt = item["forget"][0][0]
        item |= {"idk": [(prompt, answer())], "random": [(prompt, answer()) for _ in range(OTHER_ANSWERS)]}
    return items


class Forms:
    """Both forms of the step on one student; `teacher_copy` is the plain form's second model."""

    layers: int | None = None  # decoder blocks, None for all

    def __init__(self, name: str, method: str, batch_size: int, *, plain: bool = True) -> None:
        model, picture = build(name, self.layers)
        self.size = sum(parameter.numel() for parameter in model.parameters())
        self.device = next(model.parameters()).device
        self.teacher_copy = copy.deepcopy(model).requires_grad_(False) if plain else None
        self.method_name, self.method = method, build_method(method)
        self.model = prepare_trainable(model, LoraSettings(r=8, init_noise=0.01), freeze_vision=True)
        self.student = StudentForward(self.model).train()
        self.teacher = Teacher.of(self.student, sums_only=self.method.teacher_sums_only)
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-5)
        self.items, self.batch_size, self.padder = make_items(2 * batch_size, picture), batch_size, Padder()
        self.views = [view.name for view in self.method.student_views]

    def batches(self, order: list[int]) -> Iterator[dict[str, list[Row]]]:
        for start in range(0, len(order), self.batch_size):
            chosen = [self.items[place] for place in order[start : start + self.batch_size]]
            # answer-major, as Scored.chunk wants several answers of an item
            yield {
                view: [row for rows in zip(*(item[view] for item in chosen), strict=True) for row in rows]
                for view in self.views
            }

    def ours(self) -> None:
        """One pass over the items, batches by modality: the items are in that order."""
        for batch in self.batches(list(range(len(self.items)))):
            self.update(lambda b=batch: self.our_loss(b))  # type: ignore[misc]

    def plain(self) -> None:
        """One pass over the same items, each batch half pictures and half text, as a shuffle gives it on average."""
        half = len(self.items) // 2
        for batch in self.batches([place for i in range(half) for place in (i, half + i)]):
            self.update(lambda b=batch: self.plain_loss(b))  # type: ignore[misc]

    def our_loss(self, batch: dict[str, list[Row]]) -> torch.Tensor:
        views = {view: self.padder.arrange(rows) for view, rows in batch.items()}
        taught: dict[str, Any] = {view.name: views[view.name] for view in self.method.teacher_views}
        student = score_views(self.student(views))
        return torch.stack(list(self.method.loss(student, self.teacher.score(taught)).values())).sum()

    def plain_loss(self, batch: dict[str, list[Row]]) -> torch.Tensor:
        views = self.moved({view: self.padder.pad(rows) for view, rows in batch.items()})
        return plain_loss(self.method_name, self.model, self.teacher_copy, views)

    def update(self, loss: Callable[[], torch.Tensor]) -> None:
        gpu = self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if gpu else contextlib.nullcontext():
            value = loss()
        value.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def moved(self, tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: self.moved(value) for key, value in tree.items()}
        return tree.to(self.device) if isinstance(tree, torch.Tensor) else tree

    def forget_scores(self) -> None:
        """Back to the start of the first epoch."""
        if self.teacher.cache is not None:
            self.teacher.cache.scores.clear()


def timed(forms: Forms, repeats: int, kinds: Sequence[str]) -> dict[str, float]:
    """Seconds a pass of each form: the fastest of `repeats`, which take turns."""
    kept = forms.teacher.cache is not None
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        for form in (kind for kind in kinds if kept or kind != "later epochs"):
            if form == "first epoch":
                forms.forget_scores()
            began = clock()
            forms.plain() if form == "plain" else forms.ours()
            seconds.setdefault(form, []).append(clock() - began)
    return {form: min(values) for form, values in seconds.items()}


def peak_memory(name: str, method: str, batch_size: int, form: str) -> float:
    """MiB that one form holds at most during a pass, its model or models and optimiser states included."""
    if not torch.cuda.is_available():
        exact_memory()
    held = reset_peak()
    forms = Forms(name, method, batch_size, plain=form == "plain")
    for _ in range(2):  # the first pass makes the optimiser's states and, for later epochs, the teacher's scores
        if form == "first epoch":
            forms.forget_scores()
        reset_peak()
        forms.plain() if form == "plain" else forms.ours()
    return peak() - held


def preload() -> None:
    """Imports and first-time work of the libraries, so that a forked process does not count their code as its
    memory."""
    import peft  # noqa: F401

    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    torch.optim.AdamW([weight]).step()
    for make in MODELS.values():
        with torch.device("meta"):
            make(False)


def speeds(name: str, method: str, batch_size: int, repeats: int, kinds: Sequence[str]) -> dict[str, Any]:
    """Seconds of each form and what it is worth: parameters, real tokens of a pass, and on a GPU the FLOPs of our
    passes."""
    forms = Forms(name, method, batch_size, plain="plain" in kinds)
    timed(forms, 1, kinds)  # warm-up
    facts = {"size": forms.size, "seconds": timed(forms, repeats, kinds), "items": len(forms.items), "flops": {}}
    rows = [row for item in forms.items for view in forms.views for row in item[view]]
    facts["tokens"] = sum(len(prompt.ids) + len(answer) for prompt, answer in rows)
    if forms.device.type == "cuda" and "plain" not in kinds:
        from torch.utils.flop_counter import FlopCounterMode

        forms.forget_scores()
        for form in ("first epoch", "later epochs"):
            with FlopCounterMode(display=False) as counter:
                forms.ours()
            facts["flops"][form] = counter.get_total_flops()
    return facts


def compare(name: str, method: str, batch_size: int, repeats: int, rate: float | None) -> Iterator[str]:
    """Table lines for one model and method."""
    # on a GPU plain and ours are not there together, and one that does not fit leaves the other alone
    groups = [KINDS[:1], KINDS[1:]] if rate else [KINDS]
    found = [(kinds, alone(speeds, name, method, batch_size, repeats, kinds)) for kinds in groups]
    seconds = {form: value for _, facts in found if facts for form, value in facts["seconds"].items()}
    work = {form: flops for _, facts in found if facts for form, flops in facts["flops"].items()}
    memory = {form: alone(peak_memory, name, method, batch_size, form) for form in seconds}
    for kinds, facts in found:
        if facts is None:
            yield f"| {name} | {method} | {'plain' if 'plain' in kinds else 'ours'} | does not fit" + " |" * (
                6 if rate else 4
            )
        for form in facts["seconds"] if facts else ():
            title = form if form == "plain" else "ours" if "later epochs" not in memory else f"ours, {form}"
            cells = [f"{name}, {facts['size'] / 1e6:.0f} M", method, title, f"{seconds[form] / facts['items']:.3f}",
                     ratio(memory[form], 1, 0), ratio(seconds[form], seconds.get("plain")),
                     ratio(memory[form], memory.get("plain"))]  # fmt: skip
            if rate:
                flops = work.get(form, work.get("first epoch"))  # what else plain does is waste
                cells += [f"{facts['tokens'] / seconds[form]:.0f}"]
                cells += [f"{100 * flops / seconds[form] / rate:.0f} %" if flops else ""]
            yield "| " + " | ".join(cells) + " |"


def ratio(value: float | None, base: float | None, digits: int = 2) -> str:
    return "does not fit" if value is None else "" if base is None else f"{value / base:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS[:3]), choices=METHODS, help="npo KL grad_diff")
    gpu = torch.cuda.is_available()
    parser.add_argument("--batch-size", type=int, default=4 if gpu else 2)
    parser.add_argument("--repeats", type=int, default=5 if gpu else 3)
    parser.add_argument("--tiny", action="store_true", help="two decoder blocks")
    options = parser.parse_args()
    Forms.layers = 2 if options.tiny else None
    preload()
    rate = matrix_rate() if gpu else None
    where = f"{torch.cuda.get_device_name()}, {rate / 1e12:.0f} TFLOP/s in bf16" if rate else "CPU, 1 thread"
    print(f"{where}, torch {torch.__version__}, batches of {options.batch_size} forget items\n")
    columns = ["model", "method", "step", "seconds an item", "peak MiB", "time / plain", "memory / plain"]
    columns += ["tokens/s", "model-FLOP utilisation"] if gpu else []
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for name in options.models:
        for method in options.methods:
            for line in compare(name, method, options.batch_size, options.repeats, rate):
                print(line, flush=True)


if __name__ == "__main__":
    main()
