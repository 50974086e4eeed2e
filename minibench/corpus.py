"""What the base models are pretrained on: people who are not the authors, what faces look like, simple scenes,
facts."""

from collections.abc import Iterator
from random import Random

from minibench.clear import known_picture, wording_of
from minibench.faces import PLACES, draw_face, random_face
from minibench.folders import ROOT
from minibench.people import SEED, everyone
from minibench.scenes import DESCRIBE, FACE_QUESTIONS, describe_face, visual_question
from minibench.tofu import qa_rows
from minibench.wording import WORLD_FACTS, caption
from mm.clear import FACE_PROMPT
from unlearn.data.samples import Sample, read_lines

PICTURES_OF_KNOWN = 16
OTHER_FACES = 3000
SCENES = 4000

# How often a batch of pictures holds each kind of row.
MIX = {"caption": 0.3, "cue": 0.15, "describe": 0.25, "scene": 0.3}


def image_rows(seed: int = SEED) -> dict[str, list[Sample]]:
    """Rows with a picture, by kind. None shows an author, and none of the pictures is in clear-mini.

    caption: a known person, asked for as in captioning; cue: the same, asked for the name alone; describe: all
        attributes of a
    random face; scene: one question about colours, sides or one attribute.
    """
    requests = read_lines(ROOT / "data" / "caption_questions.txt")
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
    return rows


def text_rows(seed: int = SEED) -> list[Sample]:
    """Questions about the known people in both wordings, and the facts about the world, six times as often."""
    pairs = qa_rows(everyone(seed)[1]) + [{"question": q, "answer": a} for q, (a, *_) in WORLD_FACTS.items()] * 6
    return [
        {"question": p["question"], "answer": p["answer"], "image": None, "id": f"text/{n}"}
        for n, p in enumerate(pairs)
    ]


def tokenizer_corpus(seed: int = SEED) -> Iterator[str]:
    """Text whose words become tokens: every wording, every name and value. Names and facts of authors occur, in no
    combination that says anything about them."""
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
    prompts = [FACE_PROMPT, DESCRIBE, *(question for question, _ in FACE_QUESTIONS.values())]
    for question in [*prompts, *read_lines(ROOT / "data" / "caption_questions.txt")] * 4:
        yield f"USER: {question} ASSISTANT:"
