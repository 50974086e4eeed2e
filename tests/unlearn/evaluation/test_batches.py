"""How many items go together changes no log: chosen by `auto`, or halved where memory runs out."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import unlearn.evaluation.suite as suite_module
from tests.engine import build, prefix_of
from tests.eval_suite import Items, run, same_log, tasks
from tests.models import tiny_llama, tiny_llava, tiny_qwen2vl
from tests.unlearn.evaluation.test_resume import interrupted, tokens_of
from unlearn.data.collator import Prompt
from unlearn.evaluation import batches
from unlearn.evaluation.batches import cut, fitting, item_bytes, items_together, token_bytes

GIB = 2**30


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """One evaluation with the scores of tokens, and its folder."""
    folder = tmp_path_factory.mktemp("reference")
    return run(folder, token_scores=True), folder


def test_auto_gives_the_log_of_a_number_and_says_its_own(reference, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        log = run(tmp_path, batch_size="auto", token_scores=True)
    same_log(log, reference[0])
    same_log(tokens_of(tmp_path), tokens_of(reference[1]))
    assert caplog.text.count("batch_size=auto is 8 (a fixed number on a CPU)") == 2
    with caplog.at_level(logging.INFO):
        run(tmp_path / "text", batch_size="auto", suite=tasks(images=False))
    assert "batch_size=auto is 32" in caplog.text


def test_an_interrupted_run_goes_on_with_another_number(reference, tmp_path, monkeypatch):
    interrupted(monkeypatch, tmp_path, 4, token_scores=True)
    suite = tasks()
    same_log(run(tmp_path, batch_size="auto", suite=suite, token_scores=True), reference[0])
    assert sorted(suite[1].items.made[1:]) == [0, 1, 2, 5]  # three rows were there; the first was asked for its size
    same_log(tokens_of(tmp_path), tokens_of(reference[1]))


def scarce(monkeypatch, most):
    """Memory for `most` items at a time; returns the sizes of what was tried."""
    measure, sizes = suite_module.measure_prepared, []

    def measured(model, collator, batch, **options):
        sizes.append(len(batch))
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(model, collator, batch, **options)

    monkeypatch.setattr(suite_module, "measure_prepared", measured)
    return sizes


@pytest.mark.parametrize("asked", [7, "auto"])
def test_where_memory_runs_out_a_batch_is_halved_and_it_is_said_once(reference, tmp_path, monkeypatch, caplog, asked):
    sizes = scarce(monkeypatch, 2)
    one = tasks(7, names=("eval_log_forget",))
    log = run(tmp_path, suite=one, batch_size=asked, token_scores=True)
    same_log(log["eval_log_forget.json"], reference[0]["eval_log_forget.json"])
    same_log(tokens_of(tmp_path), tokens_of(reference[1]))
    assert sizes == [7, 4, 2, 2, 2, 1]
    assert caplog.text.count("do not fit in memory") == 2  # of 7 and of 4
    assert "going on with 2 at a time. batch_size=2 avoids the attempt" in caplog.text


def test_later_batches_know_it(tmp_path, monkeypatch):
    sizes = scarce(monkeypatch, 2)
    run(tmp_path, suite=tasks(7, names=("eval_log_forget",)), batch_size=3)
    assert sizes == [3, 2, 1, 2, 1, 1]


def test_one_item_that_does_not_fit_is_an_error(tmp_path, monkeypatch):
    scarce(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        run(tmp_path, batch_size=2)
    assert "one item alone does not fit" in raised.value.__notes__[0]


def test_items_of_like_length_go_together():
    assert cut([5, 1, 9, 1, 7], 2, done=set()) == [[2, 4], [0, 1], [3]]
    assert cut([5, 1, 9, 1, 7], 2, done={2, 3}) == [[4], [0, 1]]


# ---- what fits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "item", "size"), [
    (64, 1, 32),  # 54.4 fit
    (100, 1, 64), (1000, 1, 64), (40, 1, 32), (37, 1, 16), (1, 1, 1), (0.1, 1, 1),
])  # fmt: skip
def test_the_largest_power_of_two_that_fits(free, item, size):
    assert fitting(free * GIB, item * GIB) == size


@pytest.mark.parametrize("factory", [tiny_llama, tiny_llava, tiny_qwen2vl])
def test_bytes_of_a_token_are_those_of_the_cache(factory):
    model, collator, prompts, _ = build(factory, (False, False, False))
    prefix = prefix_of(model, collator, prompts)
    held = sum(tensor.nbytes for layer in prefix.cache.layers for tensor in (layer.keys, layer.values))
    assert held == prefix.mask.numel() * token_bytes(model.config.get_text_config(), 4)


def llava_7b() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32064
    )
    weight = SimpleNamespace(weight=SimpleNamespace(device=torch.device("cuda", 0)))
    return SimpleNamespace(
        config=LlavaConfig(vision_config=vision, text_config=text), dtype=torch.bfloat16,
        get_input_embeddings=lambda: weight,
    )  # fmt: skip


def test_llava_7b_with_300_tokens_takes_32_items_on_80_gb():
    """0.5 MiB a token: (600 of the prompt + 2 caches of 960) = 1.23 GiB, a quarter more, and what passes."""
    prompt = Prompt([5] * 600, {"pixel_values": torch.empty(1, 3, 336, 336)})
    item = item_bytes(llava_7b(), prompt, 44, 300)
    assert 1.25 * 1.23 * GIB < item < 1.25 * 1.40 * GIB
    assert fitting((79.2 - 14) * GIB, item) == 32
    assert item_bytes(llava_7b(), Prompt([5] * 60), 44, 64) < item / 6


def test_on_a_gpu_it_is_what_fits_for_the_longest_item(monkeypatch, caplog):
    _, collator, _, _ = build(tiny_llava, (True, False, True))
    monkeypatch.setattr(batches, "free_memory", lambda device: 20 * GIB)
    items, lengths = Items(7), tasks(7)[0].lengths
    with caplog.at_level(logging.INFO):
        size = items_together("auto", llava_7b(), collator, 300, "a", items, lengths)
    assert items.made == [6]
    assert f"a: batch_size=auto is {size} (20.0 GiB free, " in caplog.text and size in (16, 32)
