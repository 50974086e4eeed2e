"""faces-mini and celebrities-mini: drawn identities for the face track, as folders of pictures, one folder per person.

People come in families whose members differ in one or two attributes, and light, colour, framing and things in front of
the face change from picture to picture: a recogniser knows the people it was trained on and takes many of the others
for their relatives. The attributes are drawn by `minibench.faces`; what disturbs them is here.

    python -m minibench.faces_mini                       # writes data/faces-mini and data/celebrities-mini
"""

import argparse
import dataclasses
import shutil
import tempfile
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from minibench.faces import PLACES, SIZE, Face, draw_face, random_face
from unlearn.atomic import umask

ROOT = Path(__file__).resolve().parents[1]
FAMILY = 5  # people who look alike
COUNTS = {"faces-mini": (80, 16), "celebrities-mini": (120, 12)}  # identities, pictures of each


def identities(seed: int, wanted: dict[str, int]) -> dict[str, list[Face]]:
    """For each set its faces; no face occurs twice, within a set or across sets, and no family spans two sets."""
    rng = Random(seed)
    taken: set[Face] = set()
    found: dict[str, list[Face]] = {}
    for name, count in wanted.items():
        faces = found.setdefault(name, [])
        while len(faces) < count:
            family = _family(rng)
            if not taken.intersection(family):
                taken.update(family)
                faces += family[: count - len(faces)]
    return found


def photograph(face: Face, rng: Random) -> Image.Image:
    """A 48 x 48 RGB picture: the drawn face, framed, lit and coloured at random, partly hidden, with sensor noise."""
    picture = draw_face(face, rng.choice(tuple(PLACES)), rng)
    side = int(SIZE * rng.uniform(0.72, 1.0))
    left, top = rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)
    picture = picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    picture = picture.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for _ in range(2):  # a hand, a branch, a microphone
        x, y, width, height = rng.randint(0, SIZE), rng.randint(0, SIZE), rng.randint(4, 14), rng.randint(4, 14)
        draw.ellipse((x, y, x + width, y + height), fill=tuple(rng.randint(0, 255) for _ in range(3)))
    pixels = np.asarray(picture, dtype=np.float32)
    gain = np.array([rng.uniform(0.6, 1.25) for _ in range(3)]) * rng.uniform(0.7, 1.15)
    noise = np.random.default_rng(rng.getrandbits(64)).normal(0, 8, pixels.shape)
    return Image.fromarray(np.clip(pixels * gain + noise, 0, 255).astype(np.uint8))


def build_faces(folder: str | Path, name: str, seed: int = 7) -> Path:
    """Writes the set `name` as <folder>/<person>/<number>.png, whole or not at all; the same bytes for the same
    seed."""
    people = identities(seed, {key: count for key, (count, _) in COUNTS.items()})[name]
    folder, pictures = Path(folder), COUNTS[name][1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".build-", dir=folder.parent))
    for index, face in enumerate(people):
        person = staging / f"{name.split('-')[0]}-{index:03d}"
        person.mkdir()
        rng = Random(f"{seed}/{name}/{index}")
        for number in range(pictures):
            photograph(face, rng).save(person / f"{number:02d}.png")
    staging.chmod(0o777 & ~umask())
    try:
        staging.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(staging)
        if not folder.is_dir():
            raise
    return folder


def ensure_faces(path: str | Path) -> str:
    """`path`, with data/faces-mini and data/celebrities-mini built on first use, wherever a command is started."""
    for candidate in (Path(path).absolute(), ROOT / path):
        if candidate.is_dir():
            return str(candidate)
        if candidate.parent == ROOT / "data" and candidate.name in COUNTS:
            return str(build_faces(candidate, candidate.name))
    return str(path)


def _family(rng: Random) -> list[Face]:
    """FAMILY faces: one at random, the others with one or two attributes of a stranger."""
    first = random_face(rng)
    members = [first]
    names = [field.name for field in dataclasses.fields(Face)]
    while len(members) < FAMILY:
        stranger = random_face(rng)
        changed = rng.sample(names, rng.randint(1, 2))
        member = dataclasses.replace(first, **{name: getattr(stranger, name) for name in changed})
        if member not in members:
            members.append(member)
    return members


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "data", help="folder that gets faces-mini/ and celebrities-mini/"
    )
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for name in COUNTS:
        print(f"wrote {build_faces(options.out / name, name, options.seed)}")


if __name__ == "__main__":
    main()
