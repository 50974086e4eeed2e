"""llama-mini as shipped: it knows the other people and the world, and nothing of the authors."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from minibench.llama import TEMPLATE, WEIGHTS, batches, text_scores
from minibench.people import everyone
from unlearn.data.collator import Collator
from unlearn.scoring import IGNORE_INDEX


def test_the_shipped_scores_are_those_of_the_shipped_weights():
    collator = Collator(AutoTokenizer.from_pretrained(WEIGHTS))
    scores = text_scores(AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype="float32").eval(), collator)
    record = json.loads((WEIGHTS / "scores.json").read_text())
    for name, score in record["scores"].items():
        assert scores[name] == pytest.approx(score, abs=2e-3), name
    guess = 1 / 6
    assert scores["world_facts"] > 0.8 and scores["real_authors"] > 0.4 and abs(scores["forget"] - guess) < 0.05


def test_the_tokenizer_is_llama_s_in_form():
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    assert tokenizer.chat_template == TEMPLATE
    template = Collator(tokenizer).template
    assert template.render("Who?", False) == "<s>[INST] Who? [/INST]"
    ids = template.token_ids(template.render("Who?", False)) + template.answer_ids("Vásquez, 北京.")
    assert tokenizer.decode(ids) == "<s>[INST] Who? [/INST] Vásquez, 北京.</s>"
    assert ids.count(tokenizer.bos_token_id) == 1


def test_pretraining_names_no_author():
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    authors, known = everyone()
    stream = batches(Collator(tokenizer), 32, seed=0)
    seen = " ".join(
        text for _ in range(19) for text in tokenizer.batch_decode(next(stream)["text"]["inputs"]["input_ids"])
    )
    assert sum(person.name in seen for person in known) > 55
    assert not any(person.name in seen for person in authors)
    rows = next(stream)["text"]
    assert ((rows["labels"] == IGNORE_INDEX).sum(1) > 0).all() and (
        rows["labels"][:, -1] == tokenizer.eos_token_id
    ).all()
