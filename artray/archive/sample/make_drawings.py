"""Make the shipped drawings from the shipped paintings: ``python -m artray.archive.sample.make_drawings [FOLDER]``.

A row of ``works.csv`` whose file is ``drawing_<stem>.jpg`` is made from the picture of that stem. Nothing else
runs this: it is the recipe by which the pictures in the tree were made.
"""

import sys
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from artray.archive.sample.drawing import Pixels, to_drawing
from artray.archive.sample.works import FOLDER, Work, shipped

PREFIX: Final = "drawing_"
MAX_SIDE_PX: Final = 640
JPEG_QUALITY: Final = 85


def origins() -> dict[str, Work]:
    """File name of every shipped drawing that was made, to the painting it is made from."""
    by_stem = {work.stem: work for work in shipped()}
    return {
        work.file: by_stem[work.stem.removeprefix(PREFIX)] for work in by_stem.values() if work.file.startswith(PREFIX)
    }


def convert(path: Path) -> Pixels:
    """A picture file as a drawing: uint8[H, W, 3] with a longer side of at most ``MAX_SIDE_PX``."""
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    scale = min(1.0, MAX_SIDE_PX / max(rgb.shape))
    return to_drawing(np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8))


def main(folder: Path) -> None:
    """Write every made drawing into ``folder`` as a grey JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, origin in origins().items():
        grey = Image.fromarray(convert(origin.path)[:, :, 0])
        grey.save(folder / name, quality=JPEG_QUALITY, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "images")
