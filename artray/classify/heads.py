"""Heads: from an embedding to a probability per class, in NumPy alone.

Row by row and in float64: an image's scores never depend on its neighbours, and a stored embedding gives exactly the
scores that its picture gave, so a new head can be applied to a finished store.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artray.errors import ConfigError
from artray.models import weights
from artray.models.cards import Card

WEIGHT = re.compile(r"(?P<head>[a-z]+)\.(?P<layer>\d+)\.weight")

CHUNK = 64
"""Rows that are scored at a time: so many stay in a processor's cache."""


class Layer(NamedTuple):
    """One fully connected layer."""

    weight: NDArray[np.float64]  # [outputs, inputs]
    bias: NDArray[np.float64]  # [outputs]


class Head(NamedTuple):
    """Fully connected layers with ReLU between them, softmax at the end."""

    class_names: tuple[str, ...]
    layers: tuple[Layer, ...]

    def __call__(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities float32[C], in the order of ``class_names``, of an embedding float32[D] of unit norm."""
        scores: NDArray[np.float32] = self._scores(embedding[None])[0]
        return scores

    def _scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[N, C] of float32[N, D]."""
        values = embeddings.astype(np.float64)
        for number, (weight, bias) in enumerate(self.layers):
            values = np.maximum(values, 0) if number else values
            # Not BLAS, whose rounding depends on the number of rows and threads.
            values = (values[:, None, :] * weight).sum(axis=-1) + bias
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        scores: NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
        return scores


def score(head: Head, embeddings: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities float32[N, C], rows summing to 1, of embeddings float32[N, D]; N may be 0."""
    rows = np.asarray(embeddings, np.float32)
    parts = [head._scores(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, len(head.class_names)), np.float32)


def scored(heads: Mapping[str, Head], embedding: NDArray[np.float32]) -> dict[str, Any]:
    """A row's columns from its embedding float32[D]: NAME, NAME_score in [0, 1] and NAME_scores of every head.

    Source: this is all that re-heading a finished store takes; it gives what the classify stage gave.
    """
    row: dict[str, Any] = {}
    for name, head in heads.items():
        scores = [float(value) for value in head(embedding)]
        best = int(np.argmax(scores))
        row[name], row[f"{name}_score"] = head.class_names[best], scores[best]
        row[f"{name}_scores"] = list(zip(head.class_names, scores, strict=True))
    return row


def disagreements(
    heads: Mapping[str, Head], embedding: NDArray[np.float32], others: Sequence[NDArray[np.float32]]
) -> dict[str, Any]:
    """NAME_disagreement in [0, 1] of every head: the part of other views that it would call something else.

    Args:
        heads: by name.
        embedding: float32[D] of an image.
        others: float32[D] of other views of it; where there are none, None is said.
    """
    if not len(others):
        return {f"{name}_disagreement": None for name in heads}
    return {
        f"{name}_disagreement": float((score(head, others).argmax(axis=1) != head(embedding).argmax()).mean())
        for name, head in heads.items()
    }


def load(card: Card) -> dict[str, Head]:
    """The heads of a card, read from its weights ``heads``; without an import of torch if these are safetensors.

    Raises:
        ConfigError: no such weights, or they do not fit the card's classes and embedding_dim.
        TransientError: they cannot be reached.
    """
    if not card.heads:
        return {}
    if "heads" not in card.weights:
        raise ConfigError(f"card {card.name}: weights: expected heads (a .safetensors file), got {[*card.weights]}")
    path = weights.fetch(card.weights["heads"], owner=f"card {card.name}")
    arrays = weights.read_arrays(path)
    return {name: _head(card, name, class_names, arrays) for name, class_names in card.heads.items()}


def _head(card: Card, name: str, class_names: tuple[str, ...], arrays: Mapping[str, NDArray[np.float32]]) -> Head:
    """The layers ``NAME.0``, ``NAME.1``, ... in order; their sizes must chain from the embedding to the classes."""
    found = (WEIGHT.fullmatch(key) for key in arrays)
    numbers = sorted(int(match["layer"]) for match in found if match and match["head"] == name)
    if numbers != list(range(len(numbers))) or not numbers:
        raise ConfigError(f"card {card.name}: heads: expected tensors {name}.0.weight and {name}.0.bias, got {numbers}")
    layers, size = [], card.embedding_dim
    for number in numbers:
        weight = arrays[f"{name}.{number}.weight"].astype(np.float64)
        bias = arrays.get(f"{name}.{number}.bias", np.zeros(len(weight))).astype(np.float64)
        if weight.ndim != 2 or weight.shape[1] != size or bias.shape != weight.shape[:1]:
            raise ConfigError(
                f"card {card.name}: heads: {name}.{number}: expected a weight [*, {size}] and a bias for each of its "
                f"rows, got {weight.shape} and {bias.shape}"
            )
        layers.append(Layer(weight, bias))
        size = len(weight)
    if size != len(class_names):
        raise ConfigError(f"card {card.name}: heads: {name}: expected {len(class_names)} outputs, got {size}")
    return Head(class_names, tuple(layers))
