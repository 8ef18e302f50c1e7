"""Pictures of results: a query with what each method found for it, and a query beside one picture to judge.

Source: report, Image Retrieval, Figures 1 to 6: a query and its five results.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from artray.console import safe

Pixels = npt.NDArray[np.uint8]

CELL_PX: Final = 220
PAIR_PX: Final = 560
MARGIN_PX: Final = 12
TITLE_PX: Final = 26
CAPTION_PX: Final = 22
INK, GREY, GROUND, EMPTY = (30, 30, 30), (120, 120, 120), (255, 255, 255), (235, 235, 235)


class Shown(NamedTuple):
    """A picture of a sheet, and what stands below it."""

    pixels: Pixels | None  # uint8[H, W, 3] RGB; None where it cannot be had
    caption: str = ""  # one line, cut where it is too long


def caption(rank: int, score: float | None, label: str = "") -> str:
    """What stands below a result.

    >>> caption(1, 0.93751, "landscape"), caption(2, None)
    ('1   0.938   landscape', '2')
    """
    return "   ".join(filter(None, [str(rank), "" if score is None else f"{score:.3f}", label]))


def draw(query: Shown, rows: Mapping[str, Sequence[Shown]]) -> Any:
    """The query on the left, and on the right a row per method: its name, and its results from the first to the last.

    Args:
        query: what was asked for.
        rows: by method, in this order; they need not be of one length, and there may be none.

    Returns:
        A PIL image.
    """
    longest = max((len(results) for results in rows.values()), default=0)
    step, height = CELL_PX + MARGIN_PX, TITLE_PX + CELL_PX + CAPTION_PX + MARGIN_PX
    size = (MARGIN_PX + (1 + longest) * step + MARGIN_PX, MARGIN_PX + max(1, len(rows)) * height)
    sheet = _Sheet(size, CELL_PX)
    sheet.title("query", MARGIN_PX, MARGIN_PX)
    sheet.show(query, MARGIN_PX, MARGIN_PX + TITLE_PX)
    for number, (method, results) in enumerate(rows.items()):
        y = MARGIN_PX + number * height
        left = 2 * MARGIN_PX + step  # a margin more: the query is not one of the results
        sheet.title(method, left, y, longest * step - MARGIN_PX)
        for place, shown in enumerate(results):
            sheet.show(shown, left + place * step, y + TITLE_PX)
    return sheet.image


def pair(query: Shown, candidate: Shown) -> Any:
    """A query and one picture to judge beside it: a PIL image."""
    size = (2 * PAIR_PX + 3 * MARGIN_PX, TITLE_PX + PAIR_PX + CAPTION_PX + 2 * MARGIN_PX)
    sheet = _Sheet(size, PAIR_PX)
    for x, title, shown in ((MARGIN_PX, "query", query), (2 * MARGIN_PX + PAIR_PX, "like it?", candidate)):
        sheet.title(title, x, MARGIN_PX)
        sheet.show(shown, x, MARGIN_PX + TITLE_PX)
    return sheet.image


def save(image: Any, out: Path) -> None:
    """Write a sheet as .png, .jpg or .webp, whole or not at all.

    Raises:
        ConfigError: another kind of file, or one that cannot be written.
    """
    from artray.store.pictures import write

    write(image, out, quality=90)


class _Sheet:
    """A page that is drawn on."""

    def __init__(self, size: tuple[int, int], cell_px: int) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self.image: Any = Image.new("RGB", size, GROUND)
        self.cell_px, self.pen = cell_px, ImageDraw.Draw(self.image)
        self.large, self.small = ImageFont.load_default(size=15), ImageFont.load_default(size=13)

    def title(self, text: str, x: int, y: int, width_px: int | None = None) -> None:
        """A line above what it is the title of."""
        self.pen.text((x, y + 2), cut(safe(text), self.large, width_px or self.cell_px), font=self.large, fill=INK)

    def show(self, shown: Shown, x: int, y: int) -> None:
        """A picture in the middle of its cell, with its caption below."""
        from PIL import Image

        side = self.cell_px
        if shown.pixels is None:
            self.pen.rectangle((x, y, x + side - 1, y + side - 1), fill=EMPTY)
            self.pen.text((x + side // 2, y + side // 2), "no picture", font=self.small, fill=GREY, anchor="mm")
        else:
            picture = Image.fromarray(shown.pixels)
            scale = side / max(picture.size)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, Image.Resampling.LANCZOS)
            self.image.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
        text = cut(safe(shown.caption), self.small, side)
        self.pen.text((x, y + side + 4), text, font=self.small, fill=GREY)


def cut(text: str, font: Any, width_px: int) -> str:
    """The beginning of a text that is too long."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(f"{text}…") > width_px:
        text = text[:-1]
    return f"{text}…"
