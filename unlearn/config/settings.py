"""Every setting of every script, a frozen dataclass each, with the defaults. Below the scripts nothing sees Hydra."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from unlearn.config.build import at_least, build_settings, choice, inert
from unlearn.config.eco import EcoSettings
from unlearn.config.stress import LeakSettings, RelearnSettings
from unlearn.plugins import load_plugins

T = TypeVar("T")


@dataclass(frozen=True)
class LoraSettings:
    """`r: 0` is full finetuning. `targets`: the language model's linears but for the head, or `all` (published)."""

    r: int = at_least(8, 0, 65_536)
    alpha: float = at_least(32, 0, 1e6)
    dropout: float = at_least(0.0, 0, 0.99)
    targets: str = choice("language", "all")
    layers: list[int] | None = None  # decoder blocks that are trained, from 0; null: all (a method may know better)
    init_noise: float = at_least(0.0, 0, 1e3)  # std of a seeded start for B, for losses stationary at the teacher


@dataclass(frozen=True)
class OwnDataSettings:
    """A folder of people (docs/request.md): `forget` and `holdout` are names, or a file with one a line."""

    path: str | None = None
    forget: list[str] | str = field(default_factory=list)
    holdout: list[str] | str = field(default_factory=list)
    seed: int = at_least(0, 0, 2**32 - 1)  # of the wrong answers that people lend one another


