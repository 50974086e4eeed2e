"""What a certificate says of one unlearned model, from eval logs alone: facts, numbers, verdict (docs/request.md).

Every number stands beside that of a reference: gold where somebody retrained without these people; else people who were
held out from training, asked the same kind of question. The second cannot show that the model answers as if it had
never seen the people: other people's answers are other answers.
"""

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from unlearn.leaderboard.collateral import HOLE, OVER_REFUSAL, collateral
from unlearn.leaderboard.comparable import check_comparable, check_same_start
from unlearn.leaderboard.findings import GOLD, MARGIN, Logs, Numbers, people_of
from unlearn.leaderboard.pair import Pair, numbers_of
from unlearn.leaderboard.privacy import twins
from unlearn.leaderboard.scores import known_rows, rows_of, score_log, units_of
from unlearn.leaderboard.stress_findings import Stress
from unlearn.leaderboard.tracks import track_of
from unlearn.leaderboard.verdict import Evidence, Finding, verdict
from unlearn.metrics.aggregates import Track
from unlearn.metrics.membership import blind_auc
from unlearn.metrics.rouge import rouge_recall
from unlearn.results import EvalLog, TaskMeta

UTILITY = "Model Utility"


def certificate(
    logs: Logs, *, salt: str, margin: float = MARGIN, stress: Stress | None = None,
    refusals: Sequence[str] | None = None, command: str = "", rule: str = "",
) -> dict[str, Any]:  # fmt: skip
    """JSON-ready: `request`, `hashes`, `gate`, `verdict`, `direct`, `privacy`, `stress`, `kept`, `not tested`.

    Names of people are hashed with `salt`, which stays with the owner of the data; they are taken out of every text.

    Args:
        refusals: lines by which refusals are known; None leaves their rate out.
        rule: when training stopped, in words.
    Raises:
        ValueError: logs of another track, of other rows, asked otherwise, or a base that was trained anew since.
    """
    track = track_of(logs.model.tasks, logs.model.name)
    others = [log for log in (logs.base, logs.gold) if log is not None]
    unchecked = [fact for log in others for fact in check_comparable(logs.model, log, track)]
    check_same_start(logs.model, logs.base)
    numbers = Numbers(logs, track)
    direct, gate, against = numbers.direct(margin), numbers.gate(), numbers.against
    auc = [one for task, twin in twins(track) if (one := numbers.auc(task, twin, margin)) is not None]
    utility, cost = _cost(logs, track, margin, refusals)
    kept = [*numbers.kept(margin), utility]
    tested, absent = (stress.findings, stress.absent) if stress else (None, ())
    evidence = Evidence(gate, against, direct, auc, kept, tested, margin, absent)
    found = {
        "schema_version": 1,
        "verdict": asdict(verdict(evidence)),
        "margin": margin,
        "against": against,
        "request": {**_request(logs.model, track, salt), "stop rule": rule or None},
        "hashes": {name: _hashes(log) for name, log in logs.there().items()},
        "made by": {"command": command, "unchecked": list(dict.fromkeys(unchecked))},
        "gate": {"memorised": gate, "numbers": [asdict(one) for one in numbers.gate_numbers]},
        "direct": [{**asdict(one), "leakage": numbers.leakage(one)} for one in direct],
        "privacy": [asdict(one) for one in auc],
        "holdout": _holdout(logs.model, numbers),
        "stress": None if tested is None else [asdict(one) for one in tested],
        "kept": [asdict(one) for one in kept],
        "cost": cost,
        "not tested": _not_tested(evidence),
    }
    nameless: dict[str, Any] = without_names(found, logs.model, salt)
    return nameless


def without_names(value: Any, log: EvalLog, salt: str) -> Any:
    """`value` with the hash of each person of a log in place of their name in every text, whatever its case and
    joints."""
    people = {str(row["author"]) for task in _meta(log).values() for row in task["rows"].values() if row["author"]}
    names = [
        (re.compile(rf"(?<![^\W_]){joined}(?![^\W_])", re.IGNORECASE), f"person-{hashed(person, salt)}")
        for person in sorted(people, key=len, reverse=True)
        if (joined := r"[\W_]{1,3}".join(map(re.escape, re.findall(r"\w+", person))))
    ]

    def clean(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: clean(inner) for key, inner in part.items()}
        if isinstance(part, (list, tuple)):
            return [clean(inner) for inner in part]
        if isinstance(part, str):
            for name, mark in names:
                part = name.sub(mark, part)
        return part

    return clean(value)


def _meta(log: EvalLog) -> Mapping[str, TaskMeta]:
    return log.meta["tasks"] if log.meta else {}


