"""Every command and every preset that the project prints composes and starts: no documented command may be dead.

Hydra scripts: the keys exist, the config composes (presets too), the settings are built, and the optimiser's batch can
be shared out over the processes that the command names. Others: the file is there and its own parser takes the options.
"""

import argparse
import functools
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sweeps import tracks
from sweeps.settings import Sweep
from tests.commands import ROOT, TARGETS, Command, every_command, made_by
from unlearn.config.build import build_settings
from unlearn.config.commandline import CONFIG_OF, check_overrides

COMMANDS = every_command()
# added by docs/architecture.md and CONTRIBUTING.md, whose own tests run them
OF_THE_READER = {"pets", "masked_ascent", "ascent_until"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.where} {command}"[:150])
def test_a_printed_command_starts(command: Command) -> None:
    check(command)


@pytest.mark.parametrize("target", TARGETS)
def test_what_make_runs_starts(target: str) -> None:
    for command in made_by(target):
        check(command)


def presets() -> list[str]:
    """Command lines with each preset, for each script that may be given it."""
    lines = [
        f"{track}/{script}.py +experiment={preset}"
        for track, scripts in (("mm", ("finetune", "forget", "eval")), ("nlp", ("finetune", "forget", "eval")),
                               ("cv", ("run",)))
        for preset in tracks.presets(track) for script in scripts
    ]  # fmt: skip
    files = ((ROOT / "config").glob(f"{group}/*.yaml") for group in ("experiment", "table"))
    return lines + [f"run_exps.py +{file.parent.name}={file.stem}" for group in files for file in sorted(group)]


@pytest.mark.parametrize("line", presets())
def test_every_preset_composes(line: str) -> None:
    check(Command("python", tuple(line.split()), "presets"))


def test_the_pages_have_commands_and_a_dead_one_is_found() -> None:
    assert len(COMMANDS) > 100 and len({command.where.split(":")[0] for command in COMMANDS}) > 40
    for line, said in (
        ("python mm/forget.py forget_los=npo", "unknown config key"),
        ("python mm/forget.py +experiment=llawa", "llawa"),
        ("python mm/forget.py forget_loss=npoo", "npoo"),
        ("python mm/forget.py precision=fp8", "fp8"),
        ("python run_exps.py track=sound", "no module sound"),
        ("python publish.py modelpath=x", "unknown config key"),
        ("accelerate launch --num_processes 8 mm/forget.py +experiment=llava", "cannot be met"),
        ("accelerate launch --num_process_es 8 mm/forget.py", "num_process_es"),
        ("python benchmarks/coverage.py --drawz 3", "drawz"),
        ("python benchmarks/gone.py", "gone"),
        ("python chain.py mm/finetune.py_split=x", "mm/finetune.py_split"),
        ("make demos", "demos"),
    ):
        kind, rest = re.match(r"(accelerate launch|python|make) (.*)", line).groups()  # type: ignore[union-attr]
        with pytest.raises((Exception, SystemExit), match=said):
            check(Command(kind, tuple(rest.split()), "here"))


def check(command: Command) -> None:
    """Raises unless the command would start."""
    words, processes = list(command.words), 1
    if command.kind == "make":
        assert words[0] in targets(), f"make has no target {words[0]}"
    elif command.kind == "pip install":
        assert {*extras(words)} <= optional_dependencies(), words
    elif words[0] == "-m":
        check_module(words[1], words[2:])
    else:
        if command.kind == "accelerate launch":
            words, processes = launched(words)
        if words:
            check_script(words[0], words[1:], processes)


@functools.cache
def targets() -> set[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "Makefile", *ROOT.glob("*.mk")))
    return {*re.findall(r"^([\w-]+):", text, flags=re.M)}


def extras(words: Sequence[str]) -> list[str]:
    return [extra for word in words for extra in re.findall(r"^\.\[([\w-]+)\]$", word)]


def optional_dependencies() -> set[str]:
    import tomllib

    return {*tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]}


def launched(words: list[str]) -> tuple[list[str], int]:
    """(the script and its arguments, processes) of `accelerate launch`, by accelerate's own parser."""
    from accelerate.commands.launch import launch_command_parser

    at = next((place for place, word in enumerate(words) if word.endswith(".py")), len(words))
    parser = launch_command_parser()
    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_args([*words[:at], "script.py"])
    if options.config_file:
        assert (ROOT / options.config_file).is_file(), options.config_file
    return words[at:], options.num_processes or 1


def refuse(message: str) -> NoReturn:
    raise ValueError(message)


def check_script(script: str, words: list[str], processes: int) -> None:
    name = script.removesuffix(".py")
    name = CONFIG_OF.get(name, name)
    assert (ROOT / script).is_file(), f"{script} is not there"
    if script == "chain.py":
        for step in words:
            first, *rest = shlex.split(step)
            check_script(first, rest, 1)
    elif (ROOT / "config" / f"{name}.yaml").is_file():
        if not any(word.partition("=")[2] in OF_THE_READER for word in words):
            check_hydra(name, words, processes)
    else:
        check_parser(ROOT / script, words)


def check_module(module: str, words: list[str]) -> None:
    if module not in ("pytest", "lm_eval", "lmms_eval"):  # other people's
        check_parser(ROOT / f"{module.replace('.', '/')}.py", words)


class Parsed(Exception):
    """A script's own parser has taken the command line."""


def check_parser(path: Path, words: list[str]) -> None:
    """Runs the script up to the moment when its parser has read the words."""
    assert path.is_file() and "parse_args()" in path.read_text(encoding="utf-8"), path

    def parse(self: argparse.ArgumentParser, *_: Any) -> NoReturn:
        left = self.parse_known_args(words)[1]
        raise Parsed if not left else ValueError(f"{path} does not know {left}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        patch.setattr(argparse.ArgumentParser, "error", lambda self, message: refuse(message))
        patch.setattr(sys, "argv", [str(path), *words])
        patch.syspath_prepend(str(path.parent))
        with pytest.raises(Parsed):
            runpy.run_path(str(path), run_name="__main__")


def check_hydra(name: str, words: list[str], processes: int) -> None:
    """The command's config, checked as far as that goes without data or a model."""
    words = [re.sub(r"^(\+?table=)(\d+)$", r"\1'\2'", word) for word in words]  # as run_exps.py does
    check_overrides(name, words)
    track, _, script = name.rpartition("/")
    if track in ("mm", "nlp") and script in ("finetune", "forget"):
        settings = tracks.training_settings(track, script, words)
        settings.accumulation(processes)
    elif track:
        assert tracks.find(track).settings(script, tracks.compose(script, words, track))
    elif name == "run_exps":
        build_settings(Sweep, composed(name, words)).check()
    else:
        build_settings(settings_of(name), composed(name, words))


def settings_of(name: str) -> type:
    from mm.request_settings import RequestSettings
    from unlearn.aggregate import AggregateSettings
    from unlearn.publish.export import PublishSettings

    known = {"aggregate_eval_stat": AggregateSettings, "publish": PublishSettings, "request": RequestSettings}
    return known[name]


def composed(name: str, words: list[str]) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(ROOT / "config"), version_base=None):
        values: Any = OmegaConf.to_container(compose(name, words), resolve=True)
    return values
