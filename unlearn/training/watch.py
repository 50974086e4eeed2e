"""`eval_while_train`: what is forgotten and what is kept, before training and after each epoch; the best of these; a
stop.

The rule, stated once: an evaluation *counts* if its retain probability is at least `keep_retain` times that of the
    model
training starts from. The best one has, among those that count, the lowest forget probability, or with `forget_target`
(the gold model's value, say) the one closest to it; of equals the first. The start counts by itself: if every later
evaluation broke the rule, it is the best. `stop_early=n` ends training after n evaluations in a row that brought no new
best.

What is known lies in the Trainer's log history, so it comes back with a checkpoint. The best weights lie in
`best-<step>`, in
the form they are saved in, and an older one goes only when a checkpoint knows the newer one: a run killed at any moment
    ends
like one that was not.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unlearn.atomic import INCOMPLETE, finite, replace_folder, write_text
from unlearn.config.settings import ForgetSettings
from unlearn.data.collator import Collator
from unlearn.method import Method, defines
from unlearn.runs.checkpoints import BEST, best_folders
from unlearn.training.curves import watch_picture
from unlearn.training.subset import Subset, measure_subset

logger = logging.getLogger(__name__)
FORGET, RETAIN = "eval_forget_probability", "eval_retain_probability"
CURVE, PICTURE = "watch.jsonl", "watch.png"
Record = Mapping[str, Any]  # one evaluation as the log history has it: step, epoch, eval_forget_probability, ...


@dataclass(frozen=True)
class Rule:
    """Which evaluation is the best, and when to stop (see the head of the file). A history starts with step 0."""

    keep_retain: float = 0.95
    target: float | None = None
    patience: int | None = None

    def counts(self, record: Record, start: Record) -> bool:
        """Whether enough of the retain rows is still known."""
        return record[RETAIN] >= self.keep_retain * start[RETAIN] or record["step"] == start["step"]

    def best(self, history: Sequence[Record]) -> Record:
        """The best evaluation of a history that has one or more."""
        counted = [record for record in history if self.counts(record, history[0])]
        return min(
            counted, key=lambda record: record[FORGET] if self.target is None else abs(record[FORGET] - self.target)
        )

    def stop(self, history: Sequence[Record]) -> str | None:
        """Why training should stop after this history, or None."""
        best = self.best(history)
        waited = sum(record["step"] > best["step"] for record in history)
        if self.patience is None or waited < self.patience:
            return None
        return f"no better evaluation than that of step {best['step']} in {waited} (stop_early={self.patience})"


def check_watch(settings: ForgetSettings, method: Method) -> None:
    """ValueError where keep_best or stop_early cannot do what they say; before anything is loaded."""
    wanted = [name for name in ("keep_best", "stop_early") if getattr(settings, name)]
    if not wanted:
        return
    if not settings.eval_while_train:
        raise ValueError(f"{wanted[0]} chooses among the evaluations of eval_while_train; set eval_while_train=true.")
    if defines(method, "finalize"):
        raise ValueError(
            f"{wanted[0]} has no meaning for {settings.forget_loss}: the weights are transformed after training, "
            "so what is evaluated meanwhile is not what is saved. Set keep_best=false and stop_early=null."
        )
    if settings.retain_split is None:
        raise ValueError(f"{wanted[0]} compares the retain rows with their start; set retain_split.")


class Watch(TrainerCallback):
    """Evaluates at step 0, at the end of each epoch and at the end of training: a callback of `trainer`, which it asks
    and never changes.

    Writes `watch.jsonl` (a line per evaluation, always whole) and, at the end, `watch.png` to the run's folder.
    """

    def __init__(self, trainer: Any, collator: Collator, settings: ForgetSettings) -> None:
        self.trainer, self.collator, self.keep_best = trainer, collator, settings.keep_best
        self.batch_size = max(
            8, settings.batch_size
        )  # without gradients more fit than in training, and generation needs them
        self.folder = Path(settings.save_dir)
        self.rule = Rule(settings.keep_retain, settings.forget_target, settings.stop_early)
        sources = {name: source for name, source in trainer.dataset.sources.items() if source is not None}
        self.subset = Subset(sources, settings.eval_while_train_items, settings.seed)
        self.stopped: str | None = None  # why `stop_early` ended training
        accumulation = trainer.sampler.accumulation
        self.steps = {math.ceil(batches / accumulation) for batches in accumulate(trainer.sampler.counts)}

    @property
    def history(self) -> list[Record]:
        """The evaluations so far; after a resumption those that the checkpoint knew."""
        return [record for record in self.trainer.state.log_history if FORGET in record]

    @property
    def best_folder(self) -> Path | None:
        """Where the best weights lie, or None without keep_best."""
        return self.folder / f"{BEST}-{self.rule.best(self.history)['step']}" if self.keep_best else None

    def facts(self) -> dict[str, Any]:
        """What run.json says: the last evaluation, and the best one by which rule."""
        history, facts = self.history, {"watch": CURVE}
        if history and RETAIN in history[0] and history[0]["step"] == 0:
            facts |= {"best": dict(self.rule.best(history)), "saved": "best" if self.keep_best else "last"}  # type: ignore[dict-item]
        return facts

    # ---- events -----------------------------------------------------------------------------------------------------

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        history = self.history
        if state.global_step == 0:
            self._evaluate(control)
        elif self._chooses and not (history and history[0]["step"] == 0):
            raise ValueError(
                f"The checkpoint of step {state.global_step} was made without eval_while_train: keep_best and "
                "stop_early do not know where it started. Set resume_from_checkpoint=false."
            )
        elif (folder := self.best_folder) is not None and not folder.is_dir():
            raise ValueError(
                f"{folder} is gone, the best weights so far; set resume_from_checkpoint=false to start afresh."
            )
        self._prune(args)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step not in self.steps and state.global_step < state.max_steps:
            return
        self._evaluate(control)
        reason = self.rule.stop(self.history) if self._chooses and state.global_step < state.max_steps else None
        if reason is not None:
            self.stopped = reason
            control.should_training_stop = True
            control.should_save = (
                False  # a run resumed from here would go on; from the checkpoint before, it stops here again
            )
        if args.save_strategy != "steps":
            self._prune(args)

    def stopped_at(self, checkpoint: Path) -> str | None:
        """Why training had stopped early at `checkpoint` (a signal may have saved it just there), or None."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        known = [record for record in state.log_history if FORGET in record and record["step"] <= state.global_step]
        reason = self.rule.stop(known) if self._chooses and known and known[0]["step"] == 0 else None
        return reason if reason is not None and known[-1]["step"] == state.global_step else None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._prune(args)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self.history or self.history[-1]["step"] != state.global_step:  # stop_when ended it within an epoch
            self._evaluate(control)
        if args.should_save:
            watch_picture(self.history, self.folder / PICTURE, rule=self.rule if RETAIN in self.history[0] else None)

    # ---- one evaluation ---------------------------------------------------------------------------------------------

    @property
    def _chooses(self) -> bool:
        return self.keep_best or self.rule.patience is not None

    def _evaluate(self, control: TrainerControl) -> None:
        began, step = time.perf_counter(), self.trainer.state.global_step
        values = measure_subset(self.trainer, self.collator, self.subset, batch_size=self.batch_size)
        if not all(map(math.isfinite, values.values())):
            raise FloatingPointError(
                f"The evaluation at step {step} is not finite ({values}). Lower lr or the forget weight."
            )
        should_log = control.should_log
        self.trainer.log({f"eval_{name}": value for name, value in values.items()})
        control.should_log = should_log  # a log line resets it, and the loss of this step is still to be logged
        if self.trainer.args.should_save:
            logger.info("step %d: evaluated in %.1f s", step, time.perf_counter() - began)
            write_text(self.folder / CURVE, "".join(json.dumps(finite(dict(record))) + "\n" for record in self.history))
        if self.keep_best and self.rule.best(self.history)["step"] == step:
            self._save_best()

    def _save_best(self) -> None:
        """The weights as they are now, as every engine saves them, under one name by one rename."""
        folder = self.best_folder
        assert folder is not None
        staging = self.folder / f"{INCOMPLETE}-{folder.name}"
        self.trainer.save_model(str(staging), _internal_call=True)
        self.trainer.accelerator.wait_for_everyone()
        if self.trainer.args.should_save:
            replace_folder(staging, folder)
        self.trainer.accelerator.wait_for_everyone()

    def _prune(self, args: TrainingArguments) -> None:
        """Removes the best weights of other steps: of an earlier best, or of steps after the checkpoint resumed
        from."""
        if self.keep_best and args.should_save:
            for old in best_folders(self.folder):
                if old != self.best_folder:
                    shutil.rmtree(old)