def hashed(person: str, salt: str) -> str:
    """16 hexadecimal digits that the owner of the salt can make again from the name."""
    return hashlib.sha256(f"{salt}\0{person}".encode()).hexdigest()[:16]


def _cost(
    logs: Logs, track: Track, margin: float, refusals: Sequence[str] | None
) -> tuple[Finding, dict[str, float | None]]:
    """(Model Utility beside the base's, {over-refusal, knowledge hole})."""
    both = (logs.model, logs.base)
    facts = known_rows(both, track)
    units = units_of(logs.model, track, facts)
    scores = [score_log(log, track, facts, refusals) for log in both]
    one = numbers_of(UTILITY, Pair(track, units, scores[:1], scores[1:]), margin)
    utility = Finding("utility, all that should stay", one["A"], one["B"], None, one["difference"], one["interval"],
                      one["interval 90"], one["people needed"])  # fmt: skip
    beside = collateral(logs.model, scores[0], scores[1], track, units)
    return utility, {OVER_REFUSAL: beside[OVER_REFUSAL], HOLE: beside[HOLE]}


def _holdout(log: EvalLog, numbers: Numbers) -> dict[str, Any] | None:
    """Who the people held out are: how many, and whether texts alone tell them from the people to forget (1/2: no)."""
    for task, twin in numbers.twins.items():
        sides = []
        for name in (task, twin):
            texts: dict[str, list[str]] = {}
            for person, row in zip(numbers.people[name], rows_of(log.tasks[name]), strict=True):
                texts.setdefault(person, []).append(log.tasks[name]["generated_text"][row][2])
            sides.append([" ".join(own) for own in texts.values()])
        blind = blind_auc(*sides) if min(map(len, sides)) > 1 and any(map(str.strip, sides[0])) else None
        return {"people": len(sides[1]), "rows": len(log.tasks[twin]["avg_gt_loss"]), "blind AUC": blind}
    return None


def _request(log: EvalLog, track: Track, salt: str) -> dict[str, Any]:
    names = [task.name for task in (*track.tasks, *track.beside) if task.to_forget and task.name in log.tasks]
    people = sorted({person for name in names for person in people_of(log, name)})
    run = log.meta["run"] if log.meta else {}
    return {
        "people": [hashed(person, salt) for person in people],
        "rows": {name: len(log.tasks[name]["avg_gt_loss"]) for name in names},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "modality": run.get("modality"),
        "method": run.get("method"),
    }


def _hashes(log: EvalLog) -> dict[str, Any]:
    run: Mapping[str, Any] = log.meta["run"] if log.meta else {}
    made_from = run.get("made_from") or {}
    return {
        "weights": made_from.get("model") or run.get("weights"), "processor": made_from.get("processor"),
        "data": made_from.get("data"), "settings": run.get("settings_hash"), "seed": run.get("seed"),
        "commit": run.get("commit"), "start": run.get("start"),
    }  # fmt: skip


def _not_tested(evidence: Evidence) -> list[str]:
    """What the certificate does not show, for a reader who does not know the field."""
    said = ["It compares answers, on the rows named above, with those of a model or of people that serve as a "
            "reference. It is a statistical comparison, no proof of erasure."]  # fmt: skip
    if evidence.against != GOLD:
        said.append("No model was retrained without these people. That other people are answered alike does not show "
                    "that these would be answered so by a model that never saw them.")  # fmt: skip
    if not evidence.auc:
        said.append("Whether these people stand out against people never seen (membership) was not tested.")
    if evidence.stress is None:
        said.append("Other wordings, sampling, quantisation and further training (stress tests) were not tried.")
    elif evidence.absent:
        said.append(f"Of the stress tests these were not run: {', '.join(evidence.absent)}.")
    said.append("Copies of the data elsewhere (logs, caches, backups) are another matter: docs/privacy.md lists them.")
    return said


def worst_examples(log: EvalLog, count: int = 6) -> list[dict[str, str]]:
    """The answers about forgotten people that come nearest to the truth, worst first: question, answer, generated."""
    track = track_of(log.tasks, log.name)
    found = []
    for task in track.tasks:
        if task.to_forget and log.meta:
            for row, (_, generated, answer) in log.tasks[task.name]["generated_text"].items():
                question = log.meta["tasks"][task.name]["rows"][row]["question"]
                said = {"question": question, "answer": answer, "generated": generated}
                found.append((float(rouge_recall([generated], [answer])["rougeL_recall"][0]), said))
    return [said for _, said in sorted(found, key=lambda one: -one[0])[:count]]
