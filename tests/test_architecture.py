"""The worked examples of docs/architecture.md, taken from the page: written into a copy of the project, run through its
scripts with one start, their files counted."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_layering import CONTRACT, LINES, READERS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("unlearn", "mm", "nlp", "cv", "sweeps", "minibench", "config", "data")
PETS = [(f"Whose is {pet}?", f"{who}'s", ["Nobody's", "Everybody's"])
        for pet, who in (("Rex", "Ann"), ("Tom", "Bob"), ("Ida", "Cy"), ("Kim", "Dot"))]  # fmt: skip


def sections() -> dict[str, tuple[str, int]]:
    """Heading -> (text, how many files the heading promises)."""
    words = {"no": 0, "one": 1, "two": 2}
    found = re.findall(r"^## (A [\w ]+): (\w+) files?.*?\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)
    return {title: (text, words[count]) for title, count, text in found}


def blocks(text: str) -> list[tuple[str, str, str]]:
    """(file named last before the block, language, code) of each block."""
    found, start = [], 0
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, flags=re.M | re.S):
        names = re.findall(r"`([\w/.]+/[\w.]+\.(?:py|yaml))`", text[start : match.start()])
        file = names[-1] if names else (found[-1][0] if found else "")
        named = [name for name in names if not (ROOT / name).exists() or match[1] == "diff"]
        found.append((named[-1] if named else file, match[1], match[2]))
        start = match.end()
    return found


def write(project: Path, text: str) -> set[str]:
    """Puts a section's blocks into the project; the files it touches."""
    touched = set()
    for file, language, code in blocks(text):
        path = project / file
        if language in ("python", "yaml"):
            assert not path.exists(), f"{file} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, encoding="utf-8")
        elif language == "diff":
            before, after = ("".join(f"{line[1:]}\n" for line in code.splitlines() if line[0] != sign) for sign in "+-")
            source = path.read_text(encoding="utf-8")
            assert source.count(before) == 1, f"{file} does not have once:\n{before}"
            path.write_text(source.replace(before, after), encoding="utf-8")
        else:
            continue
        touched.add(file)
    return touched


def steps(text: str) -> list[str]:
    """A section's commands as steps of chain.py."""
    lines = [line for _, language, code in blocks(text) if language == "bash" for line in code.splitlines()]
    return [shlex.join(shlex.split(re.sub(r"^(accelerate launch|python) ", "", line))) for line in lines]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[str]], str]:
    """A copy with all four examples, after their commands: (folder, files by section, what was said)."""
    folder = tmp_path_factory.mktemp("project")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ROOT.glob("*.py"):
        shutil.copy(script, folder)
    touched = {title: write(folder, text) for title, (text, _) in sections().items()}
    shutil.copytree(ROOT / "minibench/weights/qwen2vl-mini", folder / "my-model")
    (folder / "pets/data").mkdir(parents=True)
    for split, rows in (("all", PETS), ("out", PETS[:2]), ("kept", PETS[2:])):
        lines = [json.dumps(dict(zip(("question", "answer", "other"), row, strict=True))) + "\n" for row in rows]
        (folder / f"pets/data/{split}.jsonl").write_text("".join(lines))
    commands = [step for text, _ in sections().values() for step in steps(text)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "chain.py", *commands], cwd=folder, env=environment, text=True,
                          capture_output=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, touched, done.stdout


def test_each_change_touches_the_files_it_promises(project: tuple[Path, dict[str, set[str]], str]) -> None:
    _, touched, _ = project
    promised = {title: count for title, (_, count) in sections().items()}
    assert promised == {"A method": 1, "A metric with its column": 2, "A model": 0, "A benchmark": 1}
    track = touched["A benchmark"] - {"config/tracks/pets.yaml"}
    assert track == {"pets/track.py"}, "the folder, for sweeps; the file alone is the first form"
    assert {title: len(files) for title, files in touched.items()} == {**promised, "A benchmark": 2}


def test_the_method_ran_and_its_mask_held(project: tuple[Path, dict[str, set[str]], str]) -> None:
    from safetensors.torch import load_file

    folder, _, _ = project
    factors = load_file(folder / "out/masked/adapter_model.safetensors")
    moved = [tensor.ne(0).float().mean().item() for name, tensor in factors.items() if "lora_B" in name]
    assert moved and all(0 < share < 0.25 for share in moved), "B starts at 0, and a fifth of it may move"
    (row,) = methods(folder / "out/board.json")
    assert row["method"] == "masked_ascent"


def test_the_metric_is_in_row_and_table(project: tuple[Path, dict[str, set[str]], str]) -> None:
    folder, _, said = project
    (row,) = methods(folder / "out/capitals.json")
    assert 0 <= row["Capitals Forget"] <= 1 and "Capitals Retain" in row
    assert re.search(r"^Method.*Capitals", said, flags=re.M)


def test_the_model_and_both_forms_of_the_benchmark_ran(project: tuple[Path, dict[str, set[str]], str]) -> None:
    folder, _, _ = project
    assert (folder / "out/mine/npo/eval_results/eval_log_aggregated.json").exists()
    (row,) = methods(folder / "out/pets.json")
    assert 0 <= row["Forget metric"] <= 1 and row["track"] == "pets"
    (swept,) = methods(folder / "out/sweep/leaderboard.json")
    assert swept["method"] == "npo" and swept["track"] == "pets" and swept["seed"] == 1


def methods(board: Path) -> list[dict]:
    rows = json.loads(board.read_text(encoding="utf-8"))
    return [row for row in rows if row["role"] == "method"]


def test_the_page_draws_the_order_that_is_enforced() -> None:
    block = re.search(r"```text\n(atomic <.*?)```", PAGE, flags=re.S)
    assert block is not None
    core, readers, _ = (tuple(tuple(part.split(", ")) for part in line.split(" < ")) for line in block[1].splitlines())
    contract = {*CONTRACT}
    drawn = [tuple(room for room in rooms if room not in contract) + ("contract",) * bool({*rooms} & contract)
             for rooms in LINES]  # fmt: skip
    assert list(core) == drawn and readers == tuple((room,) for room in READERS)


def test_the_files_of_the_story_are_there() -> None:
    story = PAGE[PAGE.index("## A run, room by room") : PAGE.index("## Who may import whom")]
    named = re.findall(r"`([\w/]+(?:\.py|/))`", story)
    assert len(named) > 20 and [name for name in named if not (ROOT / name).exists()] == []
