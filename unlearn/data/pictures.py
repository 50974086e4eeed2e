"""Pictures as phones and archives have them -> the one RGB picture that models, checks and thumbnails see."""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from unlearn.data.texts import missing

MAX_ASPECT = 200  # Qwen2-VL refuses more, and no other model sees anything in such a line
BATCH = 256  # cells held in memory at once while pictures are checked


def open_image(cell: Any, row: str) -> Any:
    """The upright RGB picture of a cell (undecoded image, bytes, file name, PIL picture, or a list of one), or None for
    an empty one. ValueError names a row that cannot be opened.

    EXIF's orientation is applied, 16 bit and float (0 to 1) are scaled to 8 bit, what is transparent lies on white (as
    browsers and viewers show it; dropping alpha would bring up whatever colour lies hidden there). Of an animation it
    is the first picture.
    """
    if cell is None:
        return None
    try:
        with _opened(cell) as picture:
            return _rgb(picture)
    except Exception as error:  # PIL's many, as in check_images
        raise ValueError(f"The image of {row} cannot be opened ({error}); replace or remove that row.") from error


def check_images(rows: Any, name: str) -> None:
    """ValueError that names the first row whose image is broken: found before a model loads, not hours into a run."""
    check_cells(enumerate(rows["image"] if "image" in rows.column_names else ()), name)


def check_cells(cells: Iterable[tuple[Any, Any]], name: str) -> None:
    """`check_images` for (row, image) pairs that are no table."""
    left = iter(cells)
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:  # PIL decodes outside Python's lock
        while batch := list(islice(left, BATCH)):
            problems: Iterable[Exception | None] = pool.map(_problem, (cell for _, cell in batch))
            for (row, _), error in zip(batch, problems, strict=True):
                if error is not None:
                    raise ValueError(
                        f"The image of row {row} of {name} is broken ({error}); replace or remove it."
                    ) from error


