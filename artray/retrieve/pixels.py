"""Pictures compared pixel by pixel, squashed to a few of them: what any method must do better than.

Source: report, Image Retrieval, section 7.1: a "direct comparison of the images", the control of the autoencoders.
"""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from artray.classify.inputs import resize
from artray.config import Section, parse
from artray.models import registry
from artray.models.cards import Card
from artray.retrieve.embedder import Floats, Image, check_without_weights, checked


class Settings(Section):
    """What is left of a picture: ``settings`` of a ``pixels`` card.

    Args:
        size_px: side of the square that it is squashed to.
        channels: ``rgb``, or ``grey``: its lightness alone.
    """

    size_px: int = Field(16, ge=1, le=256)
    channels: Literal["rgb", "grey"] = "rgb"


class Pixels:
    """Pictures as the values of their pixels.

    Args:
        settings: what is left of them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dim = settings.size_px**2 * (3 if settings.channels == "rgb" else 1)

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, D] in [0, 1]: row after row, red, green and blue of each pixel.

        Args:
            images: N of uint8[H, W, 3] RGB, of any sizes; N may be 0.

        Raises:
            ValueError: an image is not uint8[H, W, 3], or empty.
        """
        found = np.empty((len(images), self.dim), np.float32)
        for row, image in zip(found, images, strict=True):
            row[:] = self._values(image)
        return found

    def _values(self, image: Image) -> Floats:
        small = resize(checked(image), self.settings.size_px, self.settings.size_px).astype(np.float32) / 255
        seen = small if self.settings.channels == "rgb" else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        return np.asarray(seen, np.float32).reshape(-1)


@registry.register("pixels", task="retrieve")
def from_card(card: Card, device: str) -> Pixels:  # noqa: ARG001 - there is nothing that a GPU could do
    """The method that a card describes; it has no weights.

    Raises:
        ConfigError: an unknown setting, another metric than euclidean, or another length than its pictures have.
    """
    method = Pixels(parse(Settings, card.settings, where=f"card {card.name}: settings"))
    check_without_weights(card, "euclidean", method.dim)
    return method