@dataclass(frozen=True)
class TrainSettings:
    """What finetune and forget share."""

    model_family: str = "llava-mini"
    plugins: list[str] = field(default_factory=list)  # files, folders or modules from outside the project
    LoRA: LoraSettings = field(default_factory=LoraSettings)
    lr: float = at_least(1e-5, 0, 1e3)
    weight_decay: float = at_least(0.01, 0, 1e3)
    num_epochs: float = at_least(3, 0, 1e4)
    max_steps: int | None = at_least(None, 1, 10**9)  # stop earlier than num_epochs would
    batch_size: int = at_least(4, 1, 10**6)  # per device
    gradient_accumulation_steps: int = at_least(1, 1, 10**6)
    global_batch_size: int | None = at_least(None, 1, 10**9)  # of one step over all devices: accumulation follows
    tokens_per_forward: int = at_least(8192, 1, 10**9)  # that the batches of a step may share a forward with
    max_length: int = at_least(2048, 1, 10**7)
    warmup_epochs: float = at_least(1.0, 0, 1e4)
    lr_scheduler: str = choice("linear", "cosine", "constant", "constant_with_warmup")
    max_grad_norm: float = at_least(1.0, 0)
    optim: str = "adamw_torch"  # any name of transformers, e.g. adamw_bnb_8bit
    freeze_vision_module: bool = True
    precision: str = choice("auto", "bf16", "fp32")  # auto: bf16 autocast on a GPU, fp32 on a CPU
    attn_implementation: str = choice("auto", "flash_attention_2", "sdpa", "eager")
    cudnn_attention: bool = False  # lets sdpa take cuDNN's kernels on a GPU; they plan anew for each new shape
    gradient_checkpointing: bool | str = choice(False, "mlp", True)  # of each block's MLP, or of whole blocks
    fused_lora: bool | str = choice("auto", True, False)  # adapters as part of their base's products; auto: on a GPU
    liger: bool | str = choice("auto", True, False)  # Liger's kernels for rotary embeddings, RMSNorm and SwiGLU
    compile: bool | str = choice("auto", True, False)  # torch.compile of each decoder block; auto: long runs on a GPU
    vision_features: float = at_least(0.0, 0, 1e6)  # GiB of memory for features of a frozen tower; 0: made each time
    quantization: str | None = choice(None, "4bit", "8bit")  # of the frozen base under LoRA (QLoRA), by bitsandbytes
    num_workers: int | None = at_least(None, 0, 256)  # null: 4 on a GPU, 0 on a CPU
    seed: int = at_least(42, 0, 2**32 - 1)
    data_revision: str | None = None
    exclude_people: list[str] = field(default_factory=list)  # whose rows nobody trains on: a holdout (mm/people.py)
    logging_steps: int = at_least(10, 1, 10**9)
    save_steps: int | None = at_least(None, 0, 10**9)  # steps between checkpoints; null: one an epoch; 0: none
    resume_from_checkpoint: bool | str = "auto"  # auto (or true): the newest that is whole; a path; false: none
    overwrite_dir: bool = False
    report_to: str = choice("none", "wandb", "tensorboard")
    save_dir: str = ""
    benchmark: str | None = None  # the track's rows and tasks of another benchmark than its own
    own_data: OwnDataSettings = field(default_factory=OwnDataSettings)  # or of a folder of the user's

    def accumulation(self, processes: int) -> int:
        """Batches of `batch_size` that each of `processes` processes adds up for one optimiser step.

        Raises:
            ValueError: `global_batch_size` cannot be met by these, or another accumulation is asked for as well.
        """
        total, size, asked = self.global_batch_size, self.batch_size, self.gradient_accumulation_steps
        if total is None:
            return asked
        step = size * processes
        if total % step:
            sizes = [str(n) for n in range(1, total + 1) if total % (n * processes) == 0]
            counts = [str(n) for n in range(1, total + 1) if total % (n * size) == 0]
            ways = [f"batch_size={' or '.join(sizes)} on {processes}"] if sizes else []
            ways += [f"{' or '.join(counts)} process(es) with batch_size={size}"] if counts else []
            near = max(1, total // step) * step
            ways += [f"global_batch_size={near} or {near + step}"]
            raise ValueError(
                f"global_batch_size={total} cannot be met: batch_size={size} on {processes} process(es) makes steps of "
                f"multiples of {step}. Take {'; or '.join(ways)}."
            )
        if asked not in (1, total // step):
            raise ValueError(
                f"gradient_accumulation_steps={asked} contradicts global_batch_size={total}, which makes it "
                f"{total // step} here (batch_size={size}, {processes} process(es)); set one of the two only."
            )
        return total // step


@dataclass(frozen=True)
class FinetuneSettings(TrainSettings):
    """`mm/finetune.py`, `nlp/finetune.py`."""

    model_path: str | None = None  # start from this checkpoint instead of the family's own
    data_path: str = ""  # datasets and splits are the tracks': config/<track>/, <track>/track.py
    split: str = ""
    data_fraction: float = at_least(1.0, 0)  # of the split's rows, drawn by seed; 0.2 holds all of 0.1


@dataclass(frozen=True)
class ForgetSettings(TrainSettings):
    """`mm/forget.py`, `nlp/forget.py`."""

    model_path: str = ""
    forget_data_path: str = ""
    retain_data_path: str = ""
    forget_split: str = ""
    retain_split: str | None = None  # null for a method that needs none
    modality: str | None = choice(None, "text", "visual", "both")  # a readable way to choose the forget split
    retain_partner: str = choice("any", "same_modality")
    epoch_over: str = choice("forget", "retain")
    fixed_prompts: bool = False  # a picture of the forget split meets one request in all epochs, not a new one in each
    forget_loss: str = "grad_diff_forget_ce_retain_ce"
    method_args: Mapping[str, Any] = field(default_factory=dict)
    wrap: list[str] = field(default_factory=list)  # methods around it, the first innermost: [project, sam]
    loss_beta: float | None = at_least(None, 0)
    l_norm_from: str = choice("zero", "init")
    l1_lambda: float = at_least(0.0, 0)
    l0_lambda: float = 0.0
    stop_when: float | None = at_least(None, 0)  # stop once the mean forget NLL is above this many nats
    log_grad_norms: bool = False
    save_ckpts: bool = False  # keep every checkpoint after the run, not only while it is unfinished
    save_model: bool = True
    eval_while_train: bool = False  # forget and retain metrics of a subset, before training and after each epoch
    eval_while_train_items: int = at_least(32, 1)  # rows of each split
    keep_best: bool = False  # save the best evaluation's weights, not the last (the rule: training/watch.py)
    stop_early: int | None = at_least(None, 1)  # stop after so many evaluations without a new best
    keep_retain: float = at_least(0.95, 0)  # an evaluation counts while retain keeps this share of its start
    forget_target: float | None = at_least(None, 0)  # the best forget probability to end at; null: the lowest


@dataclass(frozen=True)
class GenerationSettings:
    max_new_tokens: int = at_least(300, 1, 10**6)


@dataclass(frozen=True)
class EvalSettings:
    """`mm/eval.py`, `nlp/eval.py`. `tasks` is a list of mappings; mm/tasks.py reads the published parallel lists."""

    model_path: str = ""
    model_family: str = "llava-mini"
    plugins: list[str] = field(default_factory=list)
    processor_path: str | None = None
    save_dir: str = ""
    tasks: list[Any] = field(default_factory=list)
    eval_task_ids: list[int] | None = None
    max_length: int = at_least(4096, 1, 10**7)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    ds_size: int | None = at_least(None, 1)
    selection: str = choice("first", "random")
    overwrite: bool = True
    token_scores: bool = False
    redact: bool = False
    batch_size: int | Literal["auto"] = at_least(8, 1, 10**6)
    retain_result: str | None = None
    eco: EcoSettings | None = None
    quantization: str | None = choice(None, "4bit", "8bit")
    precision: str = choice("auto", "bf16", "fp32")
    attn_implementation: str = choice("auto", "flash_attention_2", "sdpa", "eager")
    cudnn_attention: bool = False
    seed: int = at_least(42, 0, 2**32 - 1)
    data_revision: str | None = None
    method_name: str | None = None
    submitted_by: str = ""
    benchmark: str | None = None
    own_data: OwnDataSettings = field(default_factory=OwnDataSettings)
    save_generated_text: bool = inert(True, "the log always holds the text")
    reinitialize_weights: bool = inert(False, "evaluate a model built from its config instead")


@dataclass(frozen=True)
class StressSettings:
    """`mm/stress.py`, `nlp/stress.py`. `model_path`: one model or several, beside the same base and gold."""

    model_path: str | list[str] = ""
    base_path: str = ""
    gold_path: str = ""
    model_family: str = "llava-mini"
    plugins: list[str] = field(default_factory=list)
    tests: list[str] | None = None  # null: all
    variants: list[str] | None = None  # null: all that change something of a task
    save_dir: str = ""
    data_path: str = ""
    text_data_path: str | None = None
    split: str = ""
    retain_split: str | None = None  # null: the rest of the forget split
    data_revision: str | None = None
    ds_size: int | None = at_least(None, 1)
    selection: str = choice("first", "random")
    leak: LeakSettings = field(default_factory=LeakSettings)
    relearn: RelearnSettings = field(default_factory=RelearnSettings)
    quantisation: list[str] | None = None  # rtn8, rtn4, bnb8, bnb4; null: those that fit here
    batch_size: int = at_least(8, 1, 10**6)
    max_length: int = at_least(4096, 1, 10**7)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    precision: str = choice("auto", "bf16", "fp32")
    attn_implementation: str = choice("auto", "flash_attention_2", "sdpa", "eager")
    seed: int = at_least(42, 0, 2**32 - 1)
    own_data: OwnDataSettings = field(default_factory=OwnDataSettings)


SCRIPTS: tuple[Any, ...] = (FinetuneSettings, ForgetSettings, EvalSettings)


def read_settings(cls: type[T], config: Mapping[str, Any]) -> T:
    """The settings of one script from its composed config. A preset (+experiment=...) serves all scripts, so keys that
    only another script has are left out; on the command line Hydra itself refuses those. Plugins are loaded first."""
    load_plugins(config.get("plugins"))
    others = {item.name for script in SCRIPTS for item in dataclasses.fields(script)} | {"data_path", "by_script"}
    mine = {item.name for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return build_settings(cls, {key: value for key, value in config.items() if key in mine or key not in others})
