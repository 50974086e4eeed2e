"""Ragged answers to three prompts of tiny models: what the tests of scoring share."""

from tests.models import picture
from unlearn.data.collator import Collator
from unlearn.evaluation.prefix import read_prefix

ANSWERS = [  # ragged: other lengths, other numbers of answers, repeats of the exact one
    ["Ana Lima", "Ana Lima", "Jaime Vásquez of Santiago", "The quick brown fox", "x"],
    ["Lisbon", "A portrait of the author, who was born in Lisbon and writes novels.", "Lisbon"],
    ["0123456789", "Jaime", "born", "crime novels", "the name is Ana", "0123456789", "Santiago"],
]
QUESTIONS = ["Who?", "What is the name of the person in the picture?", "Where was the author born, and when?"]


def build(factory, images):
    """Model, collator and three prompts of uneven length; `images` says which rows have one (of uneven size)."""
    model, processor = factory()
    collator = Collator(processor)
    shown = [picture(i, side=16 + 8 * i) if has else None for i, has in enumerate(images)]
    samples = [
        {"question": q, "answer": "", "image": shown[i], "id": f"{factory.__name__}-{images}-{i}"}
        for i, q in enumerate(QUESTIONS)
    ]
    prompts = [collator.encode_prompt(sample) for sample in samples]
    answers = [[collator.encode_answer(text) for text in own] for own in ANSWERS]
    return model, collator, prompts, answers


def prefix_of(model, collator, prompts):
    return read_prefix(model, collator.pad([(prompt, ()) for prompt in prompts])["inputs"])
