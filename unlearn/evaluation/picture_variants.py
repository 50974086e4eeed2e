"""What may happen to a picture on its way to a model: greyed, mirrored, cropped, turned, blurred, ..."""

import io
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

MARGIN = 0.05  # cropped from each side
DEGREES = 10
BLUR, BLUR_PIXELS = 2.0, 336  # radius at this size of the longer side
NOISE = 0.1  # standard deviation, of values in [0, 1]
JPEG = 30  # quality
DARK = 0.5  # brightness


def change_picture(image: Any, name: str, key: str) -> Any:
    """The RGB picture under the change `name` of `PICTURES`; what is drawn is fixed by `key`."""
    return _CHANGES[name](image.convert("RGB"), key)


def typeset(image: Any, text: str) -> Any:
    """The picture with `text` in black on a white strip below it, its lines broken at the picture's width."""
    from PIL import Image, ImageDraw, ImageFont

    image = image.convert("RGB")
    size = max(8, image.width // 18)
    font = ImageFont.load_default(size)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > image.width - 2:
            lines.append(word)
        else:
            lines[-1] = longer
    height = round(1.3 * size)
    whole = Image.new("RGB", (image.width, image.height + height * len(lines) + 2), "white")
    whole.paste(image)
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        draw.text((1, image.height + 1 + number * height), line, fill="black", font=font)
    return whole


def _grey(image: Any, key: str) -> Any:
    return image.convert("L").convert("RGB")


def _flip(image: Any, key: str) -> Any:
    from PIL import ImageOps

    return ImageOps.mirror(image)


def _crop(image: Any, key: str) -> Any:
    across, down = (max(1, round(MARGIN * side)) for side in image.size)
    return image.crop((across, down, image.width - across, image.height - down))


def _rotate(image: Any, key: str) -> Any:
    from PIL import Image

    return image.rotate(DEGREES, resample=Image.Resampling.BICUBIC)


def _blur(image: Any, key: str) -> Any:
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(BLUR * max(image.size) / BLUR_PIXELS))


def _noise(image: Any, key: str) -> Any:
    from PIL import Image

    rng = np.random.default_rng(Random(key).getrandbits(64))
    pixels = np.asarray(image) / 255
    noisy = (pixels + rng.normal(0, NOISE, pixels.shape)).clip(0, 1)
    return Image.fromarray((noisy * 255 + 0.5).astype(np.uint8))


def _jpeg(image: Any, key: str) -> Any:
    from PIL import Image

    image.save(buffer := io.BytesIO(), "JPEG", quality=JPEG)
    return Image.open(buffer).convert("RGB")


def _dark(image: Any, key: str) -> Any:
    from PIL import ImageEnhance

    return ImageEnhance.Brightness(image).enhance(DARK)


_CHANGES: dict[str, Callable[[Any, str], Any]] = {
    "grey": _grey, "flip": _flip, "crop": _crop, "rotate": _rotate, "blur": _blur, "noise": _noise, "jpeg": _jpeg,
    "dark": _dark,
}  # fmt: skip
PICTURES = tuple(_CHANGES)
