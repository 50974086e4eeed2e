"""From the paths of eval logs to files: rows merged into the leaderboard, and its table and picture written beside
it."""

import glob
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearn.atomic import finite, write_json, write_text
from unlearn.leaderboard.certificate import certificate, worst_examples
from unlearn.leaderboard.comparison import MARGIN, compare_logs
from unlearn.leaderboard.file import board_lock, merge_rows, read_rows, role_of
from unlearn.leaderboard.findings import Logs
from unlearn.leaderboard.redact import alike, redacted
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.section import Section
from unlearn.leaderboard.stress_findings import stress_findings
from unlearn.leaderboard.table import latex_table, markdown_table
from unlearn.report.certificate import write_certificate
from unlearn.report.html import write_report
from unlearn.report.scatter import trade_off_picture
from unlearn.results import EvalLog, read_log

OUTPUTS = {"picture": ".png", "report": ".html", "markdown": ".md", "latex": ".tex"}


@dataclass(frozen=True)
class AggregateSettings:
    """The keys of config/aggregate_eval_stat.yaml. Outputs: a path, true for a file named after `save_file`, or
    false."""

    retain_result: str | None = ""  # the gold model's eval_log_aggregated.json
    ckpt_result: str | list[str] = ""  # the models': a path, a list of paths, or a glob
    base_result: str | None = None  # the model before unlearning
    method_name: str | None = None
    submitted_by: str = ""
    save_file: str = "leaderboard.json"
    refusals: str | None = None  # a text file, one refusal per line
    picture: bool | str = True
    report: bool | str = True  # the page to explore, one self-contained HTML file
    markdown: bool | str = False
    latex: bool | str = False
    compare: str | list[str] | None = None  # two logs, or names of rows of save_file: compare these and do nothing else
    gold_again: str | None = None  # with compare: the log of a second gold, of another seed
    plugins: list[str] = field(default_factory=list)  # with columns or tracks of their own; the script loads them
    margin: float = MARGIN  # within which two models are called equal
    certificate: str | None = None  # a page for one model's forget request: write it and do nothing else
    stress: str | None = None  # of the certificate: the folder of a stress run
    redact: bool = False  # numbers and ids only: no text, no name, no picture on the page
    examples: bool = False  # of the certificate: show six answers, with the names that are in them


def update_leaderboard(settings: AggregateSettings, sections: Sequence[Section] = ()) -> list[dict[str, Any]]:
    """Merges a row per log, gold's and base's among them, into `save_file` and writes what else is asked for; returns
    all rows of the leaderboard.

    `sections` show the rows of other kinds that the file holds.

    Every log is read and checked before anything is written. ValueError: see leaderboard_row, find_logs and merge_rows.
    """
    if not settings.retain_result:
        raise ValueError("retain_result is empty: give the gold model's eval_log_aggregated.json.")
    outputs = _outputs(settings)
    gold = _read(settings.retain_result, settings)
    base = _read(settings.base_result, settings) if settings.base_result else None
    refusals = read_refusals(settings.refusals) if settings.refusals else None
    board = Path(settings.save_file)
    anchors = [log for log in (gold, base) if log]
    others = (_unless_read(path, anchors, settings) for path in find_logs(settings.ckpt_result))
    logs = [*anchors, *filter(None, others)]
    rows = [
        leaderboard_row(
            log, gold, base_log=base, method=None if log in anchors else settings.method_name,
            submitted_by=settings.submitted_by, refusals=refusals, relative_to=board.parent,
        )
        for log in logs
    ]  # fmt: skip
    with board_lock(board):  # the picture and the page show the rows that the file has
        rows = merge_rows(board, rows)
        if picture := outputs.get("picture"):
            trade_off_picture(rows, picture)
        if report := outputs.get("report"):
            write_report(report, rows, root=board.parent, sections=sections, redact=settings.redact)
        if markdown := outputs.get("markdown"):
            write_text(markdown, markdown_table(rows, sections))
        if latex := outputs.get("latex"):
            write_text(latex, latex_table(rows, sections))
    return rows


