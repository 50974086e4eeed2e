"""Micro-steps of mm/forget.py on one GPU, at the 7B shape: seconds, kernels, memory, how often memory ran short.

    python benchmarks/step_profile.py                 # npo b1 x 2, KL b8, DPO b8, each with and without cuDNN attention
    python benchmarks/step_profile.py --cases KL --overrides fused_lora=false liger=false
    python benchmarks/step_profile.py --tiny          # llava-mini on a CPU: the code, not the speed

The run is the project's own, in this process: settings, data, processor, trainer. LLaVA-1.5-7B has random weights, made
on the device and not loaded; its pictures and words are the embedded benchmark's, made 336 pixels wide (576 tokens).
Every micro-step is timed between two waits for the GPU; the last but one is profiled. Shapes are rows x tokens of the
inner forwards. `first` is the first micro-step, `worst` the slowest after the tenth against the median. What does not
fit is said to."""

import argparse
import contextlib
import functools
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from meters import clock, needs_gpu, or_none

from unlearn import ROOT

MINI = ROOT / "minibench" / "weights" / "llava-mini"
CASES = {
    "npo": ("npo b1 x 2", ["forget_loss=npo", "batch_size=1", "gradient_accumulation_steps=2"]),
    "KL": ("KL b8", ["forget_loss=KL", "batch_size=8"]),
    "dpo": ("DPO b8", ["forget_loss=dpo", "batch_size=8"]),
}
RUN = ["model_family=llava-mini", "save_model=false", "save_steps=0", "overwrite_dir=true", "logging_steps=1000000",
       "resume_from_checkpoint=false", "num_epochs=100", "compile=false"]  # fmt: skip


@dataclass
class Seen:
    """Of one run: seconds and shapes of each micro-step, kernels and GPU milliseconds of the profiled one."""

    last: int  # micro-steps
    seconds: list[float] = field(default_factory=list)
    shapes: list[list[str]] = field(default_factory=list)  # of the inner forwards, student and teacher
    kernels: int = 0
    busy: float = 0.0
    retries: int = 0
    peak: float = 0.0  # GiB


def seven_billion(folder: Path) -> Path:
    """A model folder of LLaVA-1.5-7B's config with llava-mini's tokens and a processor of 336 pixels, without
    weights."""
    for file in MINI.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder / file.name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"] |= {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "head_dim": 128,
                              "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
                              "max_position_embeddings": 4096, "tie_word_embeddings": False}  # fmt: skip
    config["vision_config"] |= {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                                "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
                                "projection_dim": 768}  # fmt: skip
    config |= {"image_seq_length": 576, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    processor = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    side = {"height": 336, "width": 336}
    processor["image_processor"] |= {"size": side, "crop_size": side}
    (folder / "processor_config.json").write_text(json.dumps({**processor, "patch_size": 14}), encoding="utf-8")
    return folder


def random_model(start: Any, *, dtype: torch.dtype, **_: Any) -> Any:
    """In place of `load_model`: random weights of the config, made on the device."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    kind = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cuda"):
            model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(start.base))
    finally:
        torch.set_default_dtype(kind)
    model.name_or_path = start.base
    return model.eval()


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Within it no file of weights is asked for or read."""
    from unlearn.models.start import Start
    from unlearn.training import build

    replaced = [(build, "load_model", random_model), (Start, "check", lambda self: None),
                (Start, "weights", lambda self, digests: "random")]  # fmt: skip
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, new in replaced:
            setattr(owner, name, new)
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)


