"""Pictures as phones and archives have them: the pixels that a viewer shows, or an error that names the row."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.models import picture
from unlearn.data.pictures import check_images, open_image
from unlearn.data.sources import load_split


def stored(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def one_row(raw: bytes) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"image": [{"bytes": raw, "path": None}]}, features=features)


def palette(transparent: bool) -> bytes:
    image = Image.new("P", (2, 2), 3)
    image.putpalette([9] * 768)
    return stored(image, transparency=3) if transparent else stored(image)


WHITE, RED = (255, 255, 255), (255, 0, 0)
HALF = Image.new("RGBA", (2, 2), (255, 0, 0, 51))  # a fifth red on white: 255, 204, 204


@pytest.mark.parametrize(
    ("raw", "pixel"),
    [
        (stored(Image.fromarray(np.full((2, 2), 257 * 100, np.uint16))), (100, 100, 100)),
        (stored(Image.fromarray(np.full((2, 2), 257 * 100, np.uint16)), "TIFF"), (100, 100, 100)),
        (stored(Image.fromarray(np.full((2, 2), 0.4, np.float32)), "TIFF"), (102, 102, 102)),
        (stored(HALF), (255, 204, 204)),
        (stored(HALF, "WEBP", lossless=True), (255, 204, 204)),
        (stored(Image.new("LA", (2, 2), (10, 0))), WHITE),
        (stored(Image.new("L", (2, 2), 7), transparency=7), WHITE),
        (palette(True), WHITE),
        (palette(False), (9, 9, 9)),
        (stored(Image.new("L", (2, 2), 7)), (7, 7, 7)),
        (stored(Image.new("1", (2, 2), 1)), WHITE),
        (stored(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF"), RED),
    ],
)
def test_one_pixel_worked_out_by_hand(raw: bytes, pixel: tuple[int, int, int]) -> None:
    image = open_image(raw, "row 1")
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", pixel)
    check_images(one_row(raw), "x")


def test_sixteen_bits_keep_their_range() -> None:
    ramp = Image.fromarray(np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16))
    values = np.asarray(open_image(stored(ramp), "row 1"))
    assert len(np.unique(values)) == 256 and abs(values.mean() - 127.5) < 0.1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tagged_picture_is_the_upright_one(kind: str, orientation: int) -> None:
    """Left half red, right half black, 16 x 8; where the red is by the EXIF standard."""
    image = Image.new("RGB", (16, 8))
    image.paste(RED, (0, 0, 8, 8))
    tags = image.getexif()
    tags[0x112] = orientation
    upright = open_image(stored(image, kind, exif=tags), "row 1")
    assert upright.size == ((16, 8) if orientation < 5 else (8, 16))
    red = {1: (2, 2), 2: (13, 2), 3: (13, 2), 4: (2, 2), 5: (2, 2), 6: (2, 2), 7: (2, 13), 8: (2, 13)}[orientation]
    black = (upright.width - 1 - red[0], upright.height - 1 - red[1])
    assert upright.getpixel(red)[0] > 200 and upright.getpixel(black)[0] < 50


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_tags_that_cannot_be_read_turn_nothing(kind: str) -> None:
    raw = stored(Image.new("RGB", (16, 8)), kind, exif=b"Exif\0\0garbage")
    assert open_image(raw, "row 1").size == (16, 8)


NOISE = picture(3, 64)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        *(
            (stored(NOISE, kind)[: -len(stored(NOISE, kind)) // 3], "")
            for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")
        ),
        (stored(NOISE, "JPEG", progressive=True)[:-400], "truncated"),
        (stored(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"), "32 bit integers"),
        (stored(Image.fromarray(np.full((2, 2), 200, np.float32)), "TIFF"), "not all within 0 and 1"),
        (stored(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"), "not all within 0 and 1"),
        (stored(Image.new("RGB", (1, 300))), "1 x 300 pixels is narrower than 200:1"),
    ],
)
def test_what_cannot_be_shown_is_found_by_the_check_and_by_opening(raw: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=f"The image of row 0 of x is broken .*{words}.*; replace or remove it"):
        check_images(one_row(raw), "x")
    with pytest.raises(ValueError, match=f"The image of row x/0 cannot be opened .*{words}"):
        open_image(raw, "row x/0")
    assert open_image(stored(Image.new("RGB", (1, 200))), "row 1").size == (1, 200)


@pytest.mark.parametrize("form", ["names", "bytes", "dicts", "paths", "lists of names", "lists of bytes", "pictures"])
def test_a_column_of_pictures_in_any_form(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture, and a row without one; names are relative to the folder of the data."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    raw = stored(picture(1, 12))
    (tmp_path / "own" / "images").mkdir(parents=True)
    (tmp_path / "own" / "images" / "1.png").write_bytes(raw)
    name = "images/1.png"
    cells: Any = {
        "names": [name, None], "bytes": [raw, None], "dicts": [{"bytes": raw, "path": None}, None],
        "paths": [{"path": name}, None], "lists of names": [[name], []], "lists of bytes": [[raw], None],
        "pictures": [[{"bytes": raw, "path": None}], []],
    }[form]  # fmt: skip
    pq.write_table(pa.table({"image": cells, "caption": ["a", "b"]}), tmp_path / "own" / "full.parquet")
    for path in (tmp_path / "own", tmp_path / "own" / "full.parquet"):
        rows = load_split(str(path), "full")
        check_images(rows, "full")
        assert rows.data.column("image").is_valid().to_pylist() == [True, False] and rows["caption"][:] == ["a", "b"]
        assert open_image(rows[0]["image"], "row 0").tobytes() == picture(1, 12).tobytes()


def test_columns_without_one_picture_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for split, cells, words in (
        ("lists", [["a.png"], ["a.png", "b.png"]], "row 1 of .* is a list of 2 pictures"),
        ("numbers", [1, 2], "column image holds int64, not pictures; store file names"),
    ):
        pq.write_table(pa.table({"image": cells}), tmp_path / f"{split}.parquet")
        with pytest.raises(ValueError, match=words):
            load_split(str(tmp_path), split)
    pq.write_table(pa.table({"image": ["gone.png"]}), tmp_path / "gone.parquet")
    with pytest.raises(ValueError, match="row 0 of x is broken .there is no file .*gone.png; file names are relative"):
        check_images(load_split(str(tmp_path), "gone"), "x")
