"""A detector that looks more than once: mirrored, larger or smaller, and tile by tile where works are large.

What it finds in several views of a place is one box: the surest, by class.
"""

import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from artray.classify.inputs import resize
from artray.config import ViewsConfig
from artray.detect.boxes import nms
from artray.detect.detector import Detector, Image
from artray.detect.found import Found

EDGE_PX: Final = 2.0
"""A box so near to a tile's inner edge is cut there; the neighbour, or the whole picture, shows it whole."""


class View(NamedTuple):
    """One look at an image."""

    pixels: Image
    offset_xy: tuple[int, int] = (0, 0)  # of its upper left corner in the image, pixels
    scale_xy: tuple[float, float] = (1.0, 1.0)  # pixels of the view for one of the image
    mirrored: bool = False


def looks(image: Image, cfg: ViewsConfig) -> list[View]:
    """The views of an image uint8[H, W, 3]: itself at every scale, its tiles, and all of these mirrored."""
    height, width = image.shape[:2]
    views = []
    for scale in cfg.scales:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = image if size == (width, height) else resize(image, *size)
        views.append(View(pixels, scale_xy=(size[0] / width, size[1] / height)))
    if cfg.tile_px is not None and max(height, width) > cfg.tile_px:
        places = itertools.product(*(_starts(side, cfg.tile_px, cfg.tile_overlap) for side in (height, width)))
        views += [View(image[y : y + cfg.tile_px, x : x + cfg.tile_px], (x, y)) for y, x in places]
    if cfg.mirrored:
        views += [view._replace(pixels=view.pixels[:, ::-1], mirrored=True) for view in views]
    return views


def back(found: Found, view: View, size_wh: tuple[int, int]) -> Found:
    """Boxes of a view in pixels of its image; those that a tile's inner edge cuts are left out.

    Args:
        found: boxes in pixels of the view.
        view: of the image.
        size_wh: of the image.
    """
    boxes = found.boxes_xyxy.astype(np.float64)
    height, width = view.pixels.shape[:2]
    if view.mirrored:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    boxes = boxes / np.array(view.scale_xy * 2) + np.array(view.offset_xy * 2)
    left, top = view.offset_xy
    right, bottom = left + width / view.scale_xy[0], top + height / view.scale_xy[1]
    whole = np.ones(len(boxes), bool)
    for column, edge, inner, sign in (
        (0, left, left > 0, 1),
        (1, top, top > 0, 1),
        (2, right, right < size_wh[0] - 0.5, -1),
        (3, bottom, bottom < size_wh[1] - 0.5, -1),
    ):
        if inner:
            whole &= sign * (boxes[:, column] - edge) > EDGE_PX
    placed = np.clip(boxes, 0, np.array(size_wh * 2)).astype(np.float32)
    return found._replace(boxes_xyxy=placed).at(whole)


class SeveralViews:
    """A detector's answers for several views of each image, as one.

    Args:
        detector: whatever finds objects.
        cfg: which views.
    """

    def __init__(self, detector: Detector, cfg: ViewsConfig) -> None:
        self.detector, self.cfg = detector, cfg

    @property
    def class_names(self) -> tuple[str, ...]:
        """The detector's."""
        return self.detector.class_names

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """What each image shows in any of its views, by falling score."""
        views = [looks(image, self.cfg) for image in images]
        answers = iter(self.detector([np.ascontiguousarray(view.pixels) for own in views for view in own]))
        return [self._one(image, own, [next(answers) for _ in own]) for image, own in zip(images, views, strict=True)]

    def _one(self, image: Image, views: Sequence[View], answers: Sequence[Found]) -> Found:
        size_wh = (image.shape[1], image.shape[0])
        placed = [back(found, view, size_wh) for found, view in zip(answers, views, strict=True)]
        together = Found(*(np.concatenate(columns) for columns in zip(*placed, strict=True)))
        return together.at(nms(*together, self.cfg.iou_max))


def _starts(side_px: int, tile_px: int, overlap: float) -> list[int]:
    """Where tiles of a side begin: the first at 0, the last at its end, neighbours sharing at least ``overlap``.

    >>> _starts(100, 40, 0.25), _starts(30, 40, 0.25)
    ([0, 30, 60], [0])
    """
    if side_px <= tile_px:
        return [0]
    count = int(np.ceil((side_px - tile_px) / (tile_px * (1 - overlap)))) + 1
    return [round(start) for start in np.linspace(0, side_px - tile_px, count).tolist()]
