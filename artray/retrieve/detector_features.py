"""Pictures by what detectors see in them, before these decide: pooled features of some of their layers, side by side.

Source: report, Image Retrieval, sections 4.3 and 5.3: four YOLO models, of each "the output of a specific layer",
concatenated and compared by cosine; which layer, it leaves open.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from artray.config import Section, parse
from artray.detect.layers import Layered, Look, Told
from artray.errors import ConfigError
from artray.models import cards, registry
from artray.models.cards import Card
from artray.retrieve.embedder import Floats, Image, checked

NORM_MIN: Final = 1e-12
"""Features shorter than this have no direction."""

EMPTY_PX: Final = 64
"""Side of the empty picture by which the length of features is found out."""

Pooling = Literal["mean", "max"]

POOLINGS: Final[Mapping[str, Any]] = MappingProxyType({"mean": np.mean, "max": np.max})


class Detector(Section):
    """One detector, and which of its layers are taken.

    Args:
        card: its name or file.
        fingerprint: of the card as it was: features of another model are never taken for its.
        layers: names that its library has for them: modules of a network in torch, tensors of an ONNX file.
        pool: how the cells of a layer become one: their ``mean``, or of each channel the ``max``.
    """

    card: str
    fingerprint: str | None = Field(None, pattern=r"^[0-9a-f]{12}$")
    layers: tuple[str, ...] = Field(min_length=1)
    pool: Pooling = "mean"


class Settings(Section):
    """Which detectors: ``settings`` of a ``detector_features`` card."""

    detectors: tuple[Detector, ...] = Field(min_length=1)


class Source(NamedTuple):
    """A detector that is ready to be looked through."""

    look: Look
    layers: Sequence[str]
    pool: Pooling


def pooled(told: Told, layers: Sequence[str], pool: Pooling) -> Floats:
    """One detector's part: what its layers say, pooled over cells, each of unit norm, side by side.

    Args:
        told: layer to float32[K, C]; a layer without cells (no region was looked at) says 0.
        layers: which, in this order.
        pool: how.

    Returns:
        float32[D] of unit norm, D the sum of the layers' channels; 0 where all of it is.

    >>> cells = {"a": np.array([[3, 0], [3, 8]], np.float32), "b": np.array([[2]], np.float32)}
    >>> (pooled(cells, ["a", "b"], "mean") * np.sqrt(2)).round(6).tolist()
    [0.6, 0.8, 1.0]
    """
    parts = [
        POOLINGS[pool](told[name], axis=0) if len(told[name]) else np.zeros(told[name].shape[1]) for name in layers
    ]
    return _unit(np.concatenate([_unit(part.astype(np.float64)) for part in parts])).astype(np.float32)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = float(np.linalg.norm(values))
    return values / norm if norm >= NORM_MIN else values * 0.0


class DetectorFeatures:
    """Features of one or several detectors.

    Args:
        sources: the detectors, in the order of their parts.

    Raises:
        ConfigError: layers whose output is none of cells, or that do not run.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.dim = len(self._embed([np.full((EMPTY_PX, EMPTY_PX, 3), 114, np.uint8)])[0])

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, D] of unit norm; of each part the square of its norm is one in as many as there are detectors.

        Args:
            images: N of uint8[H, W, 3] RGB, of any sizes; N may be 0.

        Raises:
            ValueError: an image is not uint8[H, W, 3], or has features that are not finite, or all zero.
        """
        if not images:
            return np.empty((0, self.dim), np.float32)
        found = self._embed([checked(image) for image in images])
        if not np.isfinite(found).all() or not found.any(axis=1).all():
            raise ValueError("embedding: expected features that are finite and not all zero")
        return found

    def _embed(self, images: Sequence[Image]) -> Floats:
        parts = [[pooled(told, source.layers, source.pool) for told in source.look(images)] for source in self.sources]
        rows = [_unit(np.concatenate(row).astype(np.float64)) for row in zip(*parts, strict=True)]
        return np.stack(rows).astype(np.float32)


@registry.register("detector_features", task="retrieve")
def from_card(card: Card, device: str) -> DetectorFeatures:
    """The method that a card describes; its weights are those of the detectors' cards.

    Raises:
        ConfigError: an unknown setting or detector, one that has changed or has no such layers, another metric than
            cosine, or another length than their features have.
        TransientError: weights cannot be reached.
    """
    owner = f"card {card.name}"
    settings = parse(Settings, card.settings, where=f"{owner}: settings")
    if card.weights or card.metric != "cosine":
        raise ConfigError(f"{owner}: expected no weights besides its detectors', and metric: cosine, got {card.metric}")
    try:
        method = DetectorFeatures([_source(detector, device) for detector in settings.detectors])
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from error
    if method.dim != card.embedding_dim:
        raise ConfigError(f"{owner}: embedding_dim: expected {method.dim}, got {card.embedding_dim}")
    return method


def _source(detector: Detector, device: str) -> Source:
    described = cards.load(detector.card)
    if described.task != "detect":
        raise ConfigError(f"detectors: expected cards of detectors, got {described.name!r} of task {described.task}")
    remedy = "features of one detector are none of another: give it a card of another name"
    cards.check_unchanged(described, detector.fingerprint, "detectors", remedy)
    model = registry.build(described, device)
    if not isinstance(model, Layered):
        raise ConfigError(
            f"detectors: {described.name}: expected one whose layers can be read, got {described.architecture}"
        )
    return Source(model.look(detector.layers), detector.layers, detector.pool)
