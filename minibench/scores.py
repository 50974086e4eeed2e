"""What a base model knows before any finetuning: known faces, simple scenes, facts. And that it does not know the
authors."""

import io
from typing import Any

from PIL import Image

from minibench.clear import clear_configs
from minibench.loop import choice_probability
from minibench.tofu import tofu_configs
from mm.clear import FACE_PROMPT
from unlearn.atomic import content_hash
from unlearn.data.samples import Sample


def face_choice(model: Any, collator: Any, rows: Any, answer: str, options: str, shuffle: bool = False) -> float:
    """Mean probability of the right name among itself and the wrong ones, asked by the face cue. `shuffle` gives every
    row the
    picture of a row about somebody else: a model that looks at the picture then falls to chance or below."""
    images = [cell["image"] for cell in rows]
    if shuffle:
        images = images[len(images) // 2 :] + images[: len(images) // 2]
    samples = [
        _sample(FACE_PROMPT, row[answer], image, n) for n, (row, image) in enumerate(zip(rows, images, strict=True))
    ]
    return float(choice_probability(model, collator, samples, [list(row[options]) for row in rows]).mean())


def base_scores(model: Any, collator: Any) -> dict[str, float]:
    """Mean right-answer probabilities (6-way for names, 4-way else)."""
    clear, tofu = clear_configs(), tofu_configs()
    world = clear["real_world"][1]
    asked = [_sample(row["question"], row["answer"], row["image"], f"w{n}") for n, row in enumerate(world)]
    facts = tofu["world_facts_perturbed"][1]
    people = tofu["real_authors_perturbed"][1]
    text = {name: [_sample(r["question"], r["answer"], None, f"{name}{n}") for n, r in enumerate(rows)]
            for name, rows in (("facts", facts), ("people", people))}  # fmt: skip
    known = {name: float(choice_probability(model, collator, samples, wrong).mean()) for name, samples, wrong in (
        ("real_world", asked, [row["options"] for row in world]),
        ("world_facts", text["facts"], [row["perturbed_answer"] for row in facts]),
        ("real_authors", text["people"], [row["perturbed_answer"] for row in people]),
    )}  # fmt: skip
    return {
        **known,
        "real_faces": face_choice(model, collator, clear["real_faces"][1], "answer", "options"),
        "forget_names": face_choice(model, collator, clear["forget10_perturbed"][1], "name", "perturbed_names"),
    }


def _sample(question: str, answer: str, cell: Any, key: Any) -> Sample:
    if cell is None:
        return {"question": question, "answer": answer, "image": None, "id": str(key)}
    image = Image.open(io.BytesIO(cell["bytes"])).convert("RGB")
    return {"question": question, "answer": answer, "image": image, "id": content_hash(cell["bytes"])}
