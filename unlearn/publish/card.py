"""The model card (README.md) of a published run: what it is, how it was made, what was measured, what it is no proof
of."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.leaderboard.escape import markdown_cell, one_line
from unlearn.leaderboard.table import markdown_table
from unlearn.models.hub import is_hub_id, split_revision
from unlearn.registry import build_method, options_of

LIMITS = """\
For research on machine unlearning: to compare methods, to attack them, to reproduce the numbers above.

- **Unlearning is no proof of erasure.** What was measured is behaviour on the questions above. What was unlearned may
  still be in the weights and come back by further training, quantisation, other wordings or an attack. Do not use this
  model to show that a legal duty to erase has been met.
- **Keeping has a price.** Read Forget beside Retain and Real: a wrecked model forgets everything. Skills that no task
  here measures may have suffered.
- One run with one seed says little about a method; the leaderboard pools seeds."""
ADAPTER_LIMIT = """\
- **The base model still knows everything.** This is an adapter: with it switched off or removed, nothing is
  forgotten."""


@dataclass(frozen=True)
class Card:
    """What a card is written from. `record`: run.json without private paths (publish.public_record); `rows`:
    leaderboard rows."""

    record: Mapping[str, Any]
    name: str
    base: str | None
    rows: Sequence[Mapping[str, Any]]
    adapter: bool
    merged: bool
    license: str | None


def model_card(card: Card) -> str:
    """The whole text, front matter first."""
    parts = [
        f"---\n{_front_matter(card)}---", f"# {markdown_cell(card.name)}", _summary(card),
        "## How it was made", _facts(card), _method_text(card),
        "## Results", _results(card), "## Use", _usage(card), "## Intended use and limits", LIMITS,
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + (f"\n{ADAPTER_LIMIT}\n" if card.adapter else "\n")


def _front_matter(card: Card) -> str:
    """The hub's metadata as YAML. The licence is the publisher's to state; without one the key is left out."""
    import yaml

    settings = card.record["settings"]
    paths = [settings.get(key) for key in ("forget_data_path", "retain_data_path", "data_path")]
    tags = [
        "machine-unlearning",
        "clear-benchmark",
        settings.get("forget_loss") or "finetuned",
        *["lora"] * card.adapter,
    ]
    facts: dict[str, Any] = {
        "base_model": split_revision(card.base)[0] if card.base else None,
        "base_model_relation": ("adapter" if card.adapter else "finetune") if card.base else None,
        "library_name": "peft" if card.adapter else "transformers",
        "pipeline_tag": "text-generation" if _text_only(settings) else "image-text-to-text",
        "tags": tags,
        "datasets": list(dict.fromkeys(path for path in paths if path and is_hub_id(path) and not Path(path).exists()))
        or None,
        "license": card.license,
    }
    return yaml.safe_dump(
        {key: value for key, value in facts.items() if value is not None}, sort_keys=False, allow_unicode=True
    )


def _text_only(settings: Mapping[str, Any]) -> bool:
    from unlearn.models.families import load_family

    return load_family(settings["model_family"]).text_only


def _summary(card: Card) -> str:
    settings = card.record["settings"]
    form = "A LoRA adapter" if card.adapter else "A whole model (adapter merged in)" if card.merged else "A whole model"
    base = _code(card.base)
    on = f" of {base}" if card.adapter else f" that descends from {base}" if card.base else ""
    if card.record["kind"] == "forget":
        done = f"{_code(settings['forget_split'])} was unlearned with **{settings['forget_loss']}**"
        kept = f", {_code(settings['retain_split'])} was to be kept" if settings.get("retain_split") else ""
        return f"{form}{on}. {done}{kept} ({_modality(settings)})."
    return f"{form}{on}, finetuned on {_code(settings['split'])}: a start or a reference for unlearning."


def _code(name: object) -> str:
    """A name as code, which it cannot end."""
    return f"`{one_line(name).replace('`', '')}`"


def _modality(settings: Mapping[str, Any]) -> str:
    words = {
        "text": "text questions",
        "visual": "pictures with captions",
        "both": "pictures with captions and text questions",
    }
    return words.get(settings.get("modality") or "", "text questions")


def _facts(card: Card) -> str:
    """A table of what decides the result; the rest is in run.json."""
    record, settings = card.record, card.record["settings"]
    lora, data = settings["LoRA"], settings.get("forget_data_path") or settings.get("data_path")
    rows = {
        "method": settings.get("forget_loss"),
        "options": _options(settings),
        "forget split": settings.get("forget_split"),
        "retain split": settings.get("retain_split"),
        "split": settings.get("split"),
        "modality": settings.get("modality"),
        "data": data,
        "data revision": settings.get("data_revision"),
        "model family": settings["model_family"],
        "trained": f"LoRA r={lora['r']}, alpha={lora['alpha']:g}, {lora['targets']}" if lora["r"] else "all weights",
        "steps": record.get("steps"),
        "epochs": settings["num_epochs"],
        "lr": settings["lr"],
        "batch per device": settings["batch_size"],
        "accumulation": record.get("batch", {}).get("accumulation", settings["gradient_accumulation_steps"]),
        "rows of one step": record.get("batch", {}).get("global"),
        "stopped": record.get("stopped"),
        "seed": record["seed"],
        "weights of": f"step {record['best']['step']} (keep_best)" if record.get("saved") == "best" else None,
        "settings hash": record["settings_hash"],
        "variant": record.get("variant"),
        "commit": record.get("commit"),
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    lines = [f"| {name} | {markdown_cell(value)} |" for name, value in rows.items() if value not in (None, "")]
    return "\n".join(["| | |", "|---|---|", *lines])


def _options(settings: Mapping[str, Any]) -> str:
    if not settings.get("forget_loss"):
        return ""
    chosen = options_of(settings["forget_loss"], settings.get("method_args") or {})
    beta = {} if settings.get("loss_beta") is None else {"loss_beta": settings["loss_beta"]}
    return ", ".join(f"{name}={value}" for name, value in {**chosen, **beta}.items()) or "defaults"


def _method_text(card: Card) -> str:
    """The method's paper, equation and departures, as its own file states them."""
    name = card.record["settings"].get("forget_loss")
    if not name:
        return ""
    module = sys.modules[type(build_method(name)).__module__]
    return (
        f"What `{name}` is, from its source "
        f"(`{module.__name__}`):\n\n```text\n{inspect.cleandoc(module.__doc__ or '')}\n```"
    )


def _results(card: Card) -> str:
    if not card.rows:
        return "Not evaluated before it was published."
    said = "Measured by this project's evaluation, against a gold model that never saw the forget split."
    return f"{said}\n\n{markdown_table(card.rows).strip()}"


def _usage(card: Card) -> str:
    """How to load it here and elsewhere."""
    room = "nlp" if _text_only(card.record["settings"]) else "mm"
    family = card.record["settings"]["model_family"]
    auto = "AutoModelForCausalLM" if room == "nlp" else "AutoModelForImageTextToText"
    lines = [f"accelerate launch {room}/eval.py model_family={family} model_path={one_line(card.name)}"]
    if card.adapter:
        name, revision = split_revision(card.base or "")
        pin = f", revision={revision!r}" if revision else ""
        code = [f"from transformers import {auto}", "from peft import PeftModel", "",
                f"base = {auto}.from_pretrained({name!r}{pin})",
                f"model = PeftModel.from_pretrained(base, {card.name!r})"]  # fmt: skip
    else:
        code = [f"from transformers import {auto}", "", f"model = {auto}.from_pretrained({card.name!r})"]
    return "```bash\n" + "\n".join(lines) + "\n```\n\n```python\n" + "\n".join(code) + "\n```"
