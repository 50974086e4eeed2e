"""Methods that train nothing: the model is loaded, edited in fp32, and saved in the precision that it had."""

from pathlib import Path

import torch

from unlearn.config.settings import ForgetSettings
from unlearn.data.collator import Collator
from unlearn.data.views import ForgetRetainDataset, StepCollator
from unlearn.distributed.processes import is_main, peak_memory_mb, process_state
from unlearn.method import Method, defines
from unlearn.models.forward import StudentForward
from unlearn.models.loading import check_finite, load_model
from unlearn.models.start import Start
from unlearn.runs.record import Run
from unlearn.training.probe import ModelProbe, probing
from unlearn.training.saving import save_whole


def check_edit(settings: ForgetSettings, method: Method) -> None:
    """ValueError for what has no meaning, or no possible one, where nothing is trained."""
    if not defines(method, "edit"):
        return
    name = settings.forget_loss
    if settings.quantization:
        raise ValueError(f"{name} edits weights, and quantised ones cannot be; set quantization=null.")
    useless = [
        key
        for key in ("eval_while_train", "stop_when", "keep_best", "stop_early", "l1_lambda", "log_grad_norms")
        if getattr(settings, key)
    ]
    if useless:
        raise ValueError(f"{useless[0]} looks at training, and {name} edits the weights without any; leave it unset.")


def edit_model(
    settings: ForgetSettings,
    start: Start,
    method: Method,
    dataset: ForgetRetainDataset,
    collator: Collator,
    run: Run,
) -> Path:
    """Loads, edits and saves. Every process does the same to its own copy; one writes.

    Raises:
        ValueError: a start model whose weights are quantised, or that the method cannot edit.
    """
    if getattr(start.config, "quantization_config", None) is not None:
        raise ValueError(f"{settings.forget_loss} edits weights, and those of {start.base} are quantised.")
    from accelerate import Accelerator

    process_state()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    model = load_model(start, dtype=torch.float32, attn_implementation=settings.attn_implementation)
    model = model.requires_grad_(False).to(accelerator.device)
    run.begin(main=is_main())
    student = StudentForward(model, method.hidden)
    probe = ModelProbe(student, dataset, StepCollator(collator), accelerator, settings.seed)
    half = settings.precision == "bf16" or (settings.precision == "auto" and torch.cuda.is_available())
    with probing(student), torch.no_grad(), torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half):
        method.edit(probe)
    check_finite(model, "the edited model")
    accelerator.wait_for_everyone()
    if is_main() and settings.save_model:
        save_whole(model.to(getattr(torch, start.dtype or "float32")), collator, run.folder)
    run.record.update({"steps": 0, "peak_memory_mb": round(peak_memory_mb()), "edited": True})
    accelerator.wait_for_everyone()
    run.finish()
    return run.folder
