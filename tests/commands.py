"""Every command that a page, a config's comment, a docstring or the Makefile prints, as words."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "data/README.md", "docs/*.md", "config/**/*.yaml", "config/**/*.md")
SCRIPTS = ("*.py", "mm/*.py", "nlp/*.py", "cv/*.py", "cv/**/*.py", "minibench/*.py", "benchmarks/*.py", "sweeps/*.py")
TARGETS = (
    "demo", "stress", "request-demo", "demo-nlp", "demo-cv", "test", "test-all", "lint", "methods", "bench", "bench-cv",
)  # fmt: skip
WORD = r"""(?:[^\s'"`#]|'[^'\n]*'|"(?:\\.|[^"\n\\])*")(?:[^\s'"`]|'[^'\n]*'|"(?:\\.|[^"\n\\])*")*"""
START = re.compile(r"(?<![\w/-])(?:[\w./]*/)?(accelerate launch|python3?(?! -c)|make|pip install)[ ]+(?=[\w.-])")
# What stands for something of the reader's, and what it is taken as.
PLACEHOLDERS = ((r"<[^<>\n]*>", "something"), (r"\$\(\(.*?\)\)|\$\w+", "8"), (r"(?<=table=)N\b", "1"))


@dataclass(frozen=True)
class Command:
    """`kind`: accelerate launch, python, make or pip install. `where`: file:line."""

    kind: str
    words: tuple[str, ...]
    where: str

    def __str__(self) -> str:
        return shlex.join((self.kind, *self.words)).replace("'accelerate launch'", "accelerate launch")


def every_command() -> list[Command]:
    """All of them, each once."""
    found: dict[tuple[str, tuple[str, ...]], Command] = {}
    for pattern in (*PAGES, *SCRIPTS, "Makefile", "*.mk"):
        for path in sorted(ROOT.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            for command in commands_in(docstring(text) if path.suffix == ".py" else text, str(path.relative_to(ROOT))):
                found.setdefault((command.kind, command.words), command)
    return list(found.values())


def commands_in(text: str, name: str) -> Iterator[Command]:
    """The commands of a text. A line of a code block must be a command to its end, or to a comment."""
    text = re.sub(r"\\\n[\s#]*", lambda gap: " " * len(gap[0]), text)  # continued lines
    for pattern, value in PLACEHOLDERS:
        text = re.sub(pattern, value, text)
    fenced = False
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("```"):
            fenced = line.startswith("```bash")
        for start in START.finditer(line):
            quoted = line[: start.start()].endswith("`")
            rest = line[start.end() :]
            if quoted:
                rest = rest.partition("`")[0]
            if start[1] in ("make", "pip install") and not (quoted or line[: start.start()].strip(" #") == ""):
                continue  # prose
            words, left = words_of(rest, strict=quoted or fenced)
            assert not (fenced and left.strip("' ")), f"{name}:{number}: {left!r} is no part of a command"
            if words:
                yield Command(start[1].replace("python3", "python"), words, f"{name}:{number}")


def words_of(rest: str, strict: bool) -> tuple[tuple[str, ...], str]:
    """(words, what is left). Not strict: prose follows after two spaces, a colon, or a word that is no argument."""
    words: list[str] = []
    while match := re.match(rf"\s*({WORD})", rest):
        gap, raw = match[0][: match.start(1)], match[1]
        argument = re.match(r"[-+~]|['\"]|[\w./]+=|\.\.\.$", raw) or (words and words[-1].startswith("-"))
        script = not any(word.endswith(".py") for word in words) and re.fullmatch(r"[\w./-]+", raw)
        if not strict and words and not argument and (len(gap) > 1 or not script):
            break
        rest = rest[match.end() :]
        if not strict and raw[-1] in ".,:;" and not raw.endswith("..."):
            words, rest = [*words, raw.rstrip(".,:;")], ""
            break
        words += [] if raw == "..." else [raw]
    left = re.sub(r"^\s*#.*", "", rest)
    return tuple(part for word in words for part in (shlex.split(word) or [""])), left


def docstring(source: str) -> str:
    """A module's docstring, its lines where they stand."""
    match = re.match(r'\s*r?"""(.*?)"""', source, flags=re.S)
    return match[1] if match else ""


def made_by(target: str) -> list[Command]:
    """The commands that `make target` would run."""
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return list(commands_in(f"```bash\n{done.stdout}```\n", f"make {target}"))
