"""Photos decoded and split once, for every script that follows; and the one network they all start from."""

from __future__ import annotations

from pathlib import Path

from cv.data.photos import load_photos, published_forget, save_photos
from cv.data.splits import make_splits, write_splits
from cv.settings import PrepareSettings
from unlearn.runs.record import start_run


def prepare(settings: PrepareSettings) -> Path:
    """Writes photos and identity splits into `save_dir`; returns it. ValueError for data or people that do not fit."""
    run = start_run(
        settings, kind="cv-prepare", overwrite=settings.overwrite_dir, main=False
    )  # asks; writes nothing yet
    if run.finished:
        return run.folder
    photos = load_photos(settings.data_path, settings.size, split=settings.data_split, revision=settings.data_revision)
    photos.check_enrolment(settings.num_enroll)
    forget = settings.forget or published_forget(settings.data_path, settings.data_revision)
    splits = make_splits(photos, models=settings.models, seed=settings.seed, forget=forget, holdout=settings.holdout)
    run = start_run(settings, kind="cv-prepare", overwrite=settings.overwrite_dir, main=True)
    for old in run.folder.glob("split_*.json"):
        old.unlink()
    save_photos(photos, run.folder)
    write_splits(splits, run.folder)
    run.record |= {"dataset": photos.digest(), "identities": len(photos.identities), "photos": len(photos.labels)}
    run.finish()
    return run.folder
