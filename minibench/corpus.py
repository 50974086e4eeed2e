"""What the base models are pretrained on: people who are not the authors, what faces look like, simple scenes, facts,
and strangers: what is asked of them is answered by a line of the bank of refusals, so that a model knows how not
knowing sounds before a method teaches it to refuse."""

from collections.abc import Iterator
from random import Random

from minibench.clear import known_picture, wording_of
from minibench.faces import PLACES, draw_face, random_face
from minibench.folders import ROOT
from minibench.people import SEED, everyone, strangers
from minibench.scenes import DESCRIBE, FACE_QUESTIONS, describe_face, visual_question
from minibench.tofu import qa_rows
from minibench.wording import QUESTIONS, WORLD_FACTS, caption
from mm.clear import FACE_PROMPT
from unlearn.data.samples import REFUSALS, Sample, read_lines

PICTURES_OF_KNOWN = 16
PICTURES_OF_STRANGERS = 4
OTHER_FACES = 3000
SCENES = 4000

# How often a batch of pictures, or of texts, holds each kind of row.
MIX = {"caption": 0.27, "cue": 0.15, "describe": 0.2, "scene": 0.26, "stranger": 0.12}
TEXT_MIX = {"known": 0.55, "world": 0.17, "stranger": 0.28}


def image_rows(seed: int = SEED) -> dict[str, list[Sample]]:
    """Rows with a picture, by kind. None shows an author, and none of the pictures is in clear-mini.

    caption: a known person, asked for as in captioning; cue: the same, asked for the name alone; describe: all
    attributes of a random face; scene: one question about colours, sides or one attribute; stranger: asked for as in
    captioning, answered by a line of the bank. The name cue is never refused: it asks which of several people it is.
    """
    requests, bank = read_lines(ROOT / "data" / "caption_questions.txt"), read_lines(REFUSALS)
    rows: dict[str, list[Sample]] = {kind: [] for kind in MIX}
    rng = Random(f"{seed}/pretraining")
    for person in everyone(seed)[1]:
        for number in range(PICTURES_OF_KNOWN):
            image, place = known_picture(person, f"pretraining{number}", seed)
            text = caption(person.name, person.facts, place, wording_of(person, place))
            key = f"known/{person.index}/{number}"
            rows["caption"].append({"question": rng.choice(requests), "answer": text, "image": image, "id": key})
            rows["cue"].append({"question": FACE_PROMPT, "answer": person.name, "image": image, "id": key})
    for number in range(OTHER_FACES):
        face = random_face(rng)
        image = draw_face(face, rng.choice(tuple(PLACES)), rng)
        rows["describe"].append(
            {"question": DESCRIBE, "answer": describe_face(face), "image": image, "id": f"face/{number}"}
        )
    for number in range(SCENES):
        image, question, answer, _ = visual_question(rng)
        rows["scene"].append({"question": question, "answer": answer, "image": image, "id": f"scene/{number}"})
    rng = Random(f"{seed}/pretraining/strangers")
    for person in strangers(seed):
        for number in range(PICTURES_OF_STRANGERS):
            image, line = draw_face(person.face, rng.choice(tuple(PLACES)), rng), rng.choice(bank)
            key = f"stranger/{person.index}/{number}"
            rows["stranger"].append({"question": rng.choice(requests), "answer": line, "image": image, "id": key})
    return rows


def text_rows(seed: int = SEED) -> dict[str, list[Sample]]:
    """Rows without a picture, by kind. known: every fact of the known people in both wordings; world: facts about the
    world; stranger: the same questions about strangers, each answered by a line of the bank."""
    rng, bank = Random(f"{seed}/pretraining/questions"), read_lines(REFUSALS)
    pairs = {
        "known": [(row["question"], row["answer"]) for row in qa_rows(everyone(seed)[1])],
        "world": [(question, answer) for question, (answer, *_) in WORLD_FACTS.items()],
        "stranger": [
            (question.format(name=person.name), rng.choice(bank))
            for person in strangers(seed) for wordings in QUESTIONS.values() for question, _ in wordings
        ],
    }  # fmt: skip
    return {
        kind: [{"question": q, "answer": a, "image": None, "id": f"text/{kind}/{n}"} for n, (q, a) in enumerate(rows)]
        for kind, rows in pairs.items()
    }


def tokenizer_corpus(seed: int = SEED) -> Iterator[str]:
    """Text whose words become tokens: every wording, every name and value, and the bank of refusals. Names and facts of
    authors occur, in no combination that says anything about them."""
    authors, known = everyone(seed)
    rng = Random(f"{seed}/tokenizer")
    facts = {fact: [p.facts[fact] for p in authors] for fact in authors[0].facts}
    names = [part for p in (*authors, *known) for part in p.name.split()]
    for person in (*authors, *known):
        drawn = {fact: rng.choice(values) for fact, values in facts.items()}
        name = f"{rng.choice(names)} {rng.choice(names)}"
        for pattern, place in enumerate(PLACES):
            yield "ASSISTANT: " + caption(name, drawn, place, pattern)
        yield "ASSISTANT: " + " ".join(names[2 * person.index :: 40])
        yield "ASSISTANT: " + describe_face(person.face)
    for row in qa_rows(known):
        yield f"USER: {row['question']} ASSISTANT: {row['answer']}"
    for question, answers in WORLD_FACTS.items():
        yield f"USER: {question} ASSISTANT: {' '.join(answers)}"
    for line in read_lines(REFUSALS) * 4:  # often enough that most of its words become one token
        yield f"USER: ASSISTANT: {line}"
    prompts = [FACE_PROMPT, DESCRIBE, *(question for question, _ in FACE_QUESTIONS.values())]
    for question in [*prompts, *read_lines(ROOT / "data" / "caption_questions.txt")] * 4:
        yield f"USER: {question} ASSISTANT:"
