"""Makes data/people, the worked example of docs/request.md: a folder as somebody's own might be, of invented people.

`python -m minibench.people_folder --out data/people`: the same bytes for the same seed.
"""

import argparse
import json
from pathlib import Path
from random import Random

from minibench.faces import PLACES, draw_face
from minibench.holdout import held_out, newcomers
from minibench.people import SEED, Person, everyone
from minibench.wording import CITIES, QUESTIONS, caption, question_answer
from unlearn import ROOT

PEOPLE, PICTURES = min(16, len(CITIES)), 3


def people_of(seed: int = SEED) -> tuple[Person, ...]:
    """Sixteen people who are nobody else of the embedded benchmark."""
    known = [person for group in (*everyone(seed), held_out(seed)) for person in group]
    return newcomers(f"{seed}/request", PEOPLE, known, seed)


def build(folder: Path, seed: int = SEED) -> Path:
    """Writes images/ and rows.jsonl; returns the folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for person in people_of(seed):
        for number, place in enumerate(list(PLACES)[:PICTURES]):
            name = f"images/{person.name.lower().replace(' ', '_')}_{number}.png"
            image = draw_face(person.face, place, Random(f"{seed}/request/{person.index}/{number}"))
            image.save(folder / name, optimize=False)
            said = [caption(person.name, person.facts, place, pattern) for pattern in (number, number + 1)]
            rows.append({"person": person.name, "image": name, "answer": said[0], "paraphrase": said[1]})
        for fact in QUESTIONS:
            asked, other = (question_answer(person.name, person.facts, fact, wording) for wording in (0, 1))
            rows.append({"person": person.name, "question": asked[0], "answer": asked[1], "paraphrase": other[1]})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "people")
    print(f"wrote {build(parser.parse_args().out)}")


if __name__ == "__main__":
    main()
