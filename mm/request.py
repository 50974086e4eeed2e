"""`forget_request.py`: the steps of one request, each left alone where it is finished.

<save_dir>/before/   what the model said            gold/model, gold/eval    of retrain=true, or gold's answers
<save_dir>/model/    the unlearned model            after/                   what it says
<save_dir>/certificate.html, .json, .salt           leaderboard.* and the report where there is a gold
"""

import logging
import math
import shlex
import sys
from pathlib import Path
from typing import Any

from mm.request_settings import PATIENCE, RequestSettings
from unlearn.metrics.intervals import FEWEST
from unlearn.stress_log import read_index

logger = logging.getLogger(__name__)


def run(settings: RequestSettings) -> str:
    """The whole request; returns what the user wants to read at its end.

    Raises:
        ValueError: what is wrong with the folder, the names or the models, before a model loads.
    """
    request = Request(settings)
    logger.info("%s", request.summary())
    for lack in request.lacks():
        logger.warning("%s", lack)
    request.step("asking the model before")
    before = request.ask(settings.model_path, "before")
    gold = request.gold_log()
    if not request.knew(before, gold):
        request.step("the certificate", last=True)
        return request.close(before, before, gold, "The model did not know these people: nothing was trained.")
    request.step(f"unlearning by {settings.method}; {settings.rule()}")
    model = request.unlearn(before, gold)
    request.step("asking the model after")
    after = request.ask(str(model), "after")
    if settings.stress is True:
        request.step("stress tests of the model, beside the one before and gold")
        request.put_to_the_test(str(model))
    request.step("the certificate", last=True)
    return request.close(after, before, gold, f"unlearned model: {model}")


