"""The perturbed input of `twins`: another picture of the same size, a question without the name."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.models import picture
from unlearn.data.augment import augment_image, drop_name


def test_the_picture_keeps_its_size_and_follows_the_generator() -> None:
    image = picture(0, 30, height=20)
    one, same, other = (augment_image(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.size == image.size and one.mode == "RGB"
    assert one.tobytes() == same.tobytes() != other.tobytes()
    assert image.tobytes() == picture(0, 30, height=20).tobytes()  # the original is left alone


def test_the_picture_is_mirrored_and_hardly_moved() -> None:
    half = Image.fromarray(np.concatenate([np.zeros((20, 15, 3)), np.full((20, 15, 3), 200)], 1).astype(np.uint8))
    for seed in range(10):
        pixels = np.asarray(augment_image(half, np.random.default_rng(seed)), dtype=float)
        assert pixels[:, :8].mean() > 150 and pixels[:, -8:].mean() < 30  # bright side left now, at 0.8 to 1.2 of 200
        mirrored = np.asarray(ImageOps.mirror(half), dtype=float)
        assert np.abs(pixels - mirrored).mean() < 60


@pytest.mark.parametrize(("question", "name", "expected"), [
    ("Where was Ana Lima born?", "Ana Lima", "Where was born?"),
    ("Where was Ana Lima born?", None, "Where was born?"),
    ("Did Jaime Vásquez write about Lisbon?", None, "Did write about Lisbon?"),  # the longest run of capitals
    ("What has Marit Hagen, of Oslo, written?", "Marit Hagen", "What has, of Oslo, written?"),
    ("Which prize did O’Neil-Smith win?", None, "Which prize did win?"),
    ("Where was the author born?", None, "Where was the author born?"),  # nothing to drop: the opening word stays
    ("Where was Ana Lima born?", "Bo", "Where was born?"),  # a name that is not in the question
])  # fmt: skip
def test_the_name_is_dropped(question: str, name: str | None, expected: str) -> None:
    assert drop_name(question, name) == expected
