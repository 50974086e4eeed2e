"""The sixty authors, each at two places: `python -m minibench.contact_sheet` writes docs/images/contact_sheet.png."""

import argparse
import io
from pathlib import Path

from PIL import Image, ImageDraw

from minibench.clear import author_pictures
from minibench.faces import PLACES, SIZE
from minibench.folders import ROOT
from minibench.people import FORGET, SEED

COLUMNS, LABEL, GAP = 10, 11, 4


def contact_sheet(seed: int = SEED) -> Image.Image:
    """Ten authors a row, two pictures and the name of each; the names of the forget10 authors are red."""
    pictures = author_pictures(seed)
    authors = len(pictures) // len(PLACES)
    width, height = 2 * SIZE + GAP, SIZE + LABEL + GAP
    sheet = Image.new("RGB", (COLUMNS * width + GAP, -(-authors // COLUMNS) * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for author in range(authors):
        x, y = GAP + author % COLUMNS * width, GAP + author // COLUMNS * height
        for side in (0, 1):
            row = pictures[author * len(PLACES) + (author + side * 3) % len(PLACES)]
            sheet.paste(Image.open(io.BytesIO(row["image"]["bytes"])), (x + side * SIZE, y))
        colour = "#c00020" if author >= authors - FORGET["10"] else "#202020"
        draw.text((x, y + SIZE), pictures[author * len(PLACES)]["name"], fill=colour, font_size=9)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "contact_sheet.png")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet().quantize(128, dither=Image.Dither.NONE).save(options.out, optimize=True)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
