"""What a stress run asks of CLEAR: pictures, names and facts of the forget people, and what relearning trains on.

TOFU's questions are joined with CLEAR's pictures by name: `eval_named_forget` asks TOFU's question beside the person's
first picture, `eval_twohop_forget` says "this person" for the name.
"""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mm.clear import load_clear
from mm.people import excluded_of
from mm.tasks import load_tasks, task_specs
from unlearn.config.settings import EvalSettings, StressSettings
from unlearn.data.items import TableItems
from unlearn.data.samples import EvalItem, Sample, SampleSource
from unlearn.data.texts import missing
from unlearn.evaluation.stress.plan import ItemSource, Plan, evenly, few, holdout_of
from unlearn.evaluation.suite import EvalTask
from unlearn.metrics.choice import contains_name

logger = logging.getLogger(__name__)
OTHER_CUE = "This is a photo of"  # another cue that asks for a name
HIDDEN = "this person"
TWINS = {"eval_log_forget": "eval_holdout", "eval_forget_facerec": "eval_holdout_facerec",
         "eval_text_forget": "eval_text_holdout"}  # fmt: skip
CAPTIONED, NAMED, TEXT = ("p", "ROUGE"), ("p", "name"), ("p", "ROUGE")


def load_plan(settings: StressSettings) -> Plan:
    """The tasks of every test. ValueError for whatever is wrong with a split, a column, a row or a picture."""
    tasks = {task.name: task for task in load_tasks(_eval_settings(settings))}
    captions, names = tasks["eval_log_forget"], tasks["eval_forget_facerec"]
    sides = {"forget": (captions, names), "retain": (tasks["eval_log"], tasks["eval_retain_facerec"])}
    varied: list[Any] = [(names, NAMED, lambda sample: OTHER_CUE)]
    known: list[Any] = [
        (captions, CAPTIONED),
        (names, NAMED),
        (evenly(tasks["eval_log"], len(captions.items)), CAPTIONED),
    ]
    matrix: dict[str, dict[str, EvalTask]] = {"forget": {}, "retain": {}}
    facts: EvalTask | None = None
    for side, (pictures, faces) in sides.items():
        matrix[side] = {"image → name": faces, "image → caption": pictures}
        if f"eval_text_{side}" in tasks:
            about = AboutPeople(tasks[f"eval_text_{side}"], pictures)
            matrix[side] |= {
                "name → facts": about.task(f"eval_text_{side}"),
                "image + name → facts": about.task(f"eval_named_{side}", pictured=True),
                "image → facts": about.task(f"eval_twohop_{side}", pictured=True, hidden=True),
            }
            if side == "forget":
                facts = matrix[side]["name → facts"]
                varied.append((facts, TEXT, _paraphrases(tasks["eval_text_forget"])))
                known.append((facts, TEXT))
    matrix["retain"] = {
        label: evenly(task, len(matrix["forget"][label].items)) for label, task in matrix["retain"].items()
    }
    return Plan(
        varied=varied,
        leak=[(names, "name"), *([(facts, "ROUGE")] if facts else [])],
        known=known,
        relearning=relearning(settings, captions, facts),
        inside=captions,
        forget=matrix["forget"],
        retain=matrix["retain"],
        faces=names,
        membership=[(tasks[name], tasks[twin]) for name, twin in TWINS.items() if twin in tasks and name in tasks],
    )


def relearning(
    settings: StressSettings, captions: EvalTask, facts: EvalTask | None
) -> dict[str, tuple[SampleSource, EvalTask]]:
    """The kinds of data of `relearn.data`, each with what is asked after it. ValueError for one that is not there."""
    size = re.match(r"forget(\d\d)", settings.split)
    found: dict[str, tuple[SampleSource, EvalTask]] = {}
    for name in settings.relearn.data:
        if name == "few":
            found[name] = few(captions)
        elif name == "text":
            if facts is None:
                raise ValueError("relearn.data has 'text', the questions about the forget people: set text_data_path, "
                                 "or leave it out.")  # fmt: skip
            found[name] = ItemSource(facts.items), captions
        elif name == "retain":
            split = settings.retain_split or (f"retain{100 - int(size[1]):02d}+tofu" if size else None)
            if split is None:
                raise ValueError(f"split={settings.split} does not say which rows are the rest; set retain_split.")
            without = excluded_of(settings.base_path)
            found[name] = load_clear(settings.data_path, split, settings.data_revision, without), captions
        elif name == "stranger":
            found[name] = _strangers(settings, f"holdout{size[1] if size else '10'}"), captions
        else:
            raise ValueError(f"relearn.data has {name!r}; there are few, text, retain, stranger.")
    return found


def _strangers(settings: StressSettings, split: str) -> SampleSource:
    """People whom neither base nor gold has seen: those of `exclude_people`, else of the benchmark's holdout."""
    revision = settings.data_revision
    if kept := excluded_of(settings.base_path):
        names = load_clear(settings.data_path, "default", revision).names or []
        others = sorted({str(name) for name in names} - set(kept))
        return load_clear(settings.data_path, "default", revision, others)
    try:
        return load_clear(settings.data_path, split, settings.data_revision)
    except ValueError as error:
        raise ValueError(
            f"relearn.data has 'stranger', people whom no model was trained on, and {settings.data_path} has no "
            f"{split}: {error} Leave it out, or take a benchmark with a holdout."
        ) from error


