"""What every detector is: images in, boxes in pixels of each image out."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from artray.detect.found import Found

Image: TypeAlias = NDArray[np.uint8]
"""uint8[H, W, 3] RGB, upright."""


@runtime_checkable
class Detector(Protocol):
    """A model that finds objects, whatever library runs it.

    On a CPU what it finds in an image is bit for bit the same whatever other images it is given with it: records of a
    resumed run must equal those of an undisturbed one.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of :data:`artray.taxonomy.CATEGORY`; a box's ``class_ids`` index into them."""

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """One ``Found`` per image, in order; ``boxes_xyxy`` in pixels of that image, boxes in any order.

        Images may differ in size; their number may be zero.
        """
