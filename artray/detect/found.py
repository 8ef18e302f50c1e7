"""What a detector says of one image."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Found(NamedTuple):
    """What one image shows: N boxes, any order.

    >>> found = Found(np.zeros((2, 4), np.float32), np.array([0.9, 0.4], np.float32), np.zeros(2, np.int64))
    >>> found.at(found.scores >= 0.5).scores.tolist()
    [0.8999999761581421]
    """

    boxes_xyxy: NDArray[np.float32]
    """float32[N, 4], pixels of the image that the detector was given."""
    scores: NDArray[np.float32]
    """float32[N] in [0, 1]."""
    class_ids: NDArray[np.int64]
    """int64[N], indices into the detector's class names."""

    def at(self, index: NDArray[np.bool_] | NDArray[np.integer]) -> "Found":
        """The boxes that a mask (bool[N]) or positions (int[M]) select, in that order."""
        return Found(self.boxes_xyxy[index], self.scores[index], self.class_ids[index])


def nothing() -> Found:
    """No boxes.

    >>> nothing().boxes_xyxy.shape
    (0, 4)
    """
    return Found(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
