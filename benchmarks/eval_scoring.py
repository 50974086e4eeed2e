"""Evaluation with and without the shared prefix, decoding with and without steps of fixed shape: seconds, peak memory
and forwarded tokens, as ratios of one run.

    python benchmarks/eval_scoring.py                 # about 50 M parameters on a CPU, 7B and 2B on a GPU
    python benchmarks/eval_scoring.py --models llava --repeats 1
    python benchmarks/eval_scoring.py --batch-size 8 32 64 --repeats 1       # on a GPU

The first table is what a decoded token costs: over a cache that grows (`growing`) and by steps of fixed shape, which a
GPU plays back (`fixed`; unlearn/evaluation/recorded.py). Its prompts have lengths that the warm-up has not seen;
`first` is that warm-up, the recording included.

Every item has 576 image tokens, a short question and 7 answers, as in CLEAR. `plain` runs prompt, image and answer
through the model once per answer, then once more to generate; `shared` runs them once (unlearn/evaluation/prefix.py).
Both give the same losses, which is checked. Weights are random: what is measured does not depend on them. On a CPU the
seconds are those of one thread's own processor time, so that other work on the machine does not count.
"""

import argparse
import gc
from collections.abc import Callable
from typing import Any

import torch
from meters import clock, peak, reset_peak
from shapes import IMAGE_ID, IMAGE_TOKENS, MODELS, Padder, build, token_kinds

from unlearn.data.collator import Prompt
from unlearn.evaluation.generation import generate_greedy
from unlearn.evaluation.growing import decode_growing
from unlearn.evaluation.prefix import read_prefix, score_answers, score_plain
from unlearn.evaluation.recorded import Steps, decode_fixed
from unlearn.evaluation.sampling import likeliest

ANSWERS, QUESTION, GENERATED = 7, 24, 32
UNSEEN = (31, 27, 38)  # question tokens that no warm-up has
ANSWER_LENGTHS = (24, 44)  # tokens, from and to


def items(
    count: int, picture: dict[str, torch.Tensor], question: int = QUESTION
) -> tuple[list[Prompt], list[list[list[int]]]]:
    """`count` prompts (image, question) and ANSWERS answers of uneven length for each, of random tokens."""
    generator = torch.Generator().manual_seed(0)

    def words(length: int) -> list[int]:
        return torch.randint(100, 30000, (length,), generator=generator).tolist()

    def length() -> int:
        return int(torch.randint(*ANSWER_LENGTHS, (1,), generator=generator))

    kinds = token_kinds(picture, question)
    prompts = [Prompt([IMAGE_ID] * IMAGE_TOKENS + words(question), picture, b"", kinds) for _ in range(count)]
    return prompts, [[words(length()) for _ in range(ANSWERS)] for _ in prompts]


def measure(model: Any, work: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """The fastest of `repeats` runs in seconds, the peak memory above what was held before in MiB, tokens forwarded."""
    tokens: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    seconds = []
    held = reset_peak()
    for _ in range(repeats):
        tokens.clear()
        began = clock()
        result = work()
        seconds.append(clock() - began)
    hook.remove()
    return {"seconds": min(seconds), "memory": peak() - held, "tokens": sum(tokens), "result": result}


def compare(name: str, model: Any, picture: dict[str, torch.Tensor], batch_size: int, repeats: int) -> list[str]:
    """Table lines for one model: the two forms, scores alone and scores with a generation."""
    gpu = torch.cuda.is_available()
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    prompts, answers = items(batch_size, picture)
    padder = Padder()

    def read() -> Any:
        return read_prefix(model, padder.pad([(prompt, ()) for prompt in prompts])["inputs"])

    def generate(prefix: Any) -> Any:
        return generate_greedy(model, prefix, max_new_tokens=GENERATED, stop_ids=frozenset())

    def plain(generates: bool) -> Any:
        scores = score_plain(model, padder, prompts, answers, rows_per_forward=batch_size)
        return scores, generate(read()) if generates else None

    def shared(generates: bool) -> Any:
        prefix = read()
        scores = score_answers(model, prefix, answers, rows_per_forward=max(8, 2 * batch_size))
        return scores, generate(prefix) if generates else None

    lines = []
    shared(True)  # warm-up
    for task, generates in (("7 answers", False), (f"7 answers and {GENERATED} generated tokens", True)):
        slow = measure(model, lambda: plain(generates), repeats)  # noqa: B023  # called at once
        fast = measure(model, lambda: shared(generates), repeats)  # noqa: B023
        pairs = [(a.loss, b.loss) for x, y in zip(slow["result"][0], fast["result"][0], strict=True)
                 for a, b in zip(x, y, strict=True)]  # fmt: skip
        worst = max(abs(a - b) / a for a, b in pairs)
        assert worst < (5e-3 if gpu else 1e-5), f"the two forms disagree: {worst}"
        for form, facts in (("plain", slow), ("shared", fast)):
            ratio = slow["seconds"] / facts["seconds"]
            lines.append(
                f"| {name}, {size:.0f} M | {batch_size} | {task} | {form} | {facts['seconds']:.2f} "
                f"| {facts['memory']:.0f} | {facts['tokens']} | {ratio:.2f} |"
            )
    return lines


def decoding(name: str, model: Any, picture: dict[str, torch.Tensor], batch_size: int, repeats: int) -> list[str]:
    """Table lines for one model: milliseconds a decoded token of a batch, prompts read before."""
    how: dict[str, Any] = {"max_new_tokens": 64 if torch.cuda.is_available() else GENERATED, "stop_ids": frozenset()}
    steps = Steps()
    forms: dict[str, Callable[[Any], Any]] = {
        "growing": lambda prefix: decode_growing(model, prefix, None, likeliest, None, **how),
        "fixed": lambda prefix: decode_fixed(model, prefix, None, likeliest, None, **how, steps=steps),
    }
    times: dict[str, list[float]] = {form: [] for form in forms}
    for question in (QUESTION - 9, *UNSEEN[: max(1, repeats)]):
        prompts, _ = items(batch_size, picture, question)
        prefix = read_prefix(model, Padder().pad([(prompt, ()) for prompt in prompts])["inputs"])
        for form, generate in forms.items():
            began = clock()
            generate(prefix)
            times[form].append(1e3 * (clock() - began) / how["max_new_tokens"])
    slow = min(times["growing"][1:])
    return [
        f"| {name} | {batch_size} | {form} | {own[0]:.1f} | {min(own[1:]):.1f} | {slow / min(own[1:]):.2f} |"
        for form, own in times.items()
    ]


def table(head: str, lines: Callable[..., list[str]], options: argparse.Namespace) -> None:
    """Prints a table with the lines of each model and batch size, or that it does not fit."""
    print(head)
    print("|---" * (head.count("|") - 1) + "|")
    for name in options.models:
        model, picture = build(name, 2 if options.tiny else None)
        for batch_size in options.batch_size:
            try:
                found = lines(name, model, picture, batch_size, options.repeats)
            except torch.OutOfMemoryError:
                found = [f"| {name} | {batch_size} | does not fit |"]
            print("\n".join(found), flush=True)
            gc.collect()
            torch.cuda.empty_cache()
        del model
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batch-size", type=int, nargs="+", default=[4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="two decoder blocks")
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, 1 thread"
    print(f"{where}, torch {torch.__version__}\n")
    table("| model | batch | decoding | first, ms a token | ms a token | faster than growing |", decoding, options)
    head = "| model | batch | work | form | seconds | peak MiB | forwarded tokens | faster than plain |"
    table(head, compare, options)


if __name__ == "__main__":
    main()
