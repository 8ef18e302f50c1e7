"""What a detector says of one image."""

from collections.abc import Sequence
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


class Joined(NamedTuple):
    """What M images show, in one table: N boxes."""

    places: NDArray[np.int64]
    """int64[N] in [0, M), the image of each."""
    found: Found


def joined(answers: Sequence[Found]) -> Joined:
    """What images show, in one table.

    >>> one = Found(np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int64))
    >>> joined([nothing(), one]).places.tolist()
    [1, 1]
    """
    places = np.repeat(np.arange(len(answers)), [len(each.scores) for each in answers])
    return Joined(places, Found(*(np.concatenate(column) for column in zip(nothing(), *answers, strict=True))))


def parted(places: NDArray[np.int64], found: Found, count: int) -> list[Found]:
    """What each of ``count`` images shows, of one table in any order; boxes of an image stay in theirs.

    >>> one = Found(np.zeros((2, 4), np.float32), np.array([0.2, 0.7], np.float32), np.zeros(2, np.int64))
    >>> [each.scores.tolist() for each in parted(np.array([1, 1]), one, 3)]
    [[], [0.20000000298023224, 0.699999988079071], []]
    """
    order = np.argsort(places, kind="stable")
    cuts = np.searchsorted(places[order], np.arange(1, count))
    return [found.at(rows) for rows in np.split(order, cuts)][:count]


def nothing() -> Found:
    """No boxes.

    >>> nothing().boxes_xyxy.shape
    (0, 4)
    """
    return Found(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
