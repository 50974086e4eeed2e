"""Rows -> parquet files that `datasets.load_dataset` reads, equal to the byte for equal rows; whole folders or none."""

import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from unlearn.atomic import umask, write_text

Rows = Sequence[Mapping[str, Any]]

_STRING = {"dtype": "string", "_type": "Value"}
KINDS: dict[str, Any] = {"image": {"_type": "Image"}, "text": _STRING, "texts": {"feature": _STRING, "_type": "List"}}


def png(image: Image.Image) -> dict[str, Any]:
    """The cell of an image column: lossless, so that the same pixels reach every model."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=False)
    return {"bytes": buffer.getvalue(), "path": None}


def write_dataset(folder: Path, configs: Mapping[str, tuple[Mapping[str, str], Rows]], card: str) -> None:
    """Writes `folder` with one parquet file a config and a README whose YAML lists them.

    `configs`: name -> ({column: "image" | "text" | "texts"}, rows). Everything goes to a folder beside `folder` that is
    then renamed. An existing `folder` is replaced; another process that got there first is left alone.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o777 & ~umask())  # mkdtemp makes private folders
        _write_configs(temporary, configs)
        (temporary / "README.md").write_text(_yaml(list(configs)) + card, encoding="utf-8")
        _replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def add_configs(folder: Path, configs: Mapping[str, tuple[Mapping[str, str], Rows]], card: str) -> None:
    """Adds `configs` to a folder of `write_dataset`, and to its README last; what is there stays as it is.

    Several processes may do this at once: they write the same.
    """
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        missing = {name: config for name, config in configs.items() if not (folder / name).exists()}
        _write_configs(Path(temporary), missing)
        for name in missing:
            (Path(temporary) / name).chmod(0o777 & ~umask())
            try:
                os.rename(Path(temporary) / name, folder / name)
            except OSError:
                if not (folder / name).is_dir():
                    raise
    names = re.findall(r'config_name: "([^"]+)"', (folder / "README.md").read_text(encoding="utf-8"))
    write_text(folder / "README.md", _yaml([*names, *(name for name in configs if name not in names)]) + card)


def _write_configs(folder: Path, configs: Mapping[str, tuple[Mapping[str, str], Rows]]) -> None:
    for name, (columns, rows) in configs.items():
        (folder / name).mkdir()
        _write_parquet(folder / name / "train-00000-of-00001.parquet", columns, rows)


def _write_parquet(path: Path, columns: Mapping[str, str], rows: Rows) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
    }
    features = {column: KINDS[kind] for column, kind in columns.items()}
    schema = pa.schema(
        [(column, types[kind]) for column, kind in columns.items()],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    table = pa.table({column: [row.get(column) for row in rows] for column in columns}, schema=schema)
    pq.write_table(table, path, compression="snappy")


def _yaml(names: Sequence[str]) -> str:
    lines = ["---", "configs:"]
    for name in names:
        lines += [
            f'- config_name: "{name}"',
            "  data_files:",
            "  - split: train",
            f'    path: "{name}/train-*.parquet"',
        ]
        if name == "default" or ("default" not in names and name == "full"):
            lines.append("  default: true")
    return "\n".join([*lines, "---", "", ""])


def _replace(temporary: Path, folder: Path) -> None:
    """`temporary` becomes `folder`. A folder cannot be renamed over another, so an old one is moved aside first."""
    if folder.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        os.replace(folder, aside / folder.name)
        os.replace(temporary, folder)
        shutil.rmtree(aside)
        return
    try:
        os.replace(temporary, folder)
    except OSError:
        if not (folder / "README.md").is_file():
            raise
