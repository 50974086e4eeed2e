"""Memory per GPU of a forget step, worked out: weights, gradients, optimiser states, the teacher, gathered blocks,
activations.

    python benchmarks/memory_model.py              # the table of docs/scaling.md, for 8 GPUs
    python benchmarks/memory_model.py --gpus 32 --rows 16
    python benchmarks/memory_model.py --checkpointing mlp --liger

Counted are bytes that must be there, in bf16 with AdamW (fp32 states). Not counted: the CUDA context, fragmentation and
the allocator's reserve; keep a tenth free. Below the table: how many rows fill one GPU under each option. What a block
keeps agrees with the bytes that autograd is seen to keep (benchmarks/kernel_meter.py) to 10 %: tests/test_dispatch.py.
"""

import argparse
from dataclasses import dataclass

GIB = 2**30
ENGINES = ("DDP", "ZeRO-2", "FSDP2 / ZeRO-3")
MODES = ("QLoRA", "LoRA", "full")
CHECKPOINTING = ("false", "mlp", "true")


@dataclass(frozen=True)
class Shape:
    """A decoder with a vision tower. `keys` is the width of keys and values (fewer heads than queries in the large
    ones)."""

    name: str
    layers: int
    width: int
    mlp: int
    keys: int
    vocabulary: int
    vision: float  # parameters of the tower and the projector
    tied: bool = False  # the head is the embeddings

    @property
    def block(self) -> int:
        """Weights of one decoder block: query and output, key and value, the three of the MLP."""
        return 2 * self.width**2 + 2 * self.width * self.keys + 3 * self.width * self.mlp

    @property
    def linears(self) -> int:
        """Weights that can be quantised: those of the blocks."""
        return self.layers * self.block

    @property
    def parameters(self) -> float:
        return self.linears + (1 if self.tied else 2) * self.vocabulary * self.width + self.vision

    def adapter(self, rank: int) -> int:
        """Weights of a LoRA on every linear of the blocks: rank * (inputs + outputs) each."""
        sides = 2 * (2 * self.width) + 2 * (self.width + self.keys) + 3 * (self.width + self.mlp)
        return self.layers * rank * sides


SHAPES = (
    Shape("2B (Qwen2-VL)", 28, 1536, 8960, 256, 151936, 0.675e9, tied=True),
    Shape("7B (LLaVA-1.5)", 32, 4096, 11008, 4096, 32064, 0.325e9),
    Shape("13B (LLaVA-1.5)", 40, 5120, 13824, 5120, 32064, 0.335e9),
    Shape("34B (LLaVA-NeXT)", 60, 7168, 20480, 1024, 64000, 0.363e9),
    Shape("72B (Qwen2-VL)", 80, 8192, 29568, 1024, 152064, 0.675e9),
)


def states(shape: Shape, engine: str, mode: str, gpus: int, *, rank: int = 8, teacher: bool = True) -> float:
    """Bytes per GPU that last over a step: weights, gradients, AdamW's two moments, and the teacher's copy if there is
    one.

    `teacher` counts with `full` only: with an adapter the teacher is the same weights with the adapter off.
    """
    trained = shape.parameters if mode == "full" else shape.adapter(rank)
    parts = gpus if engine == "FSDP2 / ZeRO-3" else 1
    frozen = 0.0
    if mode == "LoRA":
        frozen = 2 * shape.parameters / parts  # bf16
    elif mode == "QLoRA":  # 4 bits and a scale of 8 bits per 64 weights in the blocks, bf16 elsewhere; never cut up
        frozen = (0.5 + 1 / 64) * shape.linears + 2 * (shape.parameters - shape.linears)
    if (
        engine == "DDP"
    ):  # fp32 weights, gradients and moments; autocast's bf16 copy; DDP's buckets hold the gradients again
        return frozen + trained * (4 + 4 + 8 + 2 + 4) + (4 * shape.parameters if mode == "full" and teacher else 0)
    if (
        engine == "ZeRO-2"
    ):  # bf16 weights whole; gradients (bf16), fp32 weights and moments in parts; the teacher in bf16
        return frozen + trained * (2 + (2 + 4 + 8) / gpus) + (2 * shape.parameters if mode == "full" and teacher else 0)
    return frozen + trained * (4 + 4 + 8) / gpus + (4 * shape.parameters / gpus if mode == "full" and teacher else 0)


