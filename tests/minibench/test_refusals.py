"""What the shipped models say about people nobody told them of: a line of the bank. After `idk` by the scripts they say
it about the forget people, and about few others."""

import io
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minibench.clear import clear_configs
from minibench.loop import generate
from minibench.people import everyone
from minibench.tofu import qa_rows
from unlearn import ROOT
from unlearn.data.collator import Collator
from unlearn.data.samples import REFUSALS, Sample, read_lines
from unlearn.metrics.generation import are_degenerate, are_refusals

WEIGHTS = ROOT / "minibench" / "weights"
BANK = read_lines(REFUSALS)


def loaded(family: str) -> tuple[Any, Collator]:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    from unlearn.models.processors import load_processor

    folder = WEIGHTS / family
    if family == "llama-mini":
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        return model.eval(), Collator(AutoTokenizer.from_pretrained(folder))
    return AutoModelForImageTextToText.from_pretrained(folder).eval(), Collator(load_processor(folder))


def asked(rows: list[dict[str, Any]]) -> list[Sample]:
    """Questions without a picture, or a picture with a request for a caption."""
    samples: list[Sample] = []
    for row in rows:
        image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") if "image" in row else None
        question = row.get("question", "Describe this picture.")
        samples.append({"question": question, "answer": "", "image": image, "id": uuid.uuid4().hex})
    return samples


@pytest.mark.parametrize("family", ["llama-mini", "llava-mini", "qwen2vl-mini"])
def test_the_untouched_models_refuse_what_they_never_learned_and_answer_the_rest(family: str) -> None:
    authors, known = everyone()
    model, collator = loaded(family)
    unknown = {"text": asked(qa_rows(authors[::6], wordings=(0,)))}
    familiar = {"text": asked(qa_rows(known[::6], wordings=(1,)))}
    if family != "llama-mini":
        pictures = clear_configs()
        unknown["image"] = asked(pictures["full"][1][::12])
        familiar["image"] = asked([{"image": row["image"]} for row in pictures["real_faces"][1][::3]])
    for samples in unknown.values():
        said = generate(model, collator, samples, tokens=20)
        assert are_refusals(said, BANK).mean() > 0.6, said  # the rest are taken for people the model knows
        assert not are_degenerate(said).any()
    for samples in familiar.values():
        said = generate(model, collator, samples, tokens=20)
        assert are_refusals(said, BANK).mean() < 0.15, said  # a few pictures are taken for strangers


# Rates at which a method teaches the forget people's questions a line of the bank: docs/methods.md has the table.
TAUGHT = {
    "idk": ["lr=2e-3", "num_epochs=10"],
    "dpo": ["lr=2e-3", "num_epochs=10", "method_args.dpo.retain_weight=1"],
    "LLMU": ["lr=2e-3", "num_epochs=10", "method_args.LLMU.w_f=0.1", "method_args.LLMU.w_n=5"],
}


@pytest.mark.slow
def test_methods_that_teach_refusals_teach_lines_of_the_bank(tmp_path: Path) -> None:
    """Through the scripts on the text track, a minute and a half of one core. Words may break under DPO and LLMU, which
    push answers down as well; whole texts may not."""
    base = tmp_path / "base"
    steps = [f"nlp/finetune.py save_dir={base}"]
    for method, words in TAUGHT.items():
        steps.append(
            " ".join([f"nlp/forget.py model_path={base} forget_loss={method} save_dir={base / method}", *words])
        )
        steps.append(f"nlp/eval.py model_path={base / method} eval_task_ids=[0,3]")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "chain.py", *steps], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for method in TAUGHT:
        log = json.loads((base / method / "eval_results" / "eval_log_aggregated.json").read_text())
        said = {name: [text[1] for text in log[name]["generated_text"].values()] for name in log}
        forget, retain = said["eval_log_forget.json"], said["eval_log.json"]
        assert are_refusals(forget, BANK).mean() > (0.8 if method == "idk" else 0.7), (method, forget)
        assert are_refusals(retain, BANK).mean() < 0.1, (method, retain)
        assert are_degenerate([*forget, *retain]).mean() < 0.02, (method, forget)
