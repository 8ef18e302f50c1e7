"""A classifier: one trunk, which makes an embedding of an image, and heads, which score it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from artray.classify import heads
from artray.classify.inputs import Image, to_input
from artray.errors import ConfigError
from artray.models import registry, trunks, weights
from artray.models.cards import Card

NORM_MIN = 1e-6
"""Pooled features shorter than this have no direction."""


class Classified(NamedTuple):
    """What a classifier says of N images."""

    scores: dict[str, NDArray[np.float32]]  # per head float32[N, C], rows sum to 1, in the order of the card's classes
    embeddings: NDArray[np.float32]  # float32[N, D], of unit norm


class Embedder:
    """A card's trunk: images to embeddings.

    On a CPU images go through it one at a time: that is the fastest on small networks, whose activations then stay
    in the cache, and makes an image's embedding independent of its neighbours bit for bit. On a GPU batches are
    filled up to ``batch_size``, so that every forward pass has one shape.

    Raises:
        ConfigError: an unknown architecture, or weights that are not the card's.
        TransientError: they cannot be reached.
    """

    def __init__(self, card: Card, device: str = "cpu", batch_size: int = 16) -> None:
        if card.input is None or card.embedding_dim != trunks.dim(card.architecture):
            expected = trunks.dim(card.architecture)
            raise ConfigError(f"card {card.name}: embedding_dim: expected {expected}, got {card.embedding_dim}")
        self.spec, self.dim, self.device = card.input, card.embedding_dim, torch.device(device)
        self.batch_size = 1 if self.device.type == "cpu" else batch_size
        module = trunks.fuse(trunks.load(card.architecture, _trunk_tensors(card)))
        self._trunk: Any = module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """float32[N, D] of unit norm, for N images uint8[H, W, 3] of any sizes; N may be 0.

        Raises:
            ValueError: an image is not uint8[H, W, 3], or its features are not finite or have no direction.
        """
        parts = [
            self._features(images[start : start + self.batch_size]) for start in range(0, len(images), self.batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def _features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """The embeddings of at most ``batch_size`` images."""
        squares = np.zeros((self.batch_size, self.spec.size_px, self.spec.size_px, 3), np.float32)
        for row, image in zip(squares, images, strict=False):
            row[:] = to_input(image, self.spec)
        tensor = torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2)  # NHWC in memory is channels_last
        with torch.inference_mode():
            features = self._trunk(tensor).float().cpu().numpy()[: len(images)]
        norms = np.sqrt((features.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        if not np.isfinite(norms).all() or (norms < NORM_MIN).any():
            raise ValueError("embedding: expected features that are finite and not zero")
        unit: NDArray[np.float32] = (features / norms).astype(np.float32)
        return unit


class Classifier:
    """A card's heads on its trunk.

    Args:
        card: of task classify.
        device: "cpu", "cuda" or "cuda:N".
        batch_size: images per forward pass on a GPU.
        embedder: the trunk of a card with the same ``trunk_key``, to share it.

    Raises:
        ConfigError: an unknown architecture, or weights that are not the card's.
        TransientError: they cannot be reached.
    """

    def __init__(self, card: Card, device: str = "cpu", batch_size: int = 16, embedder: Embedder | None = None) -> None:
        self.card = card
        self.heads = heads.load(card)
        self.embed = embedder or Embedder(card, device, batch_size)

    def __call__(self, images: Sequence[Image]) -> Classified:
        """Scores and embeddings of N images uint8[H, W, 3] of any sizes; N may be 0."""
        embeddings = self.embed(images)
        return Classified(self.score(embeddings), embeddings)

    def score(self, embeddings: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Per head float32[N, C], for embeddings float32[N, D] of this card's trunk."""
        return {name: heads.score(head, embeddings) for name, head in self.heads.items()}


def _trunk_tensors(card: Card) -> dict[str, torch.Tensor]:
    if "trunk" not in card.weights:
        raise ConfigError(f"card {card.name}: weights: expected trunk, got {[*card.weights]}")
    return weights.read_tensors(weights.fetch(card.weights["trunk"], owner=f"card {card.name}"))


def _register() -> None:
    """Every trunk is an architecture of the classify task."""
    for name in trunks.architectures():
        registry.register(name, task="classify")(Classifier)


_register()
