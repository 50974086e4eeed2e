"""What the released scripts compute from a log, item by item and in their own terms: the truth for `reference` numbers.

Facts: mm averages the wrong losses of a whole split to one number before the ratio, nlp those of one item; tasks named
`eval_log*` get the plain probability; forget tasks score min(r, 1/r), the others max(0, 1 - 1/r); Model Utility is the
harmonic mean of everything whose name lacks "Forget". A stored ROUGE is used, an empty one is computed from the texts.
"""

import math
from statistics import fmean
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from scipy.spatial.distance import jensenshannon
from scipy.stats import hmean, ks_2samp

MM_LABELS = {
    "eval_real_faces_wo_options.json": "Real Faces",
    "eval_real_world_wo_options.json": "Real World",
    "eval_log.json": "Retain",
    "eval_retain_facerec.json": "Retain FaceRec",
    "eval_log_forget.json": "Forget",
    "eval_forget_facerec.json": "Forget FaceRec",
}
NLP_LABELS = {
    "eval_real_author_wo_options.json": "Real Authors",
    "eval_real_world_wo_options.json": "Real World",
    "eval_log.json": "Retain",
    "eval_log_forget.json": "Forget",
}


def published_mm(log: dict[str, Any], gold: dict[str, Any], method: str, submitted_by: str) -> dict[str, Any]:
    """The 23 keys of the released mm script, and the four of its table script."""
    row: dict[str, Any] = {"method": method, "submitted_by": submitted_by}
    for name, task in log.items():
        row |= _task(name, task, MM_LABELS[name], mm_ratios(task))
    row["Model Utility"] = float(hmean([value for key, value in row.items() if _is_utility(key)]))
    model, reference = mm_ratios(log["eval_log_forget.json"]), mm_ratios(gold["eval_log_forget.json"])
    row["KS test p-value"] = float(ks_2samp(model, reference).pvalue)
    row["JS metric"] = float(jensenshannon(model, reference))
    for metric, first, second in (
        ("Real metric", "Real Faces", "Real World"),
        ("Forget metric", "Forget", "Forget FaceRec"),
        ("Retain metric", "Retain", "Retain FaceRec"),
    ):
        row[metric] = float(
            hmean([row[f"{part} {label}"] for label in (first, second) for part in ("Prob.", "Truth Ratio")])
        )
    row["Forget Quality"] = 1 - row["JS metric"]
    return row


def published_nlp(log: dict[str, Any], gold: dict[str, Any], method: str, submitted_by: str) -> dict[str, Any]:
    """The columns of the released nlp script."""
    row: dict[str, Any] = {}
    for name, task in log.items():
        row |= _task(name, task, NLP_LABELS[name], nlp_ratios(task))
    row["Model Utility"] = float(hmean([value for key, value in row.items() if _is_utility(key)]))
    model, reference = nlp_ratios(log["eval_log_forget.json"]), nlp_ratios(gold["eval_log_forget.json"])
    row["Forget Quality"] = float(ks_2samp(model, reference).pvalue)
    return {**row, "Method": method, "Submitted By": submitted_by}


def mm_ratios(task: dict[str, Any]) -> list[float]:
    """One mean of every wrong loss of the split (where lists are ragged: of all of them, as the released code
    cannot)."""
    losses = [loss for row in task["average_perturb_loss"].values() for loss in row]
    return [math.exp(fmean(losses) - base) for base in task["avg_paraphrased_loss"].values()]


def nlp_ratios(task: dict[str, Any]) -> list[float]:
    return [
        math.exp(fmean(task["average_perturb_loss"][row]) - base) for row, base in task["avg_paraphrased_loss"].items()
    ]


def _is_utility(key: str) -> bool:
    return "Forget" not in key and key not in ("method", "submitted_by")


def _task(name: str, task: dict[str, Any], label: str, ratios: list[float]) -> dict[str, float]:
    probabilities = []
    for row, loss in task["avg_gt_loss"].items():
        right = math.exp(-loss)
        wrong = 0.0 if "eval_log" in name else sum(math.exp(-other) for other in task["average_perturb_loss"][row])
        probabilities.append(right if "eval_log" in name else right / (right + wrong))
    rouge = task["rougeL_recall"]
    if not rouge:
        scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
        texts = task["generated_text"]
        rouge = {
            row: scorer.score(reference, generation)["rougeL"].recall
            for row, (_, generation, reference) in texts.items()
        }
    forget = "forget" in name
    scores = [min(ratio, 1 / ratio) if forget else max(0.0, 1 - 1 / ratio) for ratio in ratios]
    return {
        f"Prob. {label}": fmean(probabilities),
        f"ROUGE {label}": fmean(rouge.values()),
        f"Truth Ratio {label}": fmean(scores),
    }
