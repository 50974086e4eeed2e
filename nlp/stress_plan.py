"""What a stress run asks of TOFU: the questions about the forget people, and what relearning trains on."""

import re
from typing import Any

from nlp.tasks import eval_settings, load_tasks
from nlp.tofu import TofuSource, load_rows, retain_split
from unlearn.config.settings import StressSettings
from unlearn.data.items import TableItems
from unlearn.data.samples import Sample, SampleSource
from unlearn.evaluation.stress.plan import Plan, evenly, few, holdout_of
from unlearn.evaluation.suite import EvalTask
from unlearn.evaluation.variants import Paraphrase

KINDS = ("p", "ROUGE")


def load_plan(settings: StressSettings) -> Plan:
    """The tasks of every test; there are no pictures, hence no matrix and no probe.

    ValueError for whatever is wrong with a split, a column or a row.
    """
    keys = ("data_path", "split", "ds_size", "selection", "seed", "data_revision")
    asked: dict[str, Any] = {key: getattr(settings, key) for key in keys} | {"eval_task_ids": [0, 3]}
    if "gradient" in (settings.tests or ()):
        asked |= {"holdout": holdout_of(settings.split), "eval_task_ids": [0, 3, 4]}
    retain, forget, *twins = load_tasks(eval_settings(asked))
    retain = evenly(retain, len(forget.items))
    return Plan(
        varied=[(forget, KINDS, _paraphrases(forget))],
        leak=[(forget, "ROUGE")],
        known=[(forget, KINDS), (retain, KINDS)],
        relearning=relearning(settings, forget),
        inside=forget,
        membership=[(forget, twin) for twin in twins],
    )


def relearning(settings: StressSettings, forget: EvalTask) -> dict[str, tuple[SampleSource, EvalTask]]:
    """The kinds of data of `relearn.data`, each with what is asked after it. ValueError for one that is not there."""
    split = re.sub(r"_perturbed$", "", settings.split)
    found: dict[str, tuple[SampleSource, EvalTask]] = {}
    for name in settings.relearn.data:
        if name == "few":
            found[name] = few(forget)
        elif name == "retain":
            found[name] = _source(settings, settings.retain_split or retain_split(split)), forget
        elif name == "stranger":
            found[name] = _strangers(settings, split.replace("forget", "holdout")), forget
        else:
            raise ValueError(f"relearn.data has {name!r}; there are few, retain, stranger.")
    return found


def _source(settings: StressSettings, split: str) -> TofuSource:
    return TofuSource(load_rows(settings.data_path, split, settings.data_revision), split)


def _strangers(settings: StressSettings, split: str) -> SampleSource:
    """People whom neither base nor gold has seen."""
    try:
        return _source(settings, split)
    except ValueError as error:
        raise ValueError(
            f"relearn.data has 'stranger', people whom no model was trained on, and {settings.data_path} has no "
            f"{split}: {error} Leave it out, or take a benchmark with a holdout."
        ) from error


def _paraphrases(task: EvalTask) -> Paraphrase | None:
    """TOFU's `paraphrased_question` by question, None where the data has no such column."""
    assert isinstance(task.items, TableItems)
    rows = task.items.texts
    if "paraphrased_question" not in rows.column_names:
        return None
    known = dict(zip(rows["question"], rows["paraphrased_question"], strict=True))

    def paraphrase(sample: Sample) -> str:
        return str(known[sample["question"]])

    return paraphrase
