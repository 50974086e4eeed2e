"""The story of the project: finetune, forget, evaluate. Each reads top to bottom, for every modality."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from unlearn.atomic import write_json
from unlearn.config.settings import EvalSettings, FinetuneSettings, ForgetSettings, TrainSettings
from unlearn.data.collator import Collator
from unlearn.data.content import item_contents, lists_of, processor_contents, rows_of, source_contents, start_contents
from unlearn.data.pictures import picture_folders
from unlearn.data.samples import SampleSource, part_of
from unlearn.data.templates import has_chat_template
from unlearn.data.views import ForgetRetainDataset
from unlearn.distributed.processes import is_main
from unlearn.distributed.signals import deferred
from unlearn.evaluation.described import describe_run
from unlearn.evaluation.eco import eco_splits
from unlearn.evaluation.finished import is_finished, seen
from unlearn.evaluation.suite import EvalTask, evaluate_suite
from unlearn.leaderboard.redact import redact_folder
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.table import text_table
from unlearn.method import defines
from unlearn.models.families import Family
from unlearn.models.forward import check_layer
from unlearn.models.loading import load_model
from unlearn.models.lora import snapshot, trained_layers
from unlearn.models.options import check_options, set_up_gpu, skip_picture_check
from unlearn.models.processors import load_processor
from unlearn.models.start import Start, adapters_and_base, processor_of
from unlearn.plugins import plugin_digests
from unlearn.registry import build_method
from unlearn.results import AGGREGATE, read_log
from unlearn.runs.locks import check_writable
from unlearn.runs.made_from import MadeFrom, local_folders, picture_stamps, stamps, word_lists
from unlearn.runs.record import Run, check_start, find_run, known_digests
from unlearn.training.answers import keep_answers, write_answers
from unlearn.training.build import build_trainer, check_training, finish, train
from unlearn.training.choose import choose_method
from unlearn.training.editing import edit_model
from unlearn.training.saving import apply_finalize, save_trained
from unlearn.training.watch import Watch

logger = logging.getLogger(__name__)


def finetune(settings: FinetuneSettings, family: Family, load_source: Callable[[], SampleSource]) -> Path:
    """Trains the family's model on one split with the token mean of the answers' cross-entropy; saves it whole
    (merged).

    Returns the folder. A finished run of the same settings is left alone; an unfinished one goes on.
    """
    quiet()
    set_up_gpu(cudnn_attention=settings.cudnn_attention)
    start = Start.of(settings.model_path or family.hf_key)
    check_options(settings, start)
    run = find_run(settings, kind="finetune", overwrite=settings.overwrite_dir)  # writes nothing yet
    method = build_method("retain_ft")
    source = part_of(load_source(), settings.data_fraction, settings.seed)  # a mistake in the data must leave no record
    dataset = ForgetRetainDataset(
        method.student_views, forget=None, retain=source, seed=settings.seed, epoch_over="retain"
    )
    collator = load_collator(start, family, settings.max_length)
    note_contents(run, settings, start, collator, {"training": source})
    if run.finished:
        return run.folder
    check_training(settings, start)
    trainer = build_trainer(settings, family, start, method, dataset, collator)
    run.begin(main=is_main())
    with deferred() as stop:
        ending = train(trainer, settings, stop)
        save_trained(trainer, run.folder, collator, merge=True)
        return finish(run, trainer, ending)


def forget(
    settings: ForgetSettings,
    family: Family,
    load_sources: Callable[[], tuple[SampleSource, SampleSource | None]],
    refusals: Sequence[str],
) -> Path:
    """Unlearns the forget split with `forget_loss`; saves the adapter, or the whole model with `LoRA.r=0`. Returns
    the folder."""
    quiet()
    set_up_gpu(cudnn_attention=settings.cudnn_attention)
    method = choose_method(settings)
    start = Start.of(settings.model_path)
    check_options(settings, start)
    check_layer(method.hidden, family.rmu_layer, start.layers)
    trained_layers(settings.LoRA, start.layers, mlps_only=method.mlps_only)
    run = find_run(settings, kind="forget", overwrite=settings.overwrite_dir)  # writes nothing yet
    forget_source, retain_source = load_sources()
    dataset = ForgetRetainDataset(
        tuple({view.name: view for view in (*method.student_views, *method.teacher_views)}.values()),
        forget=forget_source,
        retain=retain_source,
        refusals=refusals,
        seed=settings.seed,
        epoch_over=settings.epoch_over,
        retain_partner=settings.retain_partner,
        fixed_prompts=settings.fixed_prompts,
    )
    collator = load_collator(start, family, settings.max_length)
    sources = {"forget": forget_source, "retain": retain_source}
    note_contents(run, settings, start, collator, sources, {"refusals": refusals}, method.reference_path)
    if run.finished:
        return run.folder
    check_training(settings, start)
    if defines(method, "edit"):
        return edit_model(settings, start, method, dataset, collator, run)
    write_answers(settings, start, dataset, collator, run)
    trainer = build_trainer(settings, family, start, method, dataset, collator)
    run.begin(main=is_main())
    if is_main():
        keep_answers(settings, dataset, run)
    watch = Watch(trainer, collator, settings) if settings.eval_while_train else None
    original = snapshot(trainer.student.model) if defines(method, "finalize") else {}
    with deferred() as stop:
        ending = train(trainer, settings, stop, watch)
        final = apply_finalize(method, trainer, original)
        if settings.save_model:
            best = watch.best_folder if watch else None
            save_trained(trainer, run.folder, collator, merge=False, best=best, final=final)
        run.record.update(watch.facts() if watch else {})
        return finish(run, trainer, ending)


def evaluate(
    settings: EvalSettings,
    family: Family,
    load_tasks: Callable[[], list[EvalTask]],
    load_splits: Callable[[], tuple[SampleSource, SampleSource | None]] | None = None,
) -> Path:
    """Scores and generates over the tasks; writes the eval log and its meta file. Returns the aggregated log's path.

    `load_splits`: the forget and retain rows that ECO's classifier learns from, where `eco` is set.

    Without `overwrite`, a finished evaluation of the same model, settings and rows is left alone; no model is loaded.
    """
    quiet()
    set_up_gpu(cudnn_attention=settings.cudnn_attention)
    if settings.retain_result is not None:
        read_log(settings.retain_result)  # a wrong path is found now, not after the last row
    check_writable(Path(settings.save_dir))
    tasks = load_tasks()
    start = Start.of(settings.model_path or family.hf_key)
    processor = processor_of(adapters_and_base(settings.processor_path)) if settings.processor_path else start.processor
    collator = load_collator(start, family, settings.max_length, processor)
    digests = known_digests(start.chain)
    start.check()
    check_start(start, digests)
    pictures = [folder for task in tasks for folder in picture_folders(rows_of(task.items))]
    outside = picture_stamps(pictures, [task["data_path"] for task in settings.tasks])
    run = {**describe_run(settings, start.path), "seen": seen(settings, start), "pictures": outside}
    if not settings.overwrite and is_finished(settings.save_dir, tasks, run, token_scores=settings.token_scores):
        logger.info("%s: done (same settings)", settings.save_dir)
        return Path(settings.save_dir) / AGGREGATE
    tasks = [replace(task, content=item_contents(task.items, collator.check)) for task in tasks]
    splits = eco_splits(settings, load_splits, collator)
    made_from = {"model": start.weights(digests), "processor": processor_contents(processor, collator, digests)}
    made_from |= {"eco": splits.content} if splits else {}
    gpu = torch.cuda.is_available()
    half = settings.precision == "bf16" or (settings.precision == "auto" and gpu)
    model = load_model(
        start,
        dtype=torch.bfloat16 if half else torch.float32,
        attn_implementation=settings.attn_implementation,
        quantization=settings.quantization,
    )
    if gpu and not settings.quantization:
        model = model.to(f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}")
    return evaluate_suite(
        model, collator, tasks, save_dir=settings.save_dir, batch_size=settings.batch_size,
        max_new_tokens=settings.generation.max_new_tokens, overwrite=settings.overwrite,
        token_scores=settings.token_scores, run=run, made_from=made_from,
        eco=None if splits is None else splits.fit(model, collator),
    )  # fmt: skip


def compare(settings: EvalSettings, log: Path, refusals: Sequence[str]) -> str | None:
    """The leaderboard row of a log against `retain_result`, saved beside the log and returned as a table; None
    without one. Last, `redact` takes the texts out of the log."""
    table = None
    if settings.retain_result is not None:
        row = leaderboard_row(log, settings.retain_result, refusals=refusals, relative_to=log.parent)
        write_json(log.parent / "leaderboard_row.json", [row])
        table = text_table([row])
    if settings.redact:
        redact_folder(log, refusals)
    return table


# ---- the steps of the story ---------------------------------------------------------------------------------------


def quiet() -> None:
    """Silences what libraries say about themselves, and their progress bars where nobody watches."""
    import transformers

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate)\b")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # imported by PEFT, it reports what a CPU lacks
    warnings.filterwarnings(
        "ignore", message="Could not find a config file"
    )  # PEFT's, of a base that is an adapter or pinned
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()


def note_contents(
    run: Run,
    settings: TrainSettings,
    start: Start,
    collator: Collator,
    sources: Mapping[str, SampleSource | None],
    lists: Mapping[str, Sequence[str]] | None = None,
    reference: str | None = None,
) -> None:
    """Notes in the run what it is made from, and checks that every row fits. Data whose files have the sizes and times
    that a run of this folder has noted are not looked at again.

    Raises:
        ValueError: a row that does not fit max_length; a folder whose run was made from something else.
    """
    digests = known_digests(start.chain, run)
    known = run.same_data(data := stamps(settings))
    made_from: MadeFrom = {
        "data": run.record["made_from"]["data"] if known else {
            name: source_contents(source, collator.check) for name, source in sources.items() if source is not None
        },
        "start": start_contents(start, collator, digests, reference),
        "word lists": word_lists({**(lists or {}), **{k: v for s in sources.values() for k, v in lists_of(s).items()}}),
    }  # fmt: skip
    folders = [folder for source in sources.values() for folder in picture_folders(rows_of(source))]
    pictures = picture_stamps(folders, [getattr(settings, key) for key in data])
    looked_at = {"data": data, "pictures": pictures, "files": digests.seen, "folders": local_folders(settings)}
    if plugins := plugin_digests():
        made_from["plugins"] = plugins
    run.confirm(made_from, looked_at, main=is_main())


def load_collator(start: Start, family: Family, max_length: int, processor_path: str | None = None) -> Collator:
    """The model's processor, or the one saved under `processor_path`, as a collator.

    Raises:
        ValueError: a processor that is not there, is damaged, cannot read pictures or does not fit the model.
    """
    path, config = processor_path or start.processor, start.config
    try:
        processor = load_processor(path, config)
    except (OSError, ValueError) as error:
        raise ValueError(f"The processor or tokenizer of {path} cannot be loaded: {error}") from error
    if family.chat_template and getattr(processor, "chat_template", None) is None:
        processor.chat_template = family.chat_template
    tags = None if has_chat_template(processor) else family.tags
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    collator = Collator(processor, max_length=max_length, tags=tags, vocabulary=vocabulary)
    if collator.pictures is not None:
        collator.pictures.fit(config)
    skip_picture_check(collator.pictures is not None and collator.pictures.counts_tokens)
    return collator
