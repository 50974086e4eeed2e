"""The evaluation engine: numbers of the log against their definitions, and logs that do not depend on how they were made."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import unlearn.evaluation as evaluation
from tests.models import picture, tiny_llama, tiny_llava, tiny_qwen2vl
from unlearn.collator import Collator
from unlearn.evaluation import EvalItem, EvalTask, evaluate_suite, weights_fingerprint
from unlearn.results import AGGREGATE, META, read_log

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = ["Ana Lima", "Jaime  Vásquez ", "Rory Greenfield", "Bo", "Marit Hagen", "Xiang Li", "Нина"]


class Items:
    """A lazy task that remembers which items were made; every third row is text."""

    def __init__(self, count, images=True):
        self.count, self.images, self.made = count, images, []

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.made.append(i)
        name = PEOPLE[i % len(PEOPLE)]
        image = picture(i, side=16) if self.images and i % 3 != 2 else None
        sample = {"question": "Who is this?" + " Say it." * (i % 4), "answer": name, "image": image, "id": f"split/{i}"}
        wrong = [other for other in PEOPLE if other != name][: 1 + i % 4]
        return EvalItem(str(10 * i), sample, f"It is {name}", wrong + [name.upper()] * (i == 3), name if i % 2 else None)


def tasks(count=7, names=("eval_log_forget", "eval_forget_facerec"), images=True):
    lengths = [(10**6 if images and i % 3 != 2 else 0) + i for i in range(count)]
    return [EvalTask(name, Items(count, images), lengths) for name in names]


def run(folder, *, factory=tiny_llava, model=None, suite=None, batch_size=3, overwrite=True, **options):
    base, processor = factory()
    path = evaluate_suite(
        model or base, Collator(processor), suite or tasks(), save_dir=folder, batch_size=batch_size, max_new_tokens=6,
        overwrite=overwrite, run={"method": "retain_ft"}, **options,
    )  # fmt: skip
    return json.loads(path.read_text())


def same_log(ours, theirs, tolerance=1e-5):
    """Equal texts and counts, losses to `tolerance`, and every dict in the same order."""
    if isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=tolerance, rel=tolerance)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            same_log(ours[key], theirs[key], tolerance)
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same_log(one, other, tolerance)
    else:
        assert ours == theirs


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """One evaluation, and its folder."""
    folder = tmp_path_factory.mktemp("reference")
    return run(folder), folder


def test_every_number_of_the_log_is_what_its_name_says(reference):
    log, _ = reference
    model, processor = tiny_llava()
    collator = Collator(processor)

    def loss(item, text):
        prompt, answer = collator.encode_prompt(item.sample), collator.encode_answer(text)
        ids = torch.tensor([prompt.ids + answer])
        with torch.no_grad():
            logits = model(input_ids=ids, **prompt.image_inputs).logits[0, len(prompt.ids) - 1 : -1]
        return F.cross_entropy(logits.double(), torch.tensor(answer), reduction="sum").item(), len(answer)

    for name in ("eval_log_forget", "eval_forget_facerec"):
        task, items = log[f"{name}.json"], Items(7)
        for i in (0, 2, 3):
            item, row = items[i], str(10 * i)
            exact, exact_tokens = loss(item, item.sample["answer"])
            base, base_tokens = loss(item, item.base_answer)
            wrong = [loss(item, text) for text in item.wrong_answers]
            means = [nats / tokens for nats, tokens in wrong]
            assert task["gt_loss"][row] == pytest.approx(exact, abs=1e-4)
            assert task["num_token_gt"][row] == exact_tokens
            assert task["avg_gt_loss"][row] == pytest.approx(exact / exact_tokens, abs=1e-5)
            assert task["paraphrased_loss"][row] == pytest.approx(base, abs=1e-4)
            assert task["avg_paraphrased_loss"][row] == pytest.approx(base / base_tokens, abs=1e-5)
            assert task["perturb_loss"][row] == pytest.approx([nats for nats, _ in wrong], abs=1e-4)
            assert task["num_token_perturb"][row] == [tokens for _, tokens in wrong]
            assert task["average_perturb_loss"][row] == pytest.approx(means, abs=1e-5)
            ratio = math.exp(base / base_tokens - sum(means) / len(means))
            assert task["truth_ratio"][row] == pytest.approx(ratio, rel=1e-4)
            if name == "eval_forget_facerec":
                right = math.exp(-exact / exact_tokens)
                share = right / (right + sum(math.exp(-mean) for mean in means))
                assert task["normalized_gt_loss"][row] == pytest.approx(-math.log(share), abs=1e-5)
    assert "normalized_gt_loss" not in log["eval_log_forget.json"]


def test_rows_come_back_in_order_with_true_prompts_and_untouched_references(reference):
    log, folder = reference
    task = log["eval_log_forget.json"]
    for key, column in task.items():
        assert list(column) == [str(10 * i) for i in range(7)], key
    prompt, generation, text = task["generated_text"]["10"]
    assert prompt == "<s>USER: <image>\nWho is this? Say it. ASSISTANT:"
    assert text == "Jaime  Vásquez "  # the dataset's own string, doubled space and all
    assert generation == generation.strip()
    assert task["generated_text"]["20"][0] == "<s>USER: Who is this? Say it. Say it. ASSISTANT:"
    assert all(0 <= task["rougeL_recall"][row] <= task["rouge1_recall"][row] <= 1 for row in task["rouge1_recall"])
    assert read_log(folder / AGGREGATE).tasks.keys() == {"eval_log_forget", "eval_forget_facerec"}


def test_meta_holds_texts_authors_marks_and_one_small_picture_per_image(reference):
    _, folder = reference
    meta = json.loads((folder / META).read_text())
    rows = meta["tasks"]["eval_log_forget"]["rows"]
    assert rows["30"]["wrong_equals_right"] == [False, False, False, False, True]  # "BO" is "Bo"
    assert [rows[str(10 * i)]["author"] for i in (0, 1)] == [None, "Jaime  Vásquez "]
    assert rows["20"]["thumbnail"] is None
    assert meta["run"]["method"] == "retain_ft" and meta["run"]["max_new_tokens"] == 6
    task = meta["tasks"]["eval_forget_facerec"]
    assert task["seconds"] > 0 and task["peak_memory_mb"] > 0
    assert all(1 <= tokens <= 6 for tokens in task["generation_tokens"].values())
    shown = {row["thumbnail"] for row in task["rows"].values()} - {None}
    assert shown == {f"thumbnails/{path.name}" for path in (folder / "thumbnails").iterdir()}  # shared by both tasks
    assert len(shown) == 5
    assert {path.name for path in folder.iterdir()} == {
        "eval_log_forget.json", "eval_forget_facerec.json", AGGREGATE, META, "thumbnails",
    }  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_batch_size_changes_nothing(reference, tmp_path, batch_size):
    same_log(run(tmp_path, batch_size=batch_size), reference[0])


def test_items_are_made_once_each_in_batches_of_like_length(tmp_path):
    suite = tasks(7, names=("eval_log",))
    run(tmp_path, suite=suite, batch_size=3)
    assert suite[0].items.made == [6, 4, 3, 1, 0, 5, 2]  # pictures first, the longest first; the last batch is text
    without = [EvalTask("eval_log", suite[0].items)]
    same_log(run(tmp_path / "b", suite=without)["eval_log.json"], run(tmp_path / "c", suite=suite)["eval_log.json"])


def interrupted(monkeypatch, folder, batches, **options):
    """A run that dies when it would measure batch number `batches`."""
    measure, calls = evaluation.measure_batch, []

    def dying(*args, **kwargs):
        calls.append(len(args[2]))
        if len(calls) > batches:
            raise KeyboardInterrupt
        return measure(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "measure_batch", dying)
        with pytest.raises(KeyboardInterrupt):
            run(folder, **options)


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_interrupted_run_continues_after_its_last_batch(reference, tmp_path, monkeypatch, overwrite):
    interrupted(monkeypatch, tmp_path, 4, overwrite=overwrite)  # the first task (3 batches) and one batch of the second
    assert not (tmp_path / AGGREGATE).exists()
    suite = tasks()
    log = run(tmp_path, suite=suite, overwrite=overwrite)
    same_log(log, reference[0])
    assert suite[0].items.made == [] and len(suite[1].items.made) == 4
    assert not (tmp_path / ".partial").exists()
    run(tmp_path, suite=suite, overwrite=overwrite)
    assert len(suite[0].items.made) == (7 if overwrite else 0)  # a finished run starts afresh, or is kept


def test_a_line_cut_by_the_kill_is_measured_again(reference, tmp_path, monkeypatch):
    interrupted(monkeypatch, tmp_path, 2)
    file = tmp_path / ".partial" / "eval_log_forget.0.jsonl"
    file.write_text(file.read_text()[:-40])
    suite = tasks()
    same_log(run(tmp_path, suite=suite), reference[0])
    assert len(suite[0].items.made) == 2


def test_partial_rows_of_other_weights_are_not_used(tmp_path, monkeypatch):
    interrupted(monkeypatch, tmp_path, 2)
    suite = tasks()
    log = run(tmp_path, model=tiny_llava(1)[0], suite=suite)
    assert sorted(suite[0].items.made) == list(range(7))
    same_log(log, run(tmp_path / "alone", model=tiny_llava(1)[0]))


def test_finished_tasks_are_kept_and_stay_in_the_aggregate(reference, tmp_path):
    first = tasks(names=("eval_log_forget",))
    run(tmp_path, suite=first)
    both = tasks()
    log = run(tmp_path, suite=both, overwrite=False)
    assert both[0].items.made == [] and len(both[1].items.made) == 7
    same_log(log, reference[0])
    again = run(tmp_path, suite=tasks(names=("eval_forget_facerec",)), overwrite=True)
    assert list(again) == ["eval_log_forget.json", "eval_forget_facerec.json"]
    with pytest.raises(ValueError, match="was evaluated on 7 rows, now it has 5"):
        run(tmp_path, suite=tasks(5), overwrite=False)


def test_results_of_another_model_are_refused_or_replaced_whole(tmp_path):
    run(tmp_path)
    other = tiny_llava(1)[0]
    with pytest.raises(ValueError, match="results of another model"):
        run(tmp_path, model=other, suite=tasks(names=("eval_log",)), overwrite=False)
    log = run(tmp_path, model=other, suite=tasks(names=("eval_log",)), overwrite=True)
    assert list(log) == ["eval_log.json"]
    assert not (tmp_path / "eval_forget_facerec.json").exists()
    (tmp_path / META).unlink()
    with pytest.raises(ValueError, match="overwrite=true"):
        run(tmp_path, model=other, suite=tasks(names=("eval_log",)), overwrite=False)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_row(tmp_path):
    model = copy.deepcopy(tiny_llava()[0])
    with torch.no_grad():
        model.lm_head.weight[5] = math.nan
    with pytest.raises(ValueError, match=r"eval_log_forget, row 60: the loss of 'exact answer' is nan"):
        run(tmp_path, model=model)
    assert not (tmp_path / "eval_log_forget.json").exists()


def test_items_that_cannot_be_scored_are_named(tmp_path):
    model, processor = tiny_llama()
    long = EvalItem("4", {"question": "Who?", "answer": "x" * 90, "image": None, "id": "a"}, "x", ["y"])
    bare = EvalItem("5", {"question": "Who?", "answer": "x", "image": None, "id": "b"}, "x", [])
    for item, message in ((long, r"t, row 4: \d+ tokens .* max_length=64"), (bare, "t, row 5: no wrong answer")):
        with pytest.raises(ValueError, match=message):
            evaluate_suite(model, Collator(processor, max_length=64), [EvalTask("t", [item])], save_dir=tmp_path,
                           batch_size=1, max_new_tokens=2)  # fmt: skip


@pytest.mark.parametrize(
    ("suite", "message"),
    [([], "no task"), (tasks(0), "has no rows"), (tasks(names=("a", "a")), "Two tasks are called 'a'")],
)
def test_suites_without_sense_are_refused(tmp_path, suite, message):
    with pytest.raises(ValueError, match=message):
        evaluate_suite(*tiny_llava(), suite, save_dir=tmp_path, batch_size=1, max_new_tokens=2)


def test_text_and_qwen_models_and_caches_that_cannot_be_forked(tmp_path):
    from transformers import MistralConfig, MistralForCausalLM

    text = tasks(4, images=False)
    run(tmp_path / "llama", factory=tiny_llama, suite=text)
    same_log(run(tmp_path / "q1", factory=tiny_qwen2vl), run(tmp_path / "q2", factory=tiny_qwen2vl, batch_size=1))
    config = MistralConfig(
        vocab_size=len(tiny_llama()[1]), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, sliding_window=200,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    log = run(tmp_path / "mistral", factory=tiny_llama, model=model, suite=text)
    same_log(log, run(tmp_path / "one", factory=tiny_llama, model=model, suite=text, batch_size=1))


def test_fingerprints_tell_trained_weights_apart():
    model = tiny_llava()[0]
    twin = copy.deepcopy(model)
    assert weights_fingerprint(model) == weights_fingerprint(twin) != weights_fingerprint(tiny_llava(1)[0])
    with torch.no_grad():
        twin.model.language_model.layers[0].mlp.down_proj.weight.add_(1e-6)
    assert weights_fingerprint(model) != weights_fingerprint(twin)
    assert weights_fingerprint(copy.deepcopy(model).to(torch.bfloat16)) != weights_fingerprint(model)


TWO = """
import sys
from accelerate import PartialState
from tests.unlearn.test_evaluation import run
state = PartialState(cpu=True)
assert state.num_processes == 2 and "CPU" in str(state.distributed_type), state
run(sys.argv[1])
"""


def test_two_processes_write_the_log_of_one(reference, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(script), str(tmp_path / "log")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    same_log(json.loads((tmp_path / "log" / AGGREGATE).read_text()), reference[0])
    meta, alone = (json.loads((folder / META).read_text()) for folder in (tmp_path / "log", reference[1]))
    assert meta["tasks"]["eval_log_forget"]["rows"] == alone["tasks"]["eval_log_forget"]["rows"]


def test_processes_that_do_not_see_one_another_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="2 processes, but 1 take part"):
        run(tmp_path)