def compare_models(settings: AggregateSettings) -> tuple[dict[str, Any], Path]:
    """The two models of `compare` (leaderboard/comparison.py) and the file beside `save_file` that says so.

    With `base_result` or `gold_again`, gold's log (`retain_result`) is read too. A name that several rows have, or a
    glob, is a model of several seeds. ValueError: not two models, an unknown or ambiguous name, or logs that cannot be
    compared.
    """
    if not 0 < settings.margin <= 1:
        raise ValueError(f"margin={settings.margin:g} must lie above 0 and be at most 1.")
    named = [settings.compare] if isinstance(settings.compare, str) else list(settings.compare or [])
    board = Path(settings.save_file)
    paths = [_log_paths(name, board) for name in named]
    if len(paths) != 2 or {path.resolve() for path in paths[0]} & {path.resolve() for path in paths[1]}:
        raise ValueError(f"compare={named} takes two different models: [A,B], logs or names of rows of {board}.")
    a, b = (_seeds_of(side) for side in paths)
    base, again = (read_log(path) if path else None for path in (settings.base_result, settings.gold_again))
    gold = read_log(settings.retain_result or "") if base or again else None
    found = compare_logs(
        a, b, gold=gold, base=base, gold_again=again, margin=settings.margin, relative_to=str(board.parent)
    )
    path = board.with_suffix(".comparison.json")
    write_json(path, finite(found))
    return found, path


def certify(settings: AggregateSettings, command: str = "", rule: str = "") -> tuple[dict[str, Any], Path]:
    """The certificate of one model (leaderboard/certificate.py) and the page that says it, with its JSON beside it.

    `base_result` is needed; without `retain_result` people held out are the reference. The salt of the people's hashes
    lies in `<certificate>.salt`, made once. `rule`: when training stopped. ValueError: no base, several models, or logs
    that cannot be compared.
    """
    if not 0 < settings.margin <= 1:
        raise ValueError(f"margin={settings.margin:g} must lie above 0 and be at most 1.")
    if not settings.base_result:
        raise ValueError("certificate: base_result is empty: give the log of the model before unlearning.")
    models = find_logs(settings.ckpt_result)
    if len(models) != 1:
        raise ValueError(f"certificate: ckpt_result names {len(models)} logs, and a certificate is of one model.")
    path = Path(str(settings.certificate))
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"certificate={path}: give a name that ends in .html.")
    if settings.redact and settings.examples:
        raise ValueError("examples=true shows texts and redact=true removes them: leave one out.")
    paths = (models[0], settings.base_result, settings.retain_result)
    model, base, gold = alike(*(_read(path, settings) if path else None for path in paths))
    assert model is not None and base is not None
    logs = Logs(model, base, gold)
    stress = stress_findings(Path(settings.stress), logs.model) if settings.stress else None
    salt = _salt(path.with_suffix(".salt"))
    facts = certificate(
        logs, salt=salt, margin=settings.margin, stress=stress, command=command, rule=rule,
        refusals=read_refusals(settings.refusals) if settings.refusals else None,
    )  # fmt: skip
    write_text(path.with_suffix(".salt"), salt)
    path.with_suffix(".salt").chmod(0o600)
    return facts, write_certificate(facts, path, worst_examples(logs.model) if settings.examples else ())


def _salt(file: Path) -> str:
    """What the hashes of names are made with, in a file that its owner alone may read and gives to nobody."""
    if not file.is_file():
        return secrets.token_hex(16)
    if not (salt := file.read_text(encoding="utf-8").strip()):
        raise ValueError(f"{file} is empty: remove it, and another salt is made (the hashes will be others).")
    return salt


