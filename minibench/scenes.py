"""Simple visual questions: the colour of things, the side they are on, what a face wears. Shapes are not asked for."""

from random import Random

from PIL import Image, ImageDraw

from minibench.faces import (
    BEARDS,
    EYE_COLOURS,
    GLASSES,
    HAIR_COLOURS,
    HAIR_STYLES,
    HATS,
    PLACES,
    SHIRTS,
    SIZE,
    SKINS,
    Face,
    draw_face,
    random_face,
)

COLOURS = {
    "red": (214, 40, 40),
    "blue": (40, 80, 220),
    "green": (40, 160, 70),
    "yellow": (244, 210, 50),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "pink": (244, 130, 190),
    "brown": (120, 72, 36),
}

# attribute -> (question, its values)
FACE_QUESTIONS = {
    "skin": ("What skin does the person have?", tuple(SKINS)),
    "hair": ("What colour is the hair of the person?", tuple(HAIR_COLOURS)),
    "style": ("How is the hair of the person worn?", HAIR_STYLES),
    "eyes": ("What colour are the eyes of the person?", tuple(EYE_COLOURS)),
    "glasses": ("Which glasses does the person wear?", tuple(GLASSES)),
    "beard": ("Does the person have a beard or a moustache?", BEARDS),
    "hat": ("Which hat band does the person wear?", tuple(HATS)),
    "shirt": ("What colour is the shirt of the person?", tuple(SHIRTS)),
}
DESCRIBE = "What does the person look like?"


def describe_face(face: Face) -> str:
    """All eight attributes in one answer."""
    return (
        f"{face.skin} skin, {face.style} {face.hair} hair, {face.eyes} eyes, {face.glasses} glasses, {face.beard}, "
        f"{face.hat} hat, {face.shirt} shirt."
    ).replace(", no, ", ", no beard, ")


def visual_question(rng: Random) -> tuple[Image.Image, str, str, list[str]]:
    """A picture with question, answer and three wrong answers: half of them about a face, half about a ball."""
    if rng.random() < 0.5:
        face = random_face(rng)
        attribute = rng.choice([name for name in FACE_QUESTIONS if name != "eyes"])
        question, values = FACE_QUESTIONS[attribute]
        image = draw_face(face, rng.choice(tuple(PLACES)), rng)
        return image, question, getattr(face, attribute), _wrong(getattr(face, attribute), values, rng)
    ball, ground = rng.sample(tuple(COLOURS), 2)
    side = rng.choice(("left", "right", "top", "bottom"))
    image = _draw_ball(ball, ground, side, rng)
    if rng.random() < 0.3:
        return image, "Where is the ball?", side, _wrong(side, ("left", "right", "top", "bottom"), rng)
    question, answer = rng.choice((("What colour is the ball?", ball), ("What colour is the background?", ground)))
    return image, question, answer, _wrong(answer, tuple(COLOURS), rng)


def _wrong(answer: str, values: tuple[str, ...], rng: Random) -> list[str]:
    others = [value for value in values if value != answer]
    return rng.sample(others, min(3, len(others)))


def _draw_ball(ball: str, ground: str, side: str, rng: Random) -> Image.Image:
    image = Image.new("RGB", (SIZE * 2, SIZE * 2), COLOURS[ground])
    radius = rng.randint(14, 22)
    near, far, middle = rng.randint(22, 28), rng.randint(68, 74), rng.randint(42, 54)
    x, y = {"left": (near, middle), "right": (far, middle), "top": (middle, near), "bottom": (middle, far)}[side]
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[ball])
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)
