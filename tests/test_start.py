"""What a script does before it works: its config and a bad key are answered without a library, a mistake without a
traceback, and reading logs needs no torch at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_input import run_script
from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [
    *(f"{room}/{name}.py" for room in ("mm", "nlp") for name in ("finetune", "forget", "eval", "stress")),
    *(f"cv/{name}.py" for name in ("prepare", "pretrain", "finetune", "forget", "score", "attack", "run")),
    "run_exps.py", "aggregate_eval_stat.py", "publish.py",
]  # fmt: skip
LIGHT = """
import contextlib, io, runpy, sys
for script in sys.argv[1:]:
    helped = [["--help"]] if script in ("mm/forget.py", "cv/forget.py", "run_exps.py") else []
    for words in (["--cfg", "job"], ["bad_key_of_nobody=1"], *helped):
        sys.argv[:] = [script, *words]
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            said.write(str(end.code))
        expected = "error: unknown config key 'bad_key_of_nobody'" if "=" in words[0] else ":"
        assert expected in said.getvalue(), (script, words, said.getvalue())
        heavy = {"torch", "transformers", "datasets", "numpy", "scipy", "matplotlib"} & set(sys.modules)
        assert not heavy, (script, words, heavy)
print("light")
"""
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate", "datasets"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from cv.page import FACES
from unlearn.aggregate import AggregateSettings, update_leaderboard
gold, log, board = sys.argv[1:]
print(len(update_leaderboard(AggregateSettings(retain_result=gold, ckpt_result=log, save_file=board), [FACES])))
"""
MISTAKES = {
    **dict.fromkeys(SCRIPTS[:8], "batch_size=0"),
    **{f"cv/{name}.py": "num_epochs=0" for name in ("pretrain", "finetune", "forget")},
    "cv/prepare.py": "models=0", "cv/score.py": "num_enroll=0", "cv/attack.py": "draws=0", "cv/run.py": "forget_size=7",
    "run_exps.py": "track=sound", "aggregate_eval_stat.py": "retain_result=nothing.json", "publish.py": "precision=fp1",
}  # fmt: skip


def test_config_help_and_a_bad_key_import_no_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *SCRIPTS], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and done.stdout.endswith("light\n"), done.stderr


def test_a_leaderboard_needs_no_torch(tmp_path: Path) -> None:
    paths = []
    for name, seed in (("gold", 1), ("log", 2)):
        log = make_log(seed=seed)
        save_log(tmp_path / name, log, make_meta(log))
        paths.append(str(tmp_path / name / "eval_log_aggregated.json"))
    command = [sys.executable, "-c", BLOCKED, *paths, str(tmp_path / "board.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == "2\n", done.stderr
    assert (tmp_path / "board.html").is_file() and (tmp_path / "board.png").is_file()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_users_mistake_is_one_line(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as caught:
        run_script(script, MISTAKES[script])
    key, _, value = MISTAKES[script].partition("=")
    assert str(caught.value.code).startswith("error: "), caught.value.code
    assert value.strip("0") in str(caught.value.code) and caught.value.__cause__ is None
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError):
        run_script(script, MISTAKES[script])


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.config.commandline import run_script as run

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["publish.py"])

    def broken() -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        run(broken, "publish")
