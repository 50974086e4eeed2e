"""One model, many items: scores from a shared prefix, generations, logs that can be continued."""

from unlearn.data.samples import EvalItem
from unlearn.evaluation.suite import EvalTask, evaluate_suite

__all__ = ["EvalItem", "EvalTask", "evaluate_suite"]
