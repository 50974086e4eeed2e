"""The photos that a run is made from, noted in its record: the same settings on other photos are another run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cv.data.photos import Photos, load_photos
from cv.settings import PrepareSettings, PretrainSettings
from unlearn.contents import Digests
from unlearn.runs.made_from import MadeFrom, local_folders, stamps
from unlearn.runs.record import Run


def noted_photos(run: Run, settings: PrepareSettings | PretrainSettings, weights: Sequence[Path] = ()) -> Photos | None:
    """The photos of `settings`, noted in the run with the files of `weights` that it starts from; None where it is
    finished. Photos whose files have the sizes and times that a finished run has noted are not opened again.

    Raises:
        ValueError: as load_photos, or a run that was made from other photos or weights (`Changed`).
    """
    digests = known_files(run)
    start: MadeFrom = {"start": {"weights": digests.of(weights)}} if weights else {}
    photos = None
    if run.finished and run.same_data(stamps(settings)):
        data = run.record["made_from"]["data"]
    else:
        photos = load_photos(
            settings.data_path, settings.size, split=settings.data_split, revision=settings.data_revision
        )
        data = {"photos": photos.digest()}
    looked_at = {"data": stamps(settings), "files": digests.seen, "folders": local_folders(settings)}
    run.confirm({"data": data, **start}, looked_at, main=True)
    return None if run.finished else photos


def known_files(run: Run) -> Digests:
    """Digests that read only those files again whose sizes or times the run has not noted."""
    return Digests((run.record.get("seen") or {}).get("files", {}))
