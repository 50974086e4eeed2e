"""Preparing one batch ahead changes when things happen and nothing else: order, results, and where an error appears."""

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.eval_suite import Items, run, same_log
from unlearn.evaluation.ahead import one_ahead
from unlearn.evaluation.suite import EvalTask


def test_the_next_is_prepared_while_this_one_is_used() -> None:
    made: list[int] = []
    second = threading.Event()

    def prepare(value: int) -> int:
        made.append(value)
        if value == 2:
            second.set()
        return 10 * value

    results = one_ahead(prepare, [1, 2, 3])
    value, _, result = next(results)
    assert (value, result) == (1, 10)
    assert second.wait(10)  # nobody has asked for it yet
    assert made == [1, 2]  # and no further
    assert [(value, result) for value, _, result in results] == [(2, 20), (3, 30)]
    assert list(one_ahead(prepare, [])) == []


def test_an_error_comes_after_all_results_before_it() -> None:
    def prepare(value: int) -> int:
        if value == 2:
            raise ValueError("item 2")
        return value

    seen = []
    with pytest.raises(ValueError, match="item 2"):
        for value, _, _ in one_ahead(prepare, [0, 1, 2, 3]):
            seen.append(value)
    assert seen == [0, 1]


class WithoutWrongAnswers(Items):
    """Its item `broken` has no wrong answer, which an evaluation refuses."""

    def __init__(self, broken: int) -> None:
        super().__init__(7)
        self.broken = broken

    def __getitem__(self, i: int) -> Any:
        item = super().__getitem__(i)
        if i == self.broken:
            item.wrong_answers.clear()
        return item


def test_one_batch_and_several_give_one_log_and_a_bad_item_stops_in_its_turn(tmp_path: Path) -> None:
    def suite(items: Items) -> list[EvalTask]:
        return [EvalTask("eval_log_forget", items, list(range(7, 0, -1)))]  # batches are 0 1 2, 3 4 5, 6

    whole = run(tmp_path / "one", suite=suite(Items(7)), batch_size=7)
    same_log(run(tmp_path / "three", suite=suite(Items(7)), batch_size=3), whole)
    broken = WithoutWrongAnswers(4)
    with pytest.raises(ValueError, match="row 40: no wrong answer"):
        run(tmp_path / "bad", suite=suite(broken), batch_size=3)
    kept = (tmp_path / "bad" / ".partial" / "eval_log_forget.0.jsonl").read_text()
    assert all(f'"row_id": "{10 * place}"' in kept for place in (0, 1, 2)) and '"30"' not in kept
    assert 6 not in broken.made
