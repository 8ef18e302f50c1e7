"""Pictures by their colours alone, wherever these are: histograms over a palette that is even to the eye.

The palette is a lattice in CIELAB. A colour counts for all of the palette's colours near it, the nearest most, so that
a small difference of colour is a small difference of histograms.
"""

import re
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from artray.config import Section, parse
from artray.errors import ConfigError
from artray.models import registry
from artray.models.cards import Card
from artray.retrieve.embedder import Floats, Image, check_without_weights, checked

BITS: Final = 5
"""Of each channel, so many tell colours apart: the steps, of 8, are as small as a difference that the eye just sees."""

LEVELS: Final = 2**BITS

HEX: Final = re.compile(r"#?([0-9a-fA-F]{6}|[0-9a-fA-F]{3})")


class Settings(Section):
    """The palette: ``settings`` of a ``colours`` card.

    Args:
        lightness_step: between its levels of L*, from black, 0, to white, 100.
        chroma_step: between its values of a* and b*, of which grey has 0.
        softness: how far a colour reaches, as the standard deviation of a Gaussian, in steps.
    """

    lightness_step: float = Field(12.5, ge=5, le=50)
    chroma_step: float = Field(25.0, ge=5, le=100)
    softness: float = Field(0.5, gt=0, le=2)


def lab(rgb: NDArray[np.uint8]) -> Floats:
    """Colours uint8[..., 3] of sRGB as float32[..., 3] of CIELAB under daylight (D65): L* in [0, 100], a*, b*.

    >>> lab(np.array([[255, 255, 255], [0, 0, 0]], np.uint8)).round().tolist()
    [[100.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    rows = (rgb.reshape(1, -1, 3) / 255).astype(np.float32)
    return np.asarray(cv2.cvtColor(rows, cv2.COLOR_RGB2Lab), np.float32).reshape(rgb.shape)


def told_apart() -> NDArray[np.uint8]:
    """The colours that are told apart, uint8[32768, 3], from black to white; others are taken for the nearest."""
    steps = np.rint(np.arange(LEVELS) * 255 / (LEVELS - 1)).astype(np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)


def nearest_told_apart(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which of :func:`told_apart` colours uint8[..., 3] are taken for, int64[...]."""
    levels = (rgb.astype(np.int64) * (LEVELS - 1) * 2 + 255) // 510
    return (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]


class Palette:
    """Colours that are even to the eye, and which of them a colour is.

    Args:
        settings: how fine it is.
    """

    def __init__(self, settings: Settings) -> None:
        steps = np.array([settings.lightness_step, settings.chroma_step, settings.chroma_step])
        places = lab(told_apart()) / steps
        cells = np.unique(np.rint(places), axis=0)
        self.lab: Floats = (cells * steps).astype(np.float32)
        """float32[D, 3]: L*, a*, b* of its colours, those nearest to any colour that a screen can show; dark first."""
        distances = (np.square(places[:, None, axis] - cells[:, axis]) for axis in range(3))
        shares = np.exp(-sum(distances, np.zeros(1)) / (2 * settings.softness**2))
        self.shares: Floats = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
        """float32[32768, D], rows sum to 1: what each of the colours that are told apart counts for."""

    @property
    def dim(self) -> int:
        """D, of its colours."""
        return len(self.lab)

    def histogram(self, counts: NDArray[np.float64]) -> Floats:
        """float32[D] of sum 1, of how often each of the colours that are told apart is there, float64[32768]."""
        there = counts.nonzero()[0]
        shares: NDArray[np.float64] = counts[there] @ self.shares[there].astype(np.float64)
        return np.asarray(shares / shares.sum(), np.float32)


def of_hex(palette: Palette, colours: Sequence[str], weights: Sequence[float] | None = None) -> Floats:
    """The query for pictures of some colours: the histogram of one that has these in parts of its area, and no others.

    Args:
        palette: of the method.
        colours: ``#rrggbb`` or ``#rgb``, at least one; the # may be left out.
        weights: their parts, positive, of any sum; None: equal ones.

    Returns:
        float32[D] of sum 1; of one colour what :class:`Colours` says of a picture of nothing else.

    Raises:
        ConfigError: a colour that is none, or weights that do not fit.
    """
    parts = np.ones(len(colours)) if weights is None else np.asarray(weights, np.float64)
    if not len(colours) or parts.shape != (len(colours),) or not np.isfinite(parts).all() or (parts <= 0).any():
        raise ConfigError(f"weights: expected a positive number for each of {len(colours)} colours, got {weights}")
    counts = np.zeros(LEVELS**3)
    np.add.at(counts, nearest_told_apart(np.stack([parsed(colour) for colour in colours])), parts)
    return palette.histogram(counts)


def parsed(colour: str) -> NDArray[np.uint8]:
    """Red, green and blue, uint8[3].

    Raises:
        ConfigError: it is none.

    >>> parsed("#0af").tolist()
    [0, 170, 255]
    """
    found = HEX.fullmatch(colour.strip())
    if found is None:
        raise ConfigError(f"colour: expected #rrggbb, as in #b5651d, got {colour!r}")
    digits = found[1] if len(found[1]) == 6 else "".join(digit * 2 for digit in found[1])
    return np.frombuffer(bytes.fromhex(digits), np.uint8)


class Colours:
    """Pictures as histograms of their colours.

    Args:
        settings: how fine the palette is.
    """

    def __init__(self, settings: Settings) -> None:
        self.palette = Palette(settings)
        self.dim = self.palette.dim

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, D], of sum 1: the parts of its area that a picture has of each of the palette's colours.

        Args:
            images: N of uint8[H, W, 3] RGB, of any sizes; N may be 0.

        Raises:
            ValueError: an image is not uint8[H, W, 3], or empty.
        """
        found = np.empty((len(images), self.dim), np.float32)
        for row, image in zip(found, images, strict=True):
            seen = nearest_told_apart(checked(image)).reshape(-1)
            row[:] = self.palette.histogram(np.bincount(seen, minlength=LEVELS**3).astype(np.float64))
        return found

    def of_hex(self, colours: Sequence[str], weights: Sequence[float] | None = None) -> Floats:
        """:func:`of_hex` with the method's own palette."""
        return of_hex(self.palette, colours, weights)


@registry.register("colours", task="retrieve")
def from_card(card: Card, device: str) -> Colours:  # noqa: ARG001 - there is nothing that a GPU could do
    """The method that a card describes; it has no weights.

    Raises:
        ConfigError: an unknown setting, another metric than chi_square, or another length than its palette has.
    """
    method = Colours(parse(Settings, card.settings, where=f"card {card.name}: settings"))
    check_without_weights(card, "chi_square", method.dim)
    return method
