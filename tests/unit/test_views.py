"""Several views of an image: known rectangles, each found once, in pixels of the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from artray.config import DetectConfig, ViewsConfig
from artray.detect.found import Found
from artray.detect.views import SeveralViews, View, back, looks


class Whites:
    """Finds connected white rectangles of a shade each, scoring the shade; and counts what it is shown."""

    class_names = ("ship",)

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images: Sequence[Any]) -> list[Found]:
        self.seen += [image.shape for image in images]
        return [self._found(image[..., 0]) for image in images]

    def _found(self, grey: Any) -> Found:
        boxes, scores = [], []
        for value in (250, 240, 230):
            rows, columns = np.nonzero(grey == value)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                scores.append(value / 255)
        table = np.array(boxes, np.float32).reshape(-1, 4)
        return Found(table, np.array(scores, np.float32), np.zeros(len(boxes), np.int64))


def picture(width: int, height: int, **boxes: tuple[int, int, int, int]) -> Any:
    image = np.zeros((height, width, 3), np.uint8)
    for name, (x1, y1, x2, y2) in boxes.items():
        image[y1:y2, x1:x2] = int(name[1:])
    return image


IMAGE = picture(200, 120, v250=(10, 20, 40, 50), v240=(150, 70, 190, 110))
BOXES = [[10, 20, 40, 50], [150, 70, 190, 110]]


@pytest.mark.parametrize(
    "cfg",
    [
        ViewsConfig(),
        ViewsConfig(mirrored=True),
        ViewsConfig(scales=(1.0, 2.0, 0.5)),
        ViewsConfig(tile_px=80),
        ViewsConfig(mirrored=True, scales=(1.0, 2.0), tile_px=64, tile_overlap=0.5),
    ],
)
def test_each_object_is_found_once_where_it_is(cfg: ViewsConfig) -> None:
    (found,) = SeveralViews(Whites(), cfg)([IMAGE])
    assert found.boxes_xyxy.tolist() == BOXES
    assert found.scores.tolist() == pytest.approx([250 / 255, 240 / 255])


def test_tiles_cover_the_image_and_share_enough() -> None:
    cfg = ViewsConfig(tile_px=80, tile_overlap=0.25)
    views = looks(IMAGE, cfg)
    assert [view.offset_xy for view in views] == [(0, 0), (0, 0), (60, 0), (120, 0), (0, 40), (60, 40), (120, 40)]
    covered = np.zeros((120, 200), int)
    for view in views[1:]:
        x, y = view.offset_xy
        covered[y : y + 80, x : x + 80] += 1
        assert view.pixels.shape == (80, 80, 3)
    assert covered.min() == 1
    assert len(looks(IMAGE, ViewsConfig(tile_px=200))) == 1  # it is no larger
    detector = Whites()
    SeveralViews(detector, ViewsConfig(mirrored=True, tile_px=80))([IMAGE, IMAGE])
    assert len(detector.seen) == 2 * 2 * 7


def test_boxes_that_an_inner_edge_cuts_are_the_neighbours() -> None:
    view = View(np.zeros((80, 80, 3), np.uint8), (60, 0))
    cut = Found(
        np.array([[0, 10, 20, 30], [70, 10, 79, 30], [5, 0, 20, 20], [5, 60, 20, 80]], np.float32),
        np.ones(4, np.float32),
        np.zeros(4, np.int64),
    )
    # the picture's own upper edge cuts nothing
    assert back(cut, view, (200, 120)).boxes_xyxy.tolist() == [[65, 0, 80, 20]]
    assert len(back(cut, view._replace(offset_xy=(0, 0)), (80, 80)).boxes_xyxy) == 4


def test_no_images_and_nothing_found() -> None:
    several = SeveralViews(Whites(), ViewsConfig(mirrored=True, tile_px=64))
    assert several([]) == []
    (found,) = several([picture(100, 100)])
    assert len(found.scores) == 0
    assert several.class_names == ("ship",)


def test_what_cannot_be() -> None:
    for wrong in ({"scales": []}, {"scales": [0.0]}, {"tile_px": 8}, {"tile_overlap": 0.9}):
        with pytest.raises(ValueError, match="views"):
            DetectConfig.model_validate({"views": wrong})
