"""Photos decoded and split once, for every script that follows; and the one network they all start from."""

from __future__ import annotations

from pathlib import Path

from cv.data.noted import noted_photos
from cv.data.photos import published_forget, save_photos
from cv.data.splits import make_splits, write_splits
from cv.settings import PrepareSettings
from unlearn.runs.record import find_run


def prepare(settings: PrepareSettings) -> Path:
    """Writes photos and identity splits into `save_dir`; returns it. ValueError for data or people that do not fit, or
    other photos than the folder was prepared from."""
    run = find_run(settings, kind="cv-prepare", overwrite=settings.overwrite_dir)  # writes nothing yet
    photos = noted_photos(run, settings)
    if photos is None:
        return run.folder
    photos.check_enrolment(settings.num_enroll)
    forget = settings.forget or published_forget(settings.data_path, settings.data_revision)
    splits = make_splits(photos, models=settings.models, seed=settings.seed, forget=forget, holdout=settings.holdout)
    run.begin(main=True)
    for old in run.folder.glob("split_*.json"):
        old.unlink()
    save_photos(photos, run.folder)
    write_splits(splits, run.folder)
    run.record |= {"dataset": photos.digest(), "identities": len(photos.identities), "photos": len(photos.labels)}
    run.finish()
    return run.folder
