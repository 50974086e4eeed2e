"""Memory per GPU of a forget step, worked out: weights, gradients, optimiser states, the teacher, gathered blocks,
activations.

    python benchmarks/memory_model.py              # the table of docs/scaling.md, for 8 GPUs
    python benchmarks/memory_model.py --gpus 32 --rows 16

Counted are bytes that must be there, in bf16 with AdamW (fp32 states) and gradient_checkpointing=true. Not counted: the
CUDA context, fragmentation and the allocator's reserve; keep a tenth free.
"""

import argparse
from dataclasses import dataclass

GIB = 2**30
ENGINES = ("DDP", "ZeRO-2", "FSDP2 / ZeRO-3")
MODES = ("QLoRA", "LoRA", "full")


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
        return self.linears + 2 * self.vocabulary * self.width + self.vision

    def adapter(self, rank: int) -> int:
        """Weights of a LoRA on every linear of the blocks: rank * (inputs + outputs) each."""
        sides = 2 * (2 * self.width) + 2 * (self.width + self.keys) + 3 * (self.width + self.mlp)
        return self.layers * rank * sides


SHAPES = (
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


def passing(shape: Shape, engine: str, mode: str, *, rows: int, tokens: int, answer: int) -> float:
    """Bytes per GPU that come and go: each block's input, one block's inside, logits, and blocks gathered from their
    parts.

    rows: of all views together. tokens: prompt, image and answer. answer: tokens that have logits.
    """
    kept = shape.layers * rows * tokens * shape.width * 2
    inside = rows * tokens * (10 * shape.width + 4 * shape.mlp) * 2
    logits = rows * answer * shape.vocabulary * (2 + 4 + 4)  # bf16, fp32, gradient
    gathered = 0.0
    if engine == "FSDP2 / ZeRO-3" and mode != "QLoRA":  # two blocks (one ahead), and embeddings and head throughout
        gathered = 2 * (2 * shape.block + 2 * shape.vocabulary * shape.width)
    return kept + inside + logits + gathered


def per_gpu(
    shape: Shape, engine: str, mode: str, gpus: int, *, rows: int = 8, tokens: int = 700, answer: int = 64
) -> float:
    """GiB per GPU at the peak of a step."""
    return (
        states(shape, engine, mode, gpus) + passing(shape, engine, mode, rows=rows, tokens=tokens, answer=answer)
    ) / GIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=8, help="GPUs over which an engine cuts up")
    parser.add_argument("--rows", type=int, default=8, help="rows of all views on a GPU")
    options = parser.parse_args()
    columns = [(mode, engine) for mode in MODES for engine in (ENGINES[:1] if mode == "QLoRA" else ENGINES)]
    print("| GiB per GPU | " + " | ".join(f"{mode}, {engine}" for mode, engine in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for shape in SHAPES:
        cells = [f"{per_gpu(shape, engine, mode, options.gpus, rows=options.rows):.0f}" for mode, engine in columns]
        print(f"| {shape.name}, {shape.parameters / 1e9:.1f}e9 | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
