"""From the settings of a forget run to its method: options, wrappers, a weight norm, and what does not go together."""

from unlearn.config.settings import ForgetSettings
from unlearn.distributed.engines import check_needs, wanted_engine
from unlearn.method import Method, defines, runs_sided
from unlearn.methods.sparsity import check_norms, with_l1
from unlearn.models.start import adapters_and_base
from unlearn.registry import build_method, options_of
from unlearn.training.editing import check_edit
from unlearn.training.watch import check_watch
from unlearn.wrapping import wrap_method


def choose_method(settings: ForgetSettings) -> Method:
    """The method of `forget_loss` with its options, its loss_beta and a weight norm if asked for; checked against LoRA.

    Raises ValueError for whatever of these does not fit together, or a reference model that is not there.
    """
    lora = settings.LoRA.r > 0
    options = options_of(settings.forget_loss, settings.method_args)
    method = build_method(settings.forget_loss, options, loss_beta=settings.loss_beta)
    method = wrap_method(method, settings.wrap, settings.method_args)
    check_needs(wanted_engine() or "", sided=runs_sided(method), edits=defines(method, "edit"))
    check_edit(settings, method)
    check_norms(settings.l1_lambda, settings.l0_lambda, settings.l_norm_from, lora)
    if settings.l1_lambda:
        method = with_l1(method, settings.l1_lambda, settings.l_norm_from)
    if lora and method.forbids_lora:
        raise ValueError(method.forbids_lora)
    check_watch(settings, method)
    if settings.stop_when is not None and not {"forget", "relabelled"} & {view.name for view in method.student_views}:
        raise ValueError(
            f"stop_when watches the forget answers, which {settings.forget_loss} does not train on; set it to null."
        )
    if reference := method.reference_path:
        adapters_and_base(reference)
    return method