class Request:
    """One folder, the people in it, and where things are kept."""

    def __init__(self, settings: RequestSettings) -> None:
        from mm.own_data import OwnData
        from unlearn.models.start import Start
        from unlearn.registry import class_of

        self.settings, self.folder = settings, Path(settings.save_dir)
        self.done, self.steps = 0, 4 + bool(settings.retrain or settings.gold) + (settings.stress is True)
        if not settings.forget:
            raise ValueError("forget is empty: name who asks to be forgotten, e.g. 'forget=[Ann Lee]'.")
        if settings.retrain and not (settings.retrain_from and settings.gold is None):
            raise ValueError(
                "retrain=true needs retrain_from, the model that model_path was finetuned from, and no gold."
            )
        class_of(settings.method, "method")
        if settings.stress is True and not (settings.gold or settings.retrain):
            raise ValueError("stress=true needs gold or retrain=true: a stress test holds a model against its gold.")
        if isinstance(settings.stress, str):
            read_index(Path(settings.stress))
        self.data = OwnData(settings.data, settings.forget, settings.holdout)
        self.own = {"path": settings.data, "forget": settings.forget, "holdout": settings.holdout}
        for split in ("forget", "retain", *(["holdout"] if settings.holdout else [])):
            self.data.training_rows(settings.data, split)
        self.data.questions(settings.data, "forget", None)
        for path in (settings.model_path, settings.gold, settings.retrain_from):
            if path is not None:
                Start.of(path)  # a model that is not there is told now, not after the first hour

    def summary(self) -> str:
        """How many people and rows each split has."""
        counts = []
        for status in ("forget", "retain", "holdout"):
            rows = [row for row in self.data.rows if self.data.status[str(row.person)] == status]
            people = len({row.person for row in rows})
            pictures = sum(row.image is not None for row in rows)
            counts.append(f"{status}: {people} people, {len(rows)} rows, {pictures} of them with a picture")
        return "; ".join(counts)

    def lacks(self) -> list[str]:
        """What the certificate will not be able to show, so that it can still be mended."""
        s, said = self.settings, []
        if not (s.retrain or s.gold):
            said.append("No gold: nothing shows how a model that never saw these people would answer about them "
                        "(gold=MODEL, or retrain=true).")  # fmt: skip
        if not s.holdout:
            said.append("No holdout: whether these people stand out against people never seen is not tested"
                        + ("." if s.retrain or s.gold else ", and without a gold either there is nothing to compare "
                           "with: the verdict can be no better than undecided."))  # fmt: skip
        if (count := sum(status == "forget" for status in self.data.status.values())) < FEWEST:
            said.append(f"{count} people to forget: intervals take {FEWEST}, so the verdict will be undecided.")
        return said

    def step(self, what: str, *, last: bool = False) -> None:
        """Says which step begins."""
        self.done = self.steps if last else self.done + 1
        logger.info("step %d of %d: %s", self.done, self.steps, what)

    def ask(self, model: str, name: str) -> Path:
        """The log of a model's answers about everybody in the folder."""
        from mm import track

        s = self.settings
        values = {
            "model_path": model, "model_family": s.model_family, "own_data": self.own, "data_path": s.data,
            "split": "forget", "save_dir": str(self.folder / name), "overwrite": False, "token_scores": True,
            "batch_size": s.eval_batch_size, "generation": {"max_new_tokens": s.max_new_tokens},
            "precision": s.precision, "seed": s.seed,
            "method_name": s.method if name == "after" else name,
        }  # fmt: skip
        return Path(track.evaluate(track.settings("eval", values)))

    def gold_log(self) -> Path | None:
        """Gold's log: of a model that there is, or of one that is made now."""
        s = self.settings
        if s.retrain or s.gold:
            self.step("training a model without these people, and asking it" if s.retrain else "asking gold")
        if s.retrain:
            from mm import track

            values = {
                **self._training(), "model_path": s.retrain_from, "data_path": s.data, "split": "retain",
                "lr": s.retrain_lr, "num_epochs": s.retrain_epochs, "save_dir": str(self.folder / "gold" / "model"),
            }  # fmt: skip
            return self.ask(str(track.finetune(track.settings("finetune", values))), "gold/eval")
        return None if s.gold is None else self.ask(s.gold, "gold/eval")

    def knew(self, before: Path, gold: Path | None) -> bool:
        """False where the model before knew no more than the reference, by its interval: then nothing is trained."""
        from unlearn.leaderboard.findings import Logs, Numbers
        from unlearn.leaderboard.tracks import track_named
        from unlearn.results import read_log

        base = read_log(before)
        numbers = Numbers(Logs(base, base, None if gold is None else read_log(gold)), track_named("own"))
        return numbers.gate() is not False

    def unlearn(self, before: Path, gold: Path | None) -> Path:
        """The unlearned model. Stop rule: of the epochs that keep `keep_retain` of what is known of the others, the one
        whose forget probability is nearest to the target."""
        from mm import track

        s = self.settings
        target = s.target if s.target is not None else self._target(gold or before, of_gold=gold is not None)
        values = {
            **self._training(), "model_path": s.model_path, "forget_data_path": s.data, "retain_data_path": s.data,
            "forget_split": "forget", "retain_split": "retain", "forget_loss": s.method,
            "method_args": {s.method: dict(s.method_args)}, "lr": s.lr, "num_epochs": s.num_epochs,
            "eval_while_train": True, "keep_best": True, "stop_early": PATIENCE, "keep_retain": s.keep_retain,
            "forget_target": target, "save_dir": str(self.folder / "model"),
        }  # fmt: skip
        return Path(track.forget(track.settings("forget", values)))

    def close(self, after: Path, before: Path, gold: Path | None, said: str) -> str:
        """Certificate, and with a gold leaderboard and report; what to tell the user."""
        from unlearn.aggregate import AggregateSettings, certify, update_leaderboard
        from unlearn.data.samples import REFUSALS
        from unlearn.distributed.processes import is_main

        if not is_main():
            return ""
        s, command = self.settings, shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
        logs: dict[str, Any] = {"retain_result": str(gold) if gold else None, "base_result": str(before)}
        one = AggregateSettings(
            **logs, ckpt_result=str(after), certificate=str(self.folder / "certificate.html"), margin=s.margin,
            stress=self._stress(after == before), examples=s.examples, refusals=str(REFUSALS),
        )  # fmt: skip
        facts, page = certify(one, command, "" if after == before else s.rule())
        lines = [said, f"verdict: {facts['verdict']['name']}", f"certificate: {page}"]
        if after != before:
            lines.insert(1, f"stop rule: {s.rule()}")
        if gold and after != before:
            board = str(self.folder / "leaderboard.json")
            update_leaderboard(AggregateSettings(**logs, ckpt_result=str(after), save_file=board, method_name=s.method))
            lines.append(f"report: {self.folder / 'leaderboard.html'}")
        return "\n".join(lines)

    def put_to_the_test(self, model: str) -> None:
        """A stress run of the model beside base and gold; what is finished is kept."""
        from mm import track

        s = self.settings
        gold = str(self.folder / "gold" / "model") if s.retrain else s.gold
        values = {
            "model_path": model, "base_path": s.model_path, "gold_path": gold, "model_family": s.model_family,
            "own_data": self.own, "save_dir": str(self.folder / "stress"), "precision": s.precision, "seed": s.seed,
            "relearn": {"data": ["retain", *(["stranger"] if s.holdout else [])]},
            "tests": ["variants", "leak", "quantisation", "relearning", "depth"],
        }  # fmt: skip
        track.stress(track.settings("stress", values))

    def _stress(self, unchanged: bool) -> str | None:
        if unchanged or not self.settings.stress:
            return None
        return str(self.folder / "stress") if self.settings.stress is True else self.settings.stress

    def _training(self) -> dict[str, Any]:
        s = self.settings
        return {
            "model_family": s.model_family, "own_data": self.own, "LoRA": vars(s.LoRA), "batch_size": s.batch_size,
            "precision": s.precision, "seed": s.seed,
        }  # fmt: skip

    def _target(self, log: Path, *, of_gold: bool) -> float | None:
        """The probability per token that gold gives the answers to be forgotten, or the model those of people held
        out."""
        from unlearn.results import read_log

        task = read_log(log).tasks.get("own_forget" if of_gold else "own_holdout")
        if task is None:
            return None
        losses = task["avg_gt_loss"].values()
        return sum(math.exp(-loss) for loss in losses) / len(losses)
