"""Photos of people, decoded once: from a folder of pictures per person, or from a dataset of the hub."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn.atomic import replacing

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".dng")  # photographs all the same: never left out in silence
PERSON_COLUMNS = ("name", "label", "person", "identity")
FILE = "photos.safetensors"


@dataclass(frozen=True)
class Photos:
    """pixels uint8 [N, 3, S, S]; labels int64 [N] into `identities`; photos of a person keep the order of their
    source."""

    pixels: Tensor
    labels: Tensor
    identities: tuple[str, ...]

    def digest(self) -> str:
        """Twelve hex digits over names, labels and pixels: which data a split or a checkpoint belongs to."""
        content = hashlib.sha256(json.dumps(self.identities).encode())
        content.update(self.labels.numpy().tobytes())
        content.update(self.pixels.numpy().tobytes())
        return content.hexdigest()[:12]

    def rows(self, identities: Iterable[str]) -> Tensor:
        """Numbers of the photos of these people, in ascending order."""
        wanted = torch.tensor([self.identities.index(name) for name in identities], dtype=torch.int64)
        return torch.isin(self.labels, wanted).nonzero()[:, 0]

    def check_enrolment(self, num_enroll: int) -> None:
        """ValueError that names a person without a photo left to recognise after `num_enroll` were enrolled."""
        counts = torch.bincount(self.labels, minlength=len(self.identities))
        short = [i for i, count in enumerate(counts.tolist()) if count <= num_enroll]
        if short:
            raise ValueError(
                f"{self.identities[short[0]]} has {counts[short[0]]} photos, and enrolment takes {num_enroll} and "
                f"needs one more to recognise ({len(short)} people have too few). Add photos, remove people, or "
                "lower num_enroll."
            )


def load_photos(data_path: str, size: int, *, split: str = "default", revision: str | None = None) -> Photos:
    """All photos as size x size squares.

    Args:
        data_path: a folder of folders, one per person, or a hub id such as therem/CLEAR or tonyassi/celebrity-1000.
        split: the configuration of a hub dataset.

    Raises:
        ValueError: no such data, nobody in it, no column that names the person, or a picture that cannot be opened.
    """
    from minibench import ensure_dataset
    from minibench.faces_mini import ensure_faces

    path = Path(ensure_dataset(ensure_faces(data_path)))
    people = _from_folder(path) if path.is_dir() and not _is_hub_folder(path) else _from_hub(str(path), split, revision)
    if len({name for name, _, _ in people}) < 2:
        raise ValueError(
            f"data_path={data_path} shows fewer than two people; a folder of photos for each person is expected."
        )
    names = tuple(sorted({name for name, _, _ in people}))
    place = {name: index for index, name in enumerate(names)}
    with ThreadPoolExecutor(
        max_workers=min(16, 2 * (os.cpu_count() or 1))
    ) as pool:  # PIL decodes outside the interpreter lock
        pixels = list(pool.map(lambda item: _pixels(item[1], item[2], size), people))
    labels = torch.tensor([place[name] for name, _, _ in people])
    return Photos(torch.from_numpy(np.stack(pixels)), labels, names)


def save_photos(photos: Photos, folder: Path) -> None:
    """Writes `photos.safetensors` into `folder`, whole or not at all."""
    from safetensors.torch import save_file

    with replacing(folder / FILE) as temporary:
        save_file(
            {"pixels": photos.pixels, "labels": photos.labels}, temporary, {"identities": json.dumps(photos.identities)}
        )


def read_photos(folder: Path) -> Photos:
    """What `save_photos` wrote. ValueError if `cv/prepare.py` has not run there."""
    from safetensors import safe_open

    if not (folder / FILE).is_file():
        raise ValueError(f"{folder} holds no prepared photos; run `python cv/prepare.py save_dir={folder}` first.")
    with safe_open(folder / FILE, framework="pt") as file:
        return Photos(
            file.get_tensor("pixels"), file.get_tensor("labels"), tuple(json.loads(file.metadata()["identities"]))
        )


def _is_hub_folder(path: Path) -> bool:
    """A hub dataset downloaded to disk has parquet files, or a card and no folders of pictures."""
    from unlearn.data.local import card_names_configs

    pictures = (file for file in path.glob("*/*") if file.suffix.lower() in SUFFIXES)
    return (
        card_names_configs(path)
        or any(path.glob("**/*.parquet"))
        or ((path / "README.md").is_file() and next(pictures, None) is None)
    )


def _from_folder(path: Path) -> list[tuple[str, Any, str]]:
    found = []
    for person in sorted(path.iterdir()):
        if person.is_dir() and not person.name.startswith("."):
            files = [file for file in sorted(person.iterdir()) if file.suffix.lower() in SUFFIXES]
            if strange := [file for file in sorted(person.iterdir()) if file.suffix.lower() in UNREAD]:
                raise ValueError(f"{strange[0]} is a kind of picture that is not read here; convert it to JPEG or PNG.")
            if not files:
                raise ValueError(f"{person} holds no picture ({', '.join(SUFFIXES)}); add some, or remove the folder.")
            found += [(person.name, file, str(file)) for file in files]
    return found


def _from_hub(data_path: str, split: str, revision: str | None) -> list[tuple[str, Any, str]]:
    from unlearn.data.sources import load_split

    rows = load_split(data_path, split, revision=revision, columns=("image",))
    column = next((name for name in PERSON_COLUMNS if name in rows.column_names), None)
    if column is None:
        raise ValueError(
            f"{data_path}, split {split}: no column says who is in the picture (looked for "
            f"{', '.join(PERSON_COLUMNS)}; it has {', '.join(rows.column_names)})."
        )
    names = getattr(rows.features[column], "names", None)  # a ClassLabel stores numbers
    people = rows[column] if names is None else [names[number] for number in rows[column]]
    cells = zip(people, rows["image"], strict=True)
    return [(str(person), cell, f"row {index} of {data_path}") for index, (person, cell) in enumerate(cells)]


def _pixels(source: Any, where: str, size: int) -> np.ndarray:
    """[3, size, size] uint8 of a file or of an undecoded image cell."""
    from PIL import Image

    from unlearn.data.pictures import open_image

    picture = open_image({"path": str(source)} if isinstance(source, Path) else source, where)
    if picture is None:
        raise ValueError(f"{where} has no image; remove that row.")
    return np.ascontiguousarray(np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1))


def published_forget(data_path: str, revision: str | None) -> list[str] | None:
    """For CLEAR, its twenty forget identities, those of forget01 first, then forget05's; None for other data."""
    from unlearn.config.build import ALIASES
    from unlearn.data.sources import load_split

    if ALIASES.get(data_path, data_path) != "therem/CLEAR":
        return None
    people: dict[str, None] = {}
    for split in ("forget01", "forget05", "forget10"):
        people |= dict.fromkeys(load_split(data_path, split, revision=revision, columns=("name",))["name"])
    return list(people)


def find_people(photos: Photos, names: Sequence[str], what: str) -> list[str]:
    """`names` as the photos spell them: letter case and accents do not count, unless a name is spelled exactly.

    Raises:
        ValueError: a name that is nobody's there, or that several people have.
    """
    known: dict[str, list[str]] = {}
    for name in photos.identities:
        known.setdefault(_folded(name), []).append(name)
    found = []
    for name in names:
        meant = [name] if name in photos.identities else known.get(_folded(name), [])
        if not meant:
            raise ValueError(
                f"{what}: {name!r} is nobody in the photos, who are {', '.join(photos.identities[:3])}, ..."
            )
        if len(meant) > 1:
            raise ValueError(
                f"{what}: {name!r} may be {' or '.join(map(ascii, meant))}; spell the one you mean exactly."
            )
        found += meant
    return found


def check_spellings(identities: Sequence[str]) -> None:
    """ValueError for one person under two names that differ by case or by how an accent is stored: forgotten under one,
    they would be kept under the other."""
    seen: dict[str, str] = {}
    for name in identities:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise ValueError(
                f"{ascii(other)} and {ascii(name)} are two spellings of one name; put their pictures under one of "
                "them, or tell two people apart by their names."
            )


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()