def _problem(cell: Any) -> Exception | None:
    """What `open_image` would raise, at less cost: PNG by its checksums, WebP by its frame, JPEG at an eighth of its
    size."""
    if cell is None:
        return None
    try:
        with _opened(cell) as picture:
            _check_shape(picture.size)
            if picture.mode.startswith(("I", "F")):
                _rgb(picture)
            elif picture.format in ("PNG", "WEBP"):
                picture.verify()
            else:
                picture.draft(None, (max(1, picture.width // 8), max(1, picture.height // 8)))
                picture.load()
    except Exception as error:  # PIL raises SyntaxError, OSError, ValueError ... for the many ways a file can be broken
        return error
    return None


@contextlib.contextmanager
def _opened(cell: Any) -> Iterator[Any]:
    """The PIL picture of a cell, its pixels not read yet."""
    from PIL import Image

    if isinstance(cell, (list, tuple)):
        if len(cell) != 1:
            raise ValueError(f"{len(cell)} pictures where one is wanted")
        cell = cell[0]
    if isinstance(cell, Image.Image):
        yield cell
        return
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if not isinstance(cell, (bytes, bytearray, str, Path)):
        raise ValueError(f"{cell!r} is neither the bytes nor the file name of a picture")
    if isinstance(cell, (str, Path)) and not Path(cell).is_file():
        raise ValueError(f"there is no file {str(cell)[:200]}; file names are relative to the folder of the data")
    with Image.open(io.BytesIO(cell) if isinstance(cell, (bytes, bytearray)) else cell) as picture:
        yield picture


def _rgb(picture: Any) -> Any:
    import numpy as np
    from PIL import ExifTags, Image, ImageOps

    _check_shape(picture.size)
    kind = picture.format
    picture.load()
    try:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # PIL's many: tags that cannot be read turn no picture in a viewer either
        turned = False
    if turned:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind == "PNG"):
        picture = Image.fromarray((np.asarray(picture).astype(np.float64) / 257 + 0.5).astype(np.uint8))
    elif picture.mode == "F":
        values = np.asarray(picture)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError("its float values are not all within 0 and 1; save it with 8 bits a channel")
        picture = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    elif picture.mode == "I":
        raise ValueError("its 32 bit integers have no known range; save it with 8 bits a channel")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _check_shape(size: tuple[int, int]) -> None:
    if max(size) > MAX_ASPECT * min(size):
        raise ValueError(f"{size[0]} x {size[1]} pixels is narrower than {MAX_ASPECT}:1; crop it")


def picture_column(rows: Any, folder: Path | None, where: str) -> Any:
    """`rows` with its `image` column as undecoded pictures, whatever it was stored as: file names (relative to
    `folder`), bytes, or lists of one picture. None of them is opened here.

    Raises ValueError for a column of something else, for lists of several pictures, and for file names on the hub.
    """
    import datasets
    import pyarrow as pa

    feature = rows.features["image"]
    if isinstance(feature, datasets.Image):
        return rows.cast_column("image", datasets.Image(decode=False))
    cells = rows.data.column("image").combine_chunks()
    if pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
        cells = _only_ones(cells, where)
    stored = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    if pa.types.is_null(cells.type):
        cells = pa.nulls(len(cells), stored)
    elif pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        if folder is None:
            raise ValueError(
                f"{where}: column image holds text ({cells[0].as_py()!r}), not pictures; store the pictures in it "
                "(datasets.Image), or download the dataset and set data_path to its folder."
            )
        cells = _cells(None, cells, folder)
    elif pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type):
        cells = _cells(cells, None, folder)
    elif pa.types.is_struct(cells.type) and {field.name for field in cells.type} & {"bytes", "path"}:
        parts = {field.name: child for field, child in zip(cells.type, cells.flatten(), strict=True)}
        cells = _cells(parts.get("bytes"), parts.get("path"), folder)
    else:
        raise ValueError(
            f"{where}: column image holds {cells.type}, not pictures; store file names, bytes or datasets.Image."
        )
    table = rows.data.table.set_column(rows.column_names.index("image"), "image", cells)
    features = datasets.Features({**rows.features, "image": datasets.Image(decode=False)})
    return datasets.Dataset(
        datasets.table.InMemoryTable(table.replace_schema_metadata(None)),
        info=datasets.DatasetInfo(features=features),
        fingerprint=f"{rows._fingerprint}-pictures",  # computing one would read every picture
    )


def picture_folders(rows: Any) -> list[Path]:
    """The folders in which the pictures lie that these rows (None, or without an image column) name by file."""
    if rows is None or "image" not in rows.column_names:
        return []
    cells = rows.data.column("image").combine_chunks()
    named = cells.field("path").filter(cells.field("bytes").is_null()).drop_null()
    return sorted({Path(name).absolute().parent for name in named.to_pylist()})


def _cells(contents: Any, names: Any, folder: Path | None) -> Any:
    """An image column of bytes, of file names relative to `folder`, or of both: then the bytes count."""
    import pyarrow as pa
    from pyarrow import compute

    count = len(names if contents is None else contents)
    kept = pa.nulls(count, pa.binary()) if contents is None else contents.cast(pa.binary())
    paths = (
        [None if missing(name) else str((folder or Path()) / name) for name in names.to_pylist()]
        if names is not None
        else []
    )
    files = pa.array(paths or [None] * count, pa.string())
    nothing = compute.and_(kept.is_null(), files.is_null())
    return pa.StructArray.from_arrays([kept, files], ["bytes", "path"], mask=nothing)


def _only_ones(cells: Any, where: str) -> Any:
    """A column of lists as the one element of each, null for an empty list. ValueError names a row with several."""
    import pyarrow as pa

    place, places = 0, []
    for row, length in enumerate(cells.value_lengths().to_pylist()):
        if (length or 0) > 1:
            raise ValueError(
                f"The image of row {row} of {where} is a list of {length} pictures, and one is wanted; keep one, or "
                "make it a row for each."
            )
        places.append(place if length else None)
        place += length or 0
    return cells.flatten().take(pa.array(places, pa.int64()))
