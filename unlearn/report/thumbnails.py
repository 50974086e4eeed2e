"""The pictures on the page: each embedded once, as a data URI, within a budget."""

import base64
from collections.abc import Iterable
from pathlib import Path

_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}  # by content: a file's name can lie
MAX_BYTES = 100_000  # of one picture; the evaluation writes about 4,000


class Thumbnails:
    """Collects pictures by their path in eval_meta.json. `left_out`, `missing`: how many."""

    def __init__(self, budget: int) -> None:
        self.budget = budget  # characters of all data URIs together
        self.folders: list[Path] = []
        self._keys: dict[str, str] = {}
        self._seen: dict[str, str | None] = {}
        self._left_out: set[str] = set()
        self._missing: set[str] = set()

    @property
    def embedded(self) -> dict[str, str]:
        """Data URIs by key."""
        return {key: uri for uri, key in self._keys.items()}

    @property
    def left_out(self) -> int:
        return len(self._left_out)

    @property
    def missing(self) -> int:
        return len(self._missing)

    def look_in(self, folders: Iterable[Path]) -> None:
        """The result folders in which paths are looked up from now on; their names are made of the pictures'
        content."""
        self.folders = list(folders)
        self._seen = {}

    def add(self, path: str | None) -> str | None:
        """The key of a picture in `embedded`; None for a row without one, a file that is gone, or a full page."""
        if path is None:
            return None
        if path not in self._seen:
            self._seen[path] = self._embed(path)
        return self._seen[path]

    def _embed(self, path: str) -> str | None:
        uri = next((uri for folder in self.folders if (uri := data_uri(folder, path))), None)
        if uri is None:
            self._missing.add(path)
            return None
        if uri not in self._keys:
            if len(uri) > self.budget:
                self._left_out.add(path)
                return None
            self.budget -= len(uri)
            self._keys[uri] = f"p{len(self._keys)}"
        return self._keys[uri]


def data_uri(folder: Path, path: str) -> str | None:
    """A JPEG or PNG under `folder` as a data URI; None for any other file, one outside the folder, or none at all."""
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file() or file.stat().st_size > MAX_BYTES:
        return None
    content = file.read_bytes()
    kind = next((kind for magic, kind in _KINDS.items() if content.startswith(magic)), None)
    return None if kind is None else f"data:{kind};base64,{base64.b64encode(content).decode()}"
