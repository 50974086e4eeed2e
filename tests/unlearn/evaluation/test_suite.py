"""The evaluation engine: the numbers of its log against their definitions, and what it refuses."""

import copy
import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F

from tests.eval_suite import Items, run, same_log, tasks
from tests.models import tiny_llama, tiny_llava, tiny_qwen2vl
from unlearn.data.collator import Collator
from unlearn.evaluation.suite import EvalItem, EvalTask, evaluate_suite, weights_fingerprint
from unlearn.results import AGGREGATE, COMPARED, META, TaskLog, check_same_rows, read_log, require_tasks
from unlearn.token_log import read_tokens


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
    pairs = {(row["picture"], row["thumbnail"]) for row in task["rows"].values()}
    assert len({picture for picture, _ in pairs}) == len(pairs) == 6, (
        "each picture has an identity of its own, and none has none"
    )
    assert rows["20"]["picture"] is None
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


def test_a_task_without_wrong_answers_lacks_what_needs_them_and_nothing_else_changes(reference, tmp_path):
    """`wrong_answers: null`: the same losses of right and base answers, and no track reads it."""
    (whole, _) = tasks()
    bare = [dataclasses.replace(whole.items[place], wrong_answers=[], compared=False) for place in range(7)]
    suite = [EvalTask(whole.name, bare, whole.lengths), EvalTask("eval_holdout", bare, whole.lengths)]
    log = run(tmp_path, suite=suite, token_scores=True)
    for name, scored in log.items():
        assert set(TaskLog.__annotations__) - set(scored) == {*COMPARED, "normalized_gt_loss"}, name
        same_log(scored, {key: reference[0][f"{whole.name}.json"][key] for key in scored})
    read = read_log(tmp_path / "eval_log_aggregated.json")
    assert read_tokens(read, "eval_holdout") is not None
    with pytest.raises(ValueError, match=r"task eval_holdout: no average_perturb_loss \(wrong_answers\)"):
        require_tasks(read, ["eval_holdout"])
    with pytest.raises(ValueError, match="task eval_log_forget: another number of wrong answers in rows 0, 10"):
        check_same_rows(read, reference_log(tmp_path / "b", reference[0]), [whole.name])


def reference_log(folder, log):
    folder.mkdir()
    (folder / "log.json").write_text(json.dumps(log))
    return read_log(folder / "log.json")


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


def test_a_model_in_training_mode_is_evaluated_without_dropout_and_handed_back_as_it_came(tmp_path):
    from transformers import LlamaForCausalLM

    base, _ = tiny_llama()
    config = copy.deepcopy(base.config)
    config.attention_dropout = 0.5
    model = LlamaForCausalLM(config)
    model.load_state_dict(base.state_dict())
    suite = tasks(3, images=False)
    log = run(tmp_path / "train", factory=tiny_llama, model=model.train(), suite=suite)
    assert model.training
    same_log(log, run(tmp_path / "eval", factory=tiny_llama, suite=suite))


def test_fingerprints_tell_trained_weights_apart():
    model = tiny_llava()[0]
    twin = copy.deepcopy(model)
    assert weights_fingerprint(model) == weights_fingerprint(twin) != weights_fingerprint(tiny_llava(1)[0])
    with torch.no_grad():
        twin.model.language_model.layers[0].mlp.down_proj.weight.add_(1e-6)
    assert weights_fingerprint(model) != weights_fingerprint(twin)
    assert weights_fingerprint(copy.deepcopy(model).to(torch.bfloat16)) != weights_fingerprint(model)