def _eval_settings(settings: StressSettings) -> EvalSettings:
    keys = ("data_path", "split", "text_data_path")
    asked: dict[str, Any] = {key: getattr(settings, key) for key in keys} | {"model_path": settings.base_path}
    wanted = ["eval_log", "eval_log_forget", "eval_forget_facerec", "eval_retain_facerec", "eval_text_forget",
              "eval_text_retain"]  # fmt: skip
    if "gradient" in (settings.tests or ()):
        wanted += TWINS.values()
        if not excluded_of(settings.base_path):
            asked["holdout"] = holdout_of(settings.split)
    specs, _ = task_specs(asked)
    return EvalSettings(
        tasks=[spec for spec in specs if spec["eval_task"] in wanted],
        ds_size=settings.ds_size, selection=settings.selection, seed=settings.seed,
        data_revision=settings.data_revision,
    )  # fmt: skip


class AboutPeople:
    """The rows of a text task with whom they are about, and these people's first pictures.

    Args:
        texts: questions without pictures; pictures: a task of the same people, whose rows have a name.
    """

    def __init__(self, texts: EvalTask, pictures: EvalTask) -> None:
        assert isinstance(texts.items, TableItems) and isinstance(pictures.items, TableItems)
        self.texts, self.pictures = texts, pictures
        cells = pictures.items.texts["name"] if "name" in pictures.items.texts.column_names else []
        self.first = {str(cell): place for place, cell in reversed(list(enumerate(cells))) if not missing(cell)}
        self.items = [texts.items[place] for place in range(len(texts.items))]
        named: dict[str, Counter[str]] = {}
        for item in self.items:  # rows of one author stand together; they are about whom most of them name
            text = f"{item.sample['question']} {item.sample['answer']}"
            found = [name for name in self.first if contains_name(text, name)]
            named.setdefault(item.author or item.row_id, Counter()).update(found)
        self.people = [
            max(counts, key=lambda name: counts[name]) if (counts := named[item.author or item.row_id]) else item.author
            for item in self.items
        ]

    def task(self, name: str, *, pictured: bool = False, hidden: bool = False) -> EvalTask:
        """The questions as they are; `pictured`: only those that name somebody, beside the first picture of whom they
        name; `hidden`: with "this person" for the name. ValueError where no question names anybody."""
        places = list(range(len(self.items)))
        if pictured:
            places = [place for place in places if self._names(place)]
            logger.info("%s: %d of %d questions name a person with a picture", name, len(places), len(self.items))
            if not places:
                raise ValueError(
                    f"{name}: no question of {self.texts.name} names a person of {self.pictures.name}; texts and "
                    "pictures must be about the same people, or text_data_path null."
                )
        lengths = self.texts.lengths
        return EvalTask(
            name, PeopleItems(self, places, pictured, hidden), lengths and [lengths[place] for place in places],
            f"{self.texts.identity} {name} {self.pictures.identity}",
        )  # fmt: skip

    def _names(self, place: int) -> bool:
        who = self.people[place]
        return who in self.first and contains_name(self.items[place].sample["question"], who)


class PeopleItems(Sequence[EvalItem]):
    """Rows of `AboutPeople`; a picture is opened when its row is asked for."""

    def __init__(self, about: AboutPeople, places: list[int], pictured: bool, hidden: bool) -> None:
        self.about, self.places, self.pictured, self.hidden = about, places, pictured, hidden

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> EvalItem:  # type: ignore[override]  # one row at a time, no slices
        item, who = self.about.items[self.places[index]], self.about.people[self.places[index]]
        sample = item.sample
        if self.pictured:
            assert who is not None
            shown = self.about.pictures.items[self.about.first[who]].sample
            sample = {**sample, "image": shown["image"], "id": shown["id"]}
        if self.hidden:
            assert who is not None
            sample = {**sample, "question": hide_name(sample["question"], who)}
        return EvalItem(item.row_id, sample, item.base_answer, item.wrong_answers, who)


def hide_name(text: str, name: str) -> str:
    """`text` with "this person" where the words of `name` stand in a row, whatever their case and accents."""
    words, wanted = list(re.finditer(r"\w+", text)), [_plain(word) for word in re.findall(r"\w+", name)]
    for at in range(len(words) - len(wanted), -1, -1):
        if [_plain(word[0]) for word in words[at : at + len(wanted)]] == wanted:
            start, end = words[at].start(), words[at + len(wanted) - 1].end()
            text = text[:start] + (HIDDEN if text[:start].strip() else HIDDEN.capitalize()) + text[end:]
    return text


def _plain(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def _paraphrases(task: EvalTask) -> Any:
    """TOFU's `paraphrased_question` by question, None where the data has no such column."""
    assert isinstance(task.items, TableItems)
    rows = task.items.texts
    if "paraphrased_question" not in rows.column_names:
        return None
    known: Mapping[str, str] = dict(zip(rows["question"], rows["paraphrased_question"], strict=True))

    def paraphrase(sample: Sample) -> str:
        return known[sample["question"]]

    return paraphrase
