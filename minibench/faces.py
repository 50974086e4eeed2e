"""Drawn faces: who a person is shows in eight attributes; pose, light and place change from picture to picture."""

from dataclasses import dataclass, fields
from random import Random

from PIL import Image, ImageDraw, ImageEnhance

SIZE = 48  # pixels a side of a finished picture
_CANVAS = 192  # drawn four times larger and averaged down, so that edges are smooth

Colour = tuple[int, int, int]

# Every table maps the word used in questions and answers to what is drawn.
SKINS: dict[str, Colour] = {
    "pale": (250, 224, 204),
    "tan": (222, 172, 126),
    "olive": (190, 158, 96),
    "brown": (146, 92, 56),
    "dark": (84, 52, 36),
}
HAIR_COLOURS: dict[str, Colour] = {
    "black": (24, 22, 26), "brown": (112, 64, 28), "blond": (240, 208, 96), "red": (206, 62, 28),
    "grey": (158, 160, 166), "blue": (46, 92, 214), "green": (40, 150, 74), "pink": (240, 120, 180),
}  # fmt: skip
HAIR_STYLES = ("short", "long", "curly", "spiky", "bun")
EYE_COLOURS: dict[str, Colour] = {
    "blue": (40, 110, 230),
    "green": (30, 160, 70),
    "brown": (110, 60, 20),
    "black": (10, 10, 10),
}
GLASSES: dict[str, Colour | None] = {"no": None, "black": (16, 16, 16), "red": (220, 30, 40), "yellow": (245, 205, 30)}
BEARDS = ("no", "moustache", "beard")
HATS: dict[str, Colour | None] = {
    "no": None,
    "white": (246, 246, 246),
    "purple": (128, 50, 170),
    "orange": (245, 140, 30),
}
SHIRTS: dict[str, Colour] = {
    "red": (200, 40, 50),
    "blue": (40, 80, 190),
    "green": (40, 140, 80),
    "yellow": (240, 200, 60),
    "black": (36, 36, 40),
    "white": (240, 240, 240),
}

# Where a picture is taken: (upper, lower) background colour. The order is the order of a person's pictures.
PLACES: dict[str, tuple[Colour, Colour]] = {
    "at home": ((214, 188, 152), (166, 130, 96)),
    "in a garden": ((150, 206, 120), (70, 140, 60)),
    "by the sea": ((170, 216, 240), (50, 120, 180)),
    "at night": ((18, 20, 48), (44, 44, 84)),
    "in the snow": ((222, 230, 238), (252, 252, 252)),
    "on stage": ((110, 20, 30), (60, 30, 30)),
    "at sunset": ((246, 150, 70), (190, 80, 90)),
    "in a cafe": ((120, 96, 150), (200, 180, 110)),
}


@dataclass(frozen=True)
class Face:
    """The attributes that make an identity; each is a key of the table of that kind."""

    skin: str
    hair: str
    style: str
    eyes: str
    glasses: str
    beard: str
    hat: str
    shirt: str

    def distance(self, other: "Face") -> int:
        """In how many of the eight attributes two faces differ."""
        return sum(getattr(self, field.name) != getattr(other, field.name) for field in fields(self))


def random_face(rng: Random) -> Face:
    """A face with every attribute drawn on its own."""
    tables = (SKINS, HAIR_COLOURS, HAIR_STYLES, EYE_COLOURS, GLASSES, BEARDS, HATS, SHIRTS)
    return Face(*(rng.choice(tuple(table)) for table in tables))


def draw_face(face: Face, place: str, rng: Random) -> Image.Image:
    """A 48 x 48 RGB picture of `face` at `place`; `rng` decides tilt, position, size, gaze and light."""
    upper, lower = PLACES[place]
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), upper)
    horizon = int(_CANVAS * rng.uniform(0.45, 0.7))
    ImageDraw.Draw(canvas).rectangle((0, horizon, _CANVAS, _CANVAS), fill=lower)
    head = Image.new("RGBA", (_CANVAS, _CANVAS), (0, 0, 0, 0))
    _draw_head(ImageDraw.Draw(head), face, gaze=rng.uniform(-3, 3))
    scale = rng.uniform(0.9, 1.06)
    side = int(_CANVAS * scale)
    head = head.resize((side, side), Image.Resampling.BILINEAR).rotate(rng.uniform(-9, 9), Image.Resampling.BILINEAR)
    offset = (_CANVAS - side) // 2 + rng.randint(-10, 10), (_CANVAS - side) // 2 + rng.randint(-10, 10)
    canvas.paste(head, offset, head)
    lit = ImageEnhance.Brightness(canvas).enhance(rng.uniform(0.82, 1.12))
    return lit.resize((SIZE, SIZE), Image.Resampling.BOX)


def _draw_head(draw: ImageDraw.ImageDraw, face: Face, gaze: float) -> None:
    skin, hair = SKINS[face.skin], HAIR_COLOURS[face.hair]
    if face.style == "long":
        draw.rounded_rectangle((42, 34, 150, 162), 40, fill=hair)
    elif face.style == "curly":
        for x, y in ((52, 60), (66, 36), (96, 28), (126, 36), (140, 60), (46, 86), (146, 86)):
            draw.ellipse((x - 24, y - 24, x + 24, y + 24), fill=hair)
    elif face.style == "bun":
        draw.ellipse((72, 0, 120, 44), fill=hair)
    elif face.style == "spiky":
        for x in range(50, 140, 18):
            draw.polygon(((x, 58), (x + 9, 4), (x + 20, 58)), fill=hair)
    draw.rounded_rectangle((28, 158, 164, 230), 34, fill=SHIRTS[face.shirt])
    draw.rectangle((82, 140, 110, 166), fill=skin)
    draw.ellipse((50, 34, 142, 158), fill=skin)
    draw.chord((48, 30, 144, 134), 192, 348, fill=hair)  # the fringe
    if face.beard == "beard":
        draw.chord((52, 76, 140, 160), 12, 168, fill=hair)
    _draw_features(draw, face, gaze)
    hat = HATS[face.hat]
    if hat is not None:
        draw.rounded_rectangle((44, 34, 148, 58), 8, fill=hat)


def _draw_features(draw: ImageDraw.ImageDraw, face: Face, gaze: float) -> None:
    for x in (76, 116):
        draw.ellipse((x - 13, 76, x + 13, 100), fill=(255, 255, 255))
        draw.ellipse((x - 9 + gaze, 79, x + 9 + gaze, 97), fill=EYE_COLOURS[face.eyes])
        frame = GLASSES[face.glasses]
        if frame is not None:
            draw.rounded_rectangle((x - 19, 70, x + 19, 106), 8, outline=frame, width=7)
    draw.line((96, 98, 93, 114, 99, 114), fill=(120, 70, 50), width=3)
    if face.beard == "moustache":
        draw.rounded_rectangle((72, 115, 120, 127), 6, fill=HAIR_COLOURS[face.hair])
    draw.rounded_rectangle((82, 130, 110, 137), 3, fill=(190, 50, 60))
