"""What a stress run asks of a folder of one's own: what is known of the people to forget, by picture and in words."""

from typing import Any

from mm.own_data import OwnData
from unlearn.config.settings import StressSettings
from unlearn.data.items import select_rows
from unlearn.data.samples import SampleSource
from unlearn.evaluation.stress.plan import ItemSource, Plan, evenly, few, part
from unlearn.evaluation.suite import EvalTask

SAID, NAMED = ("p", "ROUGE"), ("p", "name")


def own_plan(settings: StressSettings) -> Plan:
    """The tasks of every test but the matrix and the probe, which need CLEAR's pairs of pictures and texts.

    ValueError for whatever is wrong with the folder, a row or a picture.
    """
    own = settings.own_data
    assert own.path is not None
    data = OwnData(own.path, own.forget, own.holdout, own.seed)
    tasks = {task.name: _some(task, settings) for task in data.tasks(own.path, "forget")}
    if "gradient" in (settings.tests or ()) and "own_holdout" not in tasks:
        raise ValueError("tests has 'gradient', which needs people whom no model was trained on: set own_data.holdout, "
                         "or leave it out.")  # fmt: skip
    facts, names = tasks["own_forget"], tasks.get("own_forget_names")
    asked: list[Any] = [(facts, SAID), *([(names, NAMED)] if names else [])]
    return Plan(
        varied=[(task, kinds, None) for task, kinds in asked],
        leak=[(task, kinds[-1]) for task, kinds in asked],
        known=[*asked, (evenly(tasks["own_retain"], len(facts.items)), SAID)],
        relearning={name: _data(name, data, own.path, facts) for name in settings.relearn.data},
        inside=facts,
        membership=[(facts, tasks["own_holdout"])] if "own_holdout" in tasks else [],
    )


def _data(name: str, data: OwnData, path: str, facts: EvalTask) -> tuple[SampleSource, EvalTask]:
    """What relearning trains on, and what is asked after it."""
    if name == "few":
        return few(facts)
    if name == "text":
        places = [place for place in range(len(facts.items)) if facts.items[place].sample["image"] is None]
        if not 0 < len(places) < len(facts.items):
            raise ValueError(f"relearn.data has 'text', and the people to forget in {path} do not have both questions "
                             "in words and pictures; leave it out.")  # fmt: skip
        shown = [place for place in range(len(facts.items)) if place not in places]
        return ItemSource(part(facts, places, "text").items), part(facts, shown, "pictures")
    if name == "stranger" and "holdout" not in data.status.values():
        raise ValueError("relearn.data has 'stranger', people whom no model was trained on: set own_data.holdout, or "
                         "leave it out.")  # fmt: skip
    if name not in ("retain", "stranger"):
        raise ValueError(f"relearn.data has {name!r}; there are few, text, retain, stranger.")
    return data.training_rows(path, "retain" if name == "retain" else "holdout"), facts


def _some(task: EvalTask, settings: StressSettings) -> EvalTask:
    """`ds_size` rows of a task."""
    places = select_rows(len(task.items), settings.ds_size, settings.selection, settings.seed)
    return task if len(places) == len(task.items) else part(task, list(places), f"{len(places)} rows")
