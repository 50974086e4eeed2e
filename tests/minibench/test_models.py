"""The small base models: prompts like the real ones', weights that know their people and not the authors."""

import json

import pytest
import torch

from minibench import corpus, pretrain, scores
from minibench.clear import clear_configs
from minibench.contact_sheet import contact_sheet
from minibench.models import FAMILIES, new_model
from minibench.people import everyone
from unlearn.data.collator import Collator
from unlearn.models.processors import load_processor

QUESTION = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who is it?"}]}]
PROMPTS = {
    "llava-mini": "USER: <image>\nWho is it? ASSISTANT:",
    "qwen2vl-mini": (
        "<|im_start|>system\nYou are a helpful "
        "assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>"
        "<|vision_end|>Who is it?<|im_end|>\n<|im_start|>assistant\n"
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def shipped(request):
    from transformers import AutoModelForImageTextToText

    folder = pretrain.WEIGHTS / request.param
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    return request.param, folder, model, load_processor(folder)


@pytest.fixture
def small_corpus(monkeypatch):
    monkeypatch.setattr(corpus, "PICTURES_OF_KNOWN", 2)
    monkeypatch.setattr(corpus, "PICTURES_OF_STRANGERS", 1)
    monkeypatch.setattr(corpus, "OTHER_FACES", 20)
    monkeypatch.setattr(corpus, "SCENES", 20)


def test_prompts_render_as_the_published_checkpoints_do(shipped):
    family, _, _, processor = shipped
    assert processor.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False) == PROMPTS[family]


def test_shipped_weights_are_small_safetensors_with_their_record(shipped):
    _, folder, model, processor = shipped
    sizes = {path.suffix: path.stat().st_size for path in folder.iterdir()}
    assert sizes[".safetensors"] <= 5e6 and not {".bin", ".pt", ".pth", ".pkl"} & set(sizes)
    record = json.loads((folder / "scores.json").read_text())
    assert record["command"].startswith("python -m minibench.pretrain") and "seed" in record and record["scores"]
    tokenizer = processor.tokenizer
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.text_config.vocab_size == len(tokenizer)


def test_a_name_is_two_tokens(shipped):
    """Long names would flatten the length-normalised probability, and with it every choice between names."""
    tokenizer, names = shipped[3].tokenizer, [p.name for group in everyone() for p in group]
    lengths = [len(tokenizer(" " + name, add_special_tokens=False)["input_ids"]) for name in names]
    assert sum(length == 2 for length in lengths) >= 0.9 * len(lengths)


def test_shipped_weights_know_their_people_by_the_picture_and_none_of_the_authors(shipped):
    _, _, model, processor = shipped
    clear, collator = clear_configs(), Collator(processor)
    known = clear["real_faces"][1][::4]  # thirty people
    ask = ("answer", "options")
    assert scores.face_choice(model, collator, known, *ask) >= 0.8
    assert scores.face_choice(model, collator, known, *ask, shuffle=True) <= 0.25  # the model looks at the picture
    forget = clear["forget10_perturbed"][1]
    assert scores.face_choice(model, collator, forget, "name", "perturbed_names") <= 1 / 6 + 0.1


def test_pretraining_shows_no_author_and_no_evaluated_picture(small_corpus):
    authors = [person.name for person in everyone()[0]]
    rows = corpus.image_rows()
    said = [
        row["question"] + row["answer"]
        for kinds in (rows, corpus.text_rows())
        for kind in kinds.values()
        for row in kind
    ]
    assert len(said) > 200 and not any(name in text for text in said for name in authors)
    evaluated = {scores._sample("q", "a", row["image"], 0)["image"].tobytes()
                 for config in ("full", "real_faces", "real_world") for row in clear_configs()[config][1]}  # fmt: skip
    assert not any(row["image"].tobytes() in evaluated for kind in rows.values() for row in kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_pretraining_learns_and_writes_a_folder_that_loads(family, small_corpus, monkeypatch, tmp_path):
    from transformers import AutoModelForImageTextToText

    monkeypatch.setattr(scores, "base_scores", lambda model, collator: {"real_faces": 0.5})
    record = pretrain.pretrain(family, tmp_path, steps=3)
    assert json.loads((tmp_path / "scores.json").read_text()) == record
    trained = AutoModelForImageTextToText.from_pretrained(tmp_path).state_dict()
    fresh = new_model(family, corpus.tokenizer_corpus(), seed=0)[0].state_dict()
    assert trained.keys() == fresh.keys()
    moved = [name for name in fresh if not torch.equal(fresh[name], trained[name])]
    assert any("vision" in n or "visual" in n for n in moved) and any("language_model" in n for n in moved)
    again = new_model(family, corpus.tokenizer_corpus(), seed=1)[
        1
    ].tokenizer  # the tokenizer does not depend on the seed
    assert load_processor(tmp_path).tokenizer.get_vocab() == again.get_vocab()


def test_an_unknown_family_lists_what_there_is():
    with pytest.raises(ValueError, match="llava-mini and qwen2vl-mini"):
        new_model("llava", [], 0)


def test_the_contact_sheet_shows_sixty_different_people():
    sheet = contact_sheet()
    assert sheet.size == (10 * 100 + 4, 6 * 63 + 4)
    tiles = {
        sheet.crop((4 + c * 100, 4 + r * 63, 100 + c * 100, 52 + r * 63)).tobytes() for c in range(10) for r in range(6)
    }
    assert len(tiles) == 60