def _log_paths(name: str, board: Path) -> list[Path]:
    """The log of a path, or of the row of a leaderboard that is called so (its method, or gold, base). Several: those
    of a glob, or of rows that differ in nothing but the seed."""
    if Path(name).is_file():
        return [Path(name)]
    if glob.has_magic(name):
        return find_logs(name, "compare")
    rows = read_rows(board)
    found = [row for row in rows if row["method"] == name] or [row for row in rows if role_of(row) == name]
    logs = [board.parent / log for row in found if (log := (row.get("logs") or {}).get("model"))]
    variants = {tuple(str(row.get(key)) for key in ("variant", "modality", "forget_split")) for row in found}
    seeds = {str(row.get("seed")) for row in found}
    if len(logs) == 1 or (len(logs) == len(seeds) == len(found) and len(variants) == 1 and found[0].get("variant")):
        return logs
    known = ", ".join(dict.fromkeys(str(row["method"]) for row in rows)) or "no row"
    if logs:
        raise ValueError(f"compare: {len(logs)} rows of {board} are called {name!r}; give the path of one of their "
                         f"logs: {', '.join(map(str, logs))}.")  # fmt: skip
    raise ValueError(f"compare: {name!r} is no file, and no row of {board} with a log ({known}). Give the path of an "
                     "eval_log_aggregated.json, or the name of a row.")  # fmt: skip


def _seeds_of(paths: Sequence[Path]) -> list[EvalLog]:
    """The logs of a model. ValueError where several are not seeds of one: other variants, or a seed twice."""
    logs = [read_log(path) for path in paths]
    runs = [log.meta["run"] if log.meta else {} for log in logs]
    variants = {tuple(str(run.get(key)) for key in ("method", "variant", "modality", "forget_split")) for run in runs}
    if len(logs) > 1 and (len(variants) > 1 or len({run.get("seed") for run in runs}) < len(runs)):
        raise ValueError(f"compare: {', '.join(map(str, paths))} are no seeds of one model: their eval_meta.json must "
                         "agree in all but the seed.")  # fmt: skip
    return logs


def find_logs(patterns: str | Sequence[str], key: str = "ckpt_result") -> list[Path]:
    """The files that paths and globs (`models/**/eval_log_aggregated.json`) name, each once, sorted within a glob.

    ValueError for a pattern without a file; `key` is where the user wrote it.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise ValueError(
                f"{key}={pattern!r} names no file. Give the path of an eval_log_aggregated.json, or a glob."
            )
        found |= dict.fromkeys(files)
    if not found:
        raise ValueError("ckpt_result is empty: give the path of an eval_log_aggregated.json, several, or a glob.")
    return list(found)


def read_refusals(path: str | Path) -> list[str]:
    """The lines of a bank of refusals. ValueError if there is no such file."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(
            f"refusals={path}: no such file. Correct the path, or leave the rate out with refusals=null."
        ) from None
    return [line.strip() for line in lines if line.strip()]


def _read(path: str | Path, settings: AggregateSettings) -> EvalLog:
    log = read_log(path)
    bank = read_refusals(settings.refusals) if settings.refusals else None
    return redacted(log, bank) if settings.redact else log


def _unless_read(path: Path, known: Sequence[EvalLog], settings: AggregateSettings) -> EvalLog | None:
    """The log of `path`; None where it is gold's or base's own."""
    same = any(log.path and log.path.resolve() == path.resolve() for log in known)
    return None if same else _read(path, settings)


def _outputs(settings: AggregateSettings) -> dict[str, Path]:
    """Where picture, report and tables go. ValueError if one of them would replace the rows, or another of them."""
    board = Path(settings.save_file)
    if board.suffix.lower() in OUTPUTS.values():
        raise ValueError(f"save_file={board} is where the rows go: give it a name that ends in .json or .csv.")
    taken = {board.resolve(): "save_file"}
    outputs = {}
    for name, suffix in OUTPUTS.items():
        if wanted := getattr(settings, name):
            outputs[name] = path = Path(wanted) if isinstance(wanted, str) else board.with_suffix(suffix)
            if other := taken.get(path.resolve()):
                raise ValueError(f"{name}={path} is the file of {other} too: give one of them another name.")
            taken[path.resolve()] = name
    return outputs