@contextlib.contextmanager
def watched(seen: Seen) -> Iterator[None]:
    """Within it every micro-step of the trainer is timed, and one is profiled."""
    from unlearn.models.forward import StudentForward
    from unlearn.training.trainer import UnlearnTrainer

    real, lay_out = UnlearnTrainer.training_step, StudentForward.lay_out

    def laid_out(self: Any, views: Any) -> Any:
        layout = lay_out(self, views)
        seen.shapes[-1] += [" x ".join(map(str, chunk.inputs["input_ids"].shape)) for chunk in layout.chunks]
        return layout

    def training_step(self: Any, model: Any, inputs: Any, *more: Any) -> Any:
        seen.shapes.append([])
        profiled = len(seen.shapes) == seen.last - 1
        profiler: Any = torch.profiler.profile() if profiled else contextlib.nullcontext()
        began = clock()
        with profiler as found:
            loss = real(self, model, inputs, *more)
            took = clock() - began
        if profiled:
            devices = [event for event in found.events() if "cuda" in str(event.device_type).lower()]
            seen.kernels = len(devices) if torch.cuda.is_available() else len(found.events())
            seen.busy = sum(event.self_device_time_total for event in devices) / 1e3
        else:
            seen.seconds.append(took)
        return loss

    UnlearnTrainer.training_step = training_step  # type: ignore[method-assign, assignment]
    StudentForward.lay_out = laid_out  # type: ignore[method-assign]
    try:
        yield
    finally:
        UnlearnTrainer.training_step = real  # type: ignore[method-assign]
        StudentForward.lay_out = lay_out  # type: ignore[method-assign]


def run(overrides: list[str], last: int) -> Seen:
    """`python mm/forget.py <overrides>` in this process, watched."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from mm import track

    with initialize_config_dir(str(ROOT / "config"), version_base=None):
        config = compose("mm/forget", overrides=overrides)
    track.adapt("forget", config)
    values: Any = OmegaConf.to_container(config, resolve=True)
    seen = Seen(last)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats().get("num_alloc_retries", 0) if torch.cuda.is_available() else 0
    with watched(seen), contextlib.redirect_stdout(sys.stderr):  # the trainer prints too
        track.forget(track.settings("forget", values))
    if torch.cuda.is_available():
        seen.peak = torch.cuda.max_memory_allocated() / 2**30
        seen.retries = torch.cuda.memory_stats().get("num_alloc_retries", 0) - before
    return seen


def line(title: str, cudnn: str, seen: Seen | None) -> str:
    if seen is None:
        return f"| {title} | {cudnn} | does not fit" + " |" * 8
    later = seen.seconds[10:] or seen.seconds[1:] or seen.seconds
    middle = statistics.median(later)
    cells = [title, cudnn, f"{middle:.3f}", f"{seen.seconds[0]:.2f}", f"{max(later) / middle:.1f} x",
             f"{seen.kernels:,}", f"{seen.busy:.0f}", f"{seen.peak:.1f}",
             str(seen.retries), ", ".join(seen.shapes[-1])]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, default=16, help="micro-steps of a run")
    parser.add_argument("--overrides", nargs="*", default=[], help="further settings of mm/forget.py")
    parser.add_argument("--tiny", action="store_true", help="llava-mini, on any machine")
    options = parser.parse_args()
    needs_gpu(options.tiny)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{where}, torch {torch.__version__}, {'llava-mini' if options.tiny else 'LLaVA-1.5-7B, random weights'}\n")
    columns = ("run", "cuDNN attention", "s a micro-step", "first", "worst", "kernels", "GPU ms", "peak GiB", "retries",
               "shapes of the last")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    with tempfile.TemporaryDirectory() as made, contextlib.nullcontext() if options.tiny else without_weights():
        folder = MINI if options.tiny else seven_billion(Path(made))
        for case in options.cases:
            title, settings = CASES[case]
            steps = options.steps // (2 if "gradient_accumulation_steps=2" in settings else 1)
            for cudnn in ("false",) if options.tiny else ("false", "true"):
                run_of = [*RUN, *settings, f"model_path={folder}", f"save_dir={made}/{case}", f"max_steps={steps}",
                          f"cudnn_attention={cudnn}", *options.overrides]  # fmt: skip
                print(line(title, cudnn, or_none(functools.partial(run, run_of, options.steps))), flush=True)


if __name__ == "__main__":
    main()