def kept_bytes(
    shape: Shape, *, checkpointing: str = "false", liger: bool = False, casts: bool = False, masked: bool = True
) -> int:
    """Bytes that one decoder block keeps of one token for the backward pass, in bf16 with LoRA on its linears.

    masked: rows hold several sequences or answers; under a mask keys and values are repeated for each query's head.
    casts: PEFT casts each adapter's input to fp32, as it does by itself; every adapted layer then keeps a copy.
    """
    if checkpointing == "true":
        return 2 * shape.width  # the block's input
    norms = 2 * (2 if liger else 4) * shape.width  # their inputs: Liger's as they are, else in fp32
    keys = shape.width if masked else shape.keys
    attention = 2 * (3 * shape.width + 2 * keys)  # its input, queries, keys, values, its output
    mlp = 2 * shape.width  # its input
    if checkpointing == "false":
        mlp += (
            2 * (3 if liger else 4) * shape.mlp
        )  # gate, up, product; the gate's SiLU too where it is a kernel of its own
    if casts:  # of the inputs of q, k, v and of gate, up two and one copies more; of o's, which the attention keeps too
        attention += 2 * 3 * shape.width
        mlp += 2 * shape.width if checkpointing == "false" else 0
    return norms + attention + mlp


def passing(
    shape: Shape, engine: str, mode: str, *, rows: int, tokens: int, answer: int, checkpointing: str = "true",
    liger: bool = False,
) -> float:  # fmt: skip
    """Bytes per GPU that come and go: what each block keeps, one block's inside where it is computed anew, logits, and
    blocks gathered from their parts.

    rows: of all views together. tokens: prompt, image and answer. answer: tokens that have logits.
    """
    kept = shape.layers * rows * tokens * kept_bytes(shape, checkpointing=checkpointing, liger=liger)
    inside = rows * tokens * (10 * shape.width + 4 * shape.mlp) * 2
    logits = rows * answer * shape.vocabulary * (2 + 4 + 4)  # bf16, fp32, gradient
    gathered = 0.0
    if engine == "FSDP2 / ZeRO-3" and mode != "QLoRA":  # two blocks (one ahead), and embeddings and head throughout
        gathered = 2 * (2 * shape.block + 2 * shape.vocabulary * shape.width)
    return kept + inside + logits + gathered


def per_gpu(
    shape: Shape, engine: str, mode: str, gpus: int, *, rows: int = 8, tokens: int = 700, answer: int = 64,
    checkpointing: str = "true", liger: bool = False,
) -> float:  # fmt: skip
    """GiB per GPU at the peak of a step."""
    moving = passing(
        shape, engine, mode, rows=rows, tokens=tokens, answer=answer, checkpointing=checkpointing, liger=liger
    )
    return (states(shape, engine, mode, gpus) + moving) / GIB


def rows_that_fit(shape: Shape, mode: str, gib: float, *, tokens: int, checkpointing: str, liger: bool) -> int:
    """How many rows of a step one GPU takes, a tenth of its memory left free."""

    def needed(rows: int) -> float:
        return per_gpu(shape, "DDP", mode, 1, rows=rows, tokens=tokens, checkpointing=checkpointing, liger=liger)

    free = 0.9 * gib - needed(0)
    return max(0, int(free / (needed(1) - needed(0))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=8, help="GPUs over which an engine cuts up")
    parser.add_argument("--rows", type=int, default=8, help="rows of all views on a GPU")
    parser.add_argument("--checkpointing", choices=CHECKPOINTING, default="true")
    parser.add_argument("--liger", action="store_true")
    parser.add_argument("--gib", type=float, default=80, help="memory of one GPU, of the second table")
    options = parser.parse_args()
    how = {"rows": options.rows, "checkpointing": options.checkpointing, "liger": options.liger}
    columns = [(mode, engine) for mode in MODES for engine in (ENGINES[:1] if mode == "QLoRA" else ENGINES)]
    print("| GiB per GPU | " + " | ".join(f"{mode}, {engine}" for mode, engine in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for shape in SHAPES:
        cells = [f"{per_gpu(shape, engine, mode, options.gpus, **how):.0f}" for mode, engine in columns]
        print(f"| {shape.name}, {shape.parameters / 1e9:.1f}e9 | " + " | ".join(cells) + " |")
    forms = [(checkpointing, liger) for liger in (False, True) for checkpointing in CHECKPOINTING]
    titles = [f"{checkpointing}{', liger' if liger else ''}" for checkpointing, liger in forms]
    print(
        f"\nRows of 650 tokens that {options.gib:g} GiB take, and KB that a block keeps of a token, by "
        "gradient_checkpointing:\n"
    )
    print(f"| | {' | '.join(titles)} |\n{'|---' * (len(forms) + 1)}|")
    for shape in SHAPES[:2]:
        for mode in ("LoRA", "full"):
            cells = [
                str(rows_that_fit(shape, mode, options.gib, tokens=650, checkpointing=c, liger=g)) for c, g in forms
            ]
            print(f"| {shape.name}, {mode} | {' | '.join(cells)} |")
        cells = [f"{kept_bytes(shape, checkpointing=c, liger=g) / 1e3:.0f}" for c, g in forms]
        print(f"| {shape.name}, KB | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
