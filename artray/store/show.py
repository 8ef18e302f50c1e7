"""One record, and its picture with what was found in it."""

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from artray.errors import ConfigError
from artray.store import corrections, duplicates, find, pictures, views
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import embeddings

Pixels = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "persons": (230, 159, 0),
    "animals": (86, 180, 233),
    "produce": (0, 158, 115),
    "structures": (213, 94, 0),
    "landforms": (0, 114, 178),
    "faces": (240, 228, 66),
}
"""A colour for each category, which colour-blind people can tell apart. Source: Okabe and Ito (2008)."""

OTHER: Final[Rgb] = (204, 121, 167)


def show(store: Store, image_id: str) -> dict[str, Any]:
    """Everything that is recorded of an image, a vanished one, too, in values that JSON knows.

    ``corrected`` is what people put right: type, genre, by whom and when; None where nobody did. ``duplicates`` are the
    other works of its group as it was found last, the representative first: {image_id, of, why, score, similarity}.

    Raises:
        ConfigError: there is no such image.
    """
    records = Records.open(store)
    with views.opened(records) as connection:
        statement = "SELECT * EXCLUDE (embedding, thumbnail) FROM stored WHERE image_id = ?"
        found = find.works(connection, statement, [image_id])
        if not found:
            raise ConfigError(f"{image_id}: no such image in {store.uri}{_near(connection, image_id)}")
    vectors = [batch["embedding"][0].as_py() for batch in embeddings(records, {image_id})]
    said = corrections.read(store).get(image_id)
    corrected = None if said is None else said.labels | {"by": said.by, "at": said.at}
    known = {"corrected": corrected, "duplicates": [views.plain(row) for row in duplicates.of(store, image_id)]}
    return found[0] | known | {"embedding": vectors[0] if vectors else None}


def save(store: Store, record: dict[str, Any], out: Path, max_side_px: int) -> None:
    """Write the picture of a store's record with its boxes drawn, at most ``max_side_px`` on its longer side.

    Raises:
        ConfigError: the picture cannot be read, or the file cannot be written.
        TransientError: the storage does not answer.
    """
    from PIL import Image

    pictures.check_name(out)
    drawn = draw(pictures.Pictures(store).of_record(record, max_side_px).pixels, record)
    pictures.write(Image.fromarray(drawn), out, quality=92)


def draw(pixels: Pixels, record: dict[str, Any]) -> Pixels:
    """A picture with a labelled box around every object, the surest on top.

    Args:
        pixels: uint8[H, W, 3] RGB of the upright picture, at any scale; it is not changed.
        record: ``objects`` with boxes in pixels of the original, ``width_px`` and ``height_px``.

    Returns:
        uint8[H, W, 3], the picture itself where there are no objects.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(pixels)
    height, width = pixels.shape[:2]
    scale = (width / (record.get("width_px") or width), height / (record.get("height_px") or height))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=max(11, round(min(width, height) / 36)))
    thickness = max(2, round(min(width, height) / 250))
    for found in sorted(record.get("objects") or (), key=lambda o: o["score"] or 0.0):
        box = corners(found, scale, (width, height))
        if box is not None:
            _draw_box(pen, box, found, thickness)
            _draw_label(pen, box, found, font, (width, height))
    return np.asarray(image, np.uint8)


def corners(
    found: dict[str, Any], scale: tuple[float, float], size_wh: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """An object's box in pixels of the drawn picture, inside it; None where it has none there.

    >>> corners({"x1_px": -5, "y1_px": 10, "x2_px": 100, "y2_px": 50}, (0.5, 0.5), (40, 40))
    (0, 5, 39, 25)
    """
    values = [found["x1_px"], found["y1_px"], found["x2_px"], found["y2_px"]]
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    width, height = size_wh
    x1, x2 = (min(max(round(value * scale[0]), 0), width - 1) for value in (values[0], values[2]))
    y1, y2 = (min(max(round(value * scale[1]), 0), height - 1) for value in (values[1], values[3]))
    return (x1, y1, x2, y2) if x1 <= x2 and y1 <= y2 else None


def _draw_box(pen: Any, box: tuple[int, int, int, int], found: dict[str, Any], thickness: int) -> None:
    """A coloured frame between a black and a white one: some of it stands out on any background."""
    x1, y1, x2, y2 = box
    for inset, colour, width in ((-1, (0, 0, 0), 1), (0, _colour(found), thickness), (thickness, (255, 255, 255), 1)):
        if x2 - x1 > 2 * inset and y2 - y1 > 2 * inset:
            pen.rectangle((x1 + inset, y1 + inset, x2 - inset, y2 - inset), outline=colour, width=width)


def _draw_label(
    pen: Any, box: tuple[int, int, int, int], found: dict[str, Any], font: Any, size_wh: tuple[int, int]
) -> None:
    """Name and score on a filled tab above the box, or inside where there is no room above."""
    text = f"{found['class_name']} {found['score'] or 0.0:.2f}"
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = max(0, min(box[0], size_wh[0] - width))
    y = box[1] - height if box[1] >= height else box[1]
    colour = _colour(found)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pen.rectangle((x, y, x + width, y + height), fill=colour, outline=(0, 0, 0))
    pen.text((x + 3 - left, y + 3 - top), text, font=font, fill=(0, 0, 0) if bright else (255, 255, 255))


def _colour(found: dict[str, Any]) -> Rgb:
    return COLOURS.get(str(found.get("category")), OTHER)


def _near(connection: views.Connection, image_id: str) -> str:
    """A hint at images whose names contain this one's, or nothing."""
    statement = "SELECT image_id FROM works WHERE contains(lower(image_id), lower(?)) ORDER BY 1 LIMIT 3"
    names = [row[0] for row in views.fetched(connection, statement, [Path(image_id).name])] if image_id else []
    return f"; did you mean {' or '.join(names)}?" if names else "; artray find lists them"
