"""Evaluation with and without the shared prefix: seconds, peak memory and forwarded tokens, as ratios of one run.

    python benchmarks/eval_scoring.py                 # random models of about 50 M parameters on a CPU, 7B and 2B on a GPU
    python benchmarks/eval_scoring.py --models llava --repeats 1

Every item has 576 image tokens, a short question and 7 answers, as in CLEAR. `plain` runs prompt, image and answer through
the model once per answer, then once more to generate; `shared` runs prompt and image once (unlearn/prefix.py). Both give
the same losses, which is checked. Weights are random: what is measured does not depend on them. On a CPU the seconds are
those of one thread's own processor time, so that other work on the machine does not count.
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from unlearn.collator import Collator, Prompt
from unlearn.generation import generate_greedy
from unlearn.prefix import read_prefix, score_answers, score_plain

ANSWERS, QUESTION, IMAGE_TOKENS, GENERATED = 7, 24, 576, 32
ANSWER_LENGTHS = (24, 44)  # tokens, from and to
IMAGE_ID = 5


class Padder(Collator):
    """A collator for prompts that are ids already: padding is all that is asked of it."""

    def __init__(self) -> None:
        self.tokenizer = SimpleNamespace(pad_token_id=0)
        self.image_token_id = IMAGE_ID


def llava(gpu: bool) -> tuple[Any, dict[str, torch.Tensor]]:
    """LLaVA-1.5 with 32k tokens, and the tensors of one picture of 336 pixels: 24 x 24 patches."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    text = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    if not gpu:
        vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4}
        text = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=336, patch_size=14, **vision),
        text_config=LlamaConfig(vocab_size=32064, max_position_embeddings=4096, **text),
        image_token_index=IMAGE_ID,
    )
    return LlavaForConditionalGeneration(config), {"pixel_values": torch.randn(1, 3, 336, 336)}


def qwen2vl(gpu: bool) -> tuple[Any, dict[str, torch.Tensor]]:
    """Qwen2-VL with 152k tokens, and the tensors of one picture of 672 pixels: 48 x 48 patches, merged two by two."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {"embed_dim": 1280, "num_heads": 16, "depth": 32, "mlp_ratio": 4}
    text = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
    if not gpu:
        vision = {"embed_dim": 128, "num_heads": 4, "depth": 6, "mlp_ratio": 4}
        text = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 10, "num_attention_heads": 4}
    head = text["hidden_size"] // text["num_attention_heads"]
    text |= {"num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 4096, "tie_word_embeddings": True}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16]}
    config = Qwen2VLConfig(
        vision_config={**vision, "hidden_size": text["hidden_size"], "patch_size": 14, "spatial_merge_size": 2},
        text_config={**text, "rope_parameters": rope}, image_token_id=IMAGE_ID, video_token_id=IMAGE_ID + 1,
        vision_start_token_id=IMAGE_ID + 2, vision_end_token_id=IMAGE_ID + 3, tie_word_embeddings=True,
    )  # fmt: skip
    picture = {"pixel_values": torch.randn(48 * 48, 3 * 2 * 14 * 14), "image_grid_thw": torch.tensor([[1, 48, 48]])}
    return Qwen2VLForConditionalGeneration(config), picture


def items(count: int, picture: dict[str, torch.Tensor]) -> tuple[list[Prompt], list[list[list[int]]]]:
    """`count` prompts (image, question) and ANSWERS answers of uneven length for each, of random tokens."""
    generator = torch.Generator().manual_seed(0)

    def words(length: int) -> list[int]:
        return torch.randint(100, 30000, (length,), generator=generator).tolist()

    def length() -> int:
        return int(torch.randint(*ANSWER_LENGTHS, (1,), generator=generator))

    prompts = [Prompt([IMAGE_ID] * IMAGE_TOKENS + words(QUESTION), picture) for _ in range(count)]
    return prompts, [[words(length()) for _ in range(ANSWERS)] for _ in prompts]


def measure(model: Any, work: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """The fastest of `repeats` runs in seconds, the peak memory above what was held before in MiB, tokens forwarded."""
    tokens: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, __, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True)
    seconds = []
    held = reset_peak()
    for _ in range(repeats):
        tokens.clear()
        began = clock()
        result = work()
        seconds.append(clock() - began)
    hook.remove()
    return {"seconds": min(seconds), "memory": peak() - held, "tokens": sum(tokens), "result": result}


def clock() -> float:
    """Seconds: of the wall when a GPU has finished, else of this process on the processor."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def reset_peak() -> float:
    """Forgets the peak so far and returns what is held now, in MiB."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier work freed goes back to the system first
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else status("VmHWM")


def status(field: str) -> float:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def compare(name: str, batch_size: int, repeats: int) -> list[str]:
    """Table lines for one model: the two forms, scores alone and scores with a generation."""
    gpu = torch.cuda.is_available()
    torch.manual_seed(0)
    if not gpu:
        torch.set_num_threads(1)
    else:
        torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if gpu else "cpu"):
        model, picture = {"llava": llava, "qwen2vl": qwen2vl}[name](gpu)
    model = model.eval()
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    prompts, answers = items(batch_size, {key: value.cpu() for key, value in picture.items()})
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
            lines.append(f"| {name}, {size:.0f} M | {task} | {form} | {facts['seconds']:.2f} | {facts['memory']:.0f} "
                         f"| {facts['tokens']} | {slow['seconds'] / facts['seconds']:.2f} |")  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["llava", "qwen2vl"], choices=["llava", "qwen2vl"])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, 1 thread"
    print(f"{where}, torch {torch.__version__}, batch of {options.batch_size} items\n")
    print("| model | work | form | seconds | peak MiB | forwarded tokens | faster than plain |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        print("\n".join(compare(name, options.batch_size, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
