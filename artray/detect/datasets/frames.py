"""Which pixels a set's boxes are in, and where they lie in the upright picture. Pure arithmetic."""

from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Size: TypeAlias = tuple[float, float]
Frame: TypeAlias = Literal["upright", "stored"]

FRAMES: Final[tuple[Frame, ...]] = ("upright", "stored")

ASPECT: Final = 0.01
"""Aspect ratios that differ by no more than this part are the same; so are those that rounding to pixels explains."""


class Seen(NamedTuple):
    """A picture's size as it is stored, and its EXIF orientation."""

    stored_wh: tuple[int, int]  # pixels
    orientation: int  # 1 to 8; 1 is upright

    @property
    def upright_wh(self) -> tuple[int, int]:
        """The upright picture's width and height."""
        return self.stored_wh if self.orientation < 5 else (self.stored_wh[1], self.stored_wh[0])

    def size_wh(self, frame: Frame) -> tuple[int, int]:
        """Width and height of the upright or of the stored picture."""
        return self.upright_wh if frame == "upright" else self.stored_wh


def frame_of(seen: Seen, published_wh: Size | None, usual: Frame) -> Frame:
    """What boxes refer to: what the published size says, or where it says nothing, what is usual.

    >>> frame_of(Seen((300, 200), 6), (300, 200), "upright")
    'stored'
    """
    if published_wh is None:
        return usual
    same: list[Frame] = [frame for frame in FRAMES if published_wh == seen.size_wh(frame)]
    fitting = same or [frame for frame in FRAMES if alike(published_wh, seen.size_wh(frame))]
    return fitting[0] if len(fitting) == 1 else usual


def alike(a_wh: Size, b_wh: Size) -> bool:
    """Whether two sizes have one aspect ratio, but for :data:`ASPECT` and rounding.

    >>> alike((400, 300), (800, 600)), alike((100, 33), (300, 100)), alike((400, 300), (300, 400))
    (True, True, False)
    """
    difference = abs(a_wh[0] * b_wh[1] - a_wh[1] * b_wh[0])
    return difference <= max(ASPECT * a_wh[0] * b_wh[1], (b_wh[0] + b_wh[1]) / 2)


def upright(boxes_xyxy: Floats, seen: Seen) -> Floats:
    """Boxes of the stored picture, in the upright one.

    Args:
        boxes_xyxy: float64[N, 4], pixels of the stored picture.
        seen: its size and orientation.

    Returns:
        float64[N, 4], pixels of the upright picture; corners in order where they were.

    Source: Exif 2.3, tag Orientation.

    >>> upright(np.array([[0.0, 0.0, 3.0, 1.0]]), Seen((4, 2), 6)).tolist()
    [[1.0, 0.0, 2.0, 3.0]]
    """
    width, height = seen.stored_wh
    x1, y1, x2, y2 = boxes_xyxy.T
    if seen.orientation in (2, 3, 7, 8):  # right to left
        x1, x2 = width - x2, width - x1
    if seen.orientation in (3, 4, 6, 7):  # bottom to top
        y1, y2 = height - y2, height - y1
    sides = (y1, x1, y2, x2) if seen.orientation >= 5 else (x1, y1, x2, y2)
    return np.stack(sides, axis=1)


def clipped(boxes_xyxy: Floats, size_wh: Size) -> Floats:
    """Boxes float64[N, 4] as far as they lie in a picture; without area where they lie outside."""
    return np.clip(boxes_xyxy, 0.0, np.array([*size_wh, *size_wh], np.float64))


def beyond(boxes_xyxy: Floats, size_wh: Size) -> Floats:
    """How many pixels each of float64[N, 4] reaches beyond a picture, at most: float64[N] >= 0."""
    found: Floats = np.abs(boxes_xyxy - clipped(boxes_xyxy, size_wh)).max(axis=1, initial=0.0)
    return found
