"""A sheet of pictures with captions, to be looked at: uint8 pictures in, one picture file out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from artray.console import safe
from artray.store.pictures import write

COLUMNS: Final = 5
CELL_PX: Final = 240
CAPTION_PX: Final = 44
MARGIN_PX: Final = 12
INK, GREY, GROUND = (30, 30, 30), (120, 120, 120), (255, 255, 255)


class Cell(NamedTuple):
    """A picture of the sheet."""

    pixels: npt.NDArray[np.uint8] | None  # uint8[H, W, 3] RGB; None where there is none
    caption: tuple[str, str]  # two lines, cut where they are too long


def save(cells: Sequence[Cell], out: Path) -> None:
    """Write the sheet, five pictures to a row.

    Raises:
        ConfigError: another kind of file, or one that cannot be written.
    """
    write(draw(cells), out, quality=90)


def draw(cells: Sequence[Cell]) -> Any:
    """The sheet as a PIL image."""
    from PIL import Image, ImageDraw, ImageFont

    rows = max(1, -(-len(cells) // COLUMNS))
    width, height = CELL_PX + MARGIN_PX, CELL_PX + CAPTION_PX + MARGIN_PX
    picture = Image.new("RGB", (COLUMNS * width + MARGIN_PX, rows * height + MARGIN_PX), GROUND)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    for number, cell in enumerate(cells):
        x, y = MARGIN_PX + number % COLUMNS * width, MARGIN_PX + number // COLUMNS * height
        if cell.pixels is not None:
            thumbnail = Image.fromarray(cell.pixels)
            thumbnail.thumbnail((CELL_PX, CELL_PX))
            picture.paste(thumbnail, (x + (CELL_PX - thumbnail.width) // 2, y + CELL_PX - thumbnail.height))
        for line, (text, colour) in enumerate(zip(cell.caption, (GREY, INK), strict=True)):
            pen.text((x, y + CELL_PX + 6 + 18 * line), _cut(safe(text), font), font=font, fill=colour)
    return picture


def _cut(text: str, font: Any) -> str:
    """The end of a text that is too long for a cell."""
    if font.getlength(text) <= CELL_PX:
        return text
    while text and font.getlength(f"…{text}") > CELL_PX:
        text = text[1:]
    return f"…{text}"
