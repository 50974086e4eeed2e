"""A local cache as huggingface_hub keeps it, filled from folders: models by hub id, without a network."""

import hashlib
import shutil
from pathlib import Path

import pytest


def fake_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """The cache that huggingface_hub and transformers look into. HF_HUB_OFFLINE is set for all tests."""
    import huggingface_hub.constants
    import transformers.utils.hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    if hasattr(transformers.utils.hub, "TRANSFORMERS_CACHE"):
        monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(cache))


def add_to_hub(cache: Path, repo: str, folder: Path, revision: str = "main") -> Path:
    """`folder` as what `repo` holds at a branch or tag; returns the snapshot's folder, which is called by its
    commit."""
    place = cache / f"models--{repo.replace('/', '--')}"
    commit = hashlib.sha1(f"{repo}{revision}".encode()).hexdigest()
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(commit)
    return Path(
        shutil.copytree(folder, place / "snapshots" / commit, ignore=shutil.ignore_patterns("export", "eval_results"))
    )
