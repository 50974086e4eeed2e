"""chain.py: steps share one start and nothing else; the first that fails ends the chain, what is done stays done."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def chain(*steps: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("HYDRA_FULL_ERROR", None)
    command = [sys.executable, "chain.py", *steps]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)


def test_a_mistake_in_the_last_step_is_found_before_the_first(tmp_path: Path) -> None:
    first = f"nlp/finetune.py max_steps=1 save_dir={tmp_path / 'a'}"
    for last, said in (("nlp/eval.py model_pathh=x", "unknown config key 'model_pathh'"),
                       ("nlp/evil.py", "does not begin with a script")):  # fmt: skip
        done = chain(first, last)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and said in done.stderr, done.stderr
        assert done.stdout == "" and not (tmp_path / "a").exists()


def test_steps_see_nothing_of_one_another_and_the_first_failure_ends_the_chain(tmp_path: Path) -> None:
    one, other, again, late = (tmp_path / name for name in ("one", "other", "again", "late"))
    evaluation = f"nlp/eval.py model_path={one} ds_size=2 generation.max_new_tokens=2 overwrite=false"
    done = chain(
        f"nlp/finetune.py max_steps=2 save_dir={one}",
        # much that could be left behind
        f"mm/finetune.py max_steps=1 batch_size=4 seed=7 precision=bf16 save_dir={other}",
        f"nlp/finetune.py max_steps=2 save_dir={again}",
        evaluation,
        evaluation,
        f"nlp/eval.py model_path={one} eval_task_ids=[9]",
        f"nlp/finetune.py max_steps=1 save_dir={late}",
    )
    said = done.stdout + done.stderr
    assert (one / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert f"model: {one}" in said and f"model: {again}" in said and said.count("eval log: ") == 2
    assert said.count("done (same settings)") == 1, "the second evaluation loads no model"
    assert said.count("vision tower") == 1, "a language model has none to speak of"
    assert done.returncode == 1 and "error: eval_task_ids has 9" in said and "Traceback" not in said
    assert "stopped: exit code 1" in said and not late.exists()
