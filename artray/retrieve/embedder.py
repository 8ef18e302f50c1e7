"""What every retrieval method is to the rest of artray: a callable from images to embeddings."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from artray.errors import ConfigError
from artray.models import cards, registry
from artray.models.cards import Card

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


class ImageEmbedder(Protocol):
    """A method with its weights.

    On a CPU an image's embedding does not depend on the other images of the call, bit for bit.
    """

    dim: int

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, D] of N images uint8[H, W, 3] RGB of any sizes; N may be 0.

        Raises:
            ValueError: an image has no embedding: its values are not finite, or it has no direction.
        """


@runtime_checkable
class TextEmbedder(ImageEmbedder, Protocol):
    """A method that embeds words where pictures of what they say are; both have unit norm."""

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """float32[N, D] of N texts, comparable with embeddings of images; N may be 0.

        On a CPU a text's embedding does not depend on the other texts of the call, bit for bit.
        """


def checked(image: Image) -> Image:
    """The image, if it is one.

    Raises:
        ValueError: it is not uint8[H, W, 3], or is empty.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image: expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    return image


def check_without_weights(card: Card, metric: str, dim: int) -> None:
    """Whether a card fits a method that has no weights.

    Raises:
        ConfigError: it has weights, another metric, or another length.
    """
    if card.weights or card.metric != metric or card.embedding_dim != dim:
        raise ConfigError(
            f"card {card.name}: expected no weights, metric: {metric} and embedding_dim: {dim}, got "
            f"{len(card.weights)} weights, {card.metric} and {card.embedding_dim}"
        )


def build(card: Card, device: str = "cpu", batch_size: int = 16) -> ImageEmbedder:
    """The method that a card describes: of task retrieve, or a classifier's trunk.

    Raises:
        ConfigError: the card yields no embedding, its architecture is unknown, its weights are not its own, or the
            device is not there.
        TransientError: its weights cannot be reached.
    """
    cards.check_embedder(card)
    if card.task == "classify":
        from artray.classify.model import Embedder

        return Embedder(card, registry.check_device(device), batch_size)
    embedder: ImageEmbedder = registry.build(card, device)
    unit = card.metric != "cosine" or isinstance(embedder, TextEmbedder)
    return embedder if unit else UnitNorm(embedder)


class UnitNorm:
    """A method whose embeddings are compared by their direction: they get unit norm."""

    def __init__(self, embedder: ImageEmbedder) -> None:
        self.embedder, self.dim = embedder, embedder.dim

    def __call__(self, images: Sequence[Image]) -> Floats:
        """As :class:`ImageEmbedder`; ValueError where an embedding has no direction."""
        found = self.embedder(images)
        norms = np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise ValueError("embedding: expected finite values that are not all zero")
        unit: Floats = (found / norms).astype(np.float32)
        return unit
