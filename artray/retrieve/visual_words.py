"""Bag of visual words: a picture as a histogram of the words that its local regions are nearest to."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.classify.inputs import Image
from artray.config import parse
from artray.errors import ConfigError
from artray.models import registry, weights
from artray.models.cards import Card
from artray.retrieve import descriptors, vocabulary
from artray.retrieve.regions import RegionSettings

Floats: TypeAlias = NDArray[np.float32]

ROLE: Final = "vocabulary"


class Settings(RegionSettings):
    """Settings of a card of architecture ``visual_words``: those of its regions, as its vocabulary was learnt, and:

    Args:
        weighting: ``counts`` of words, as in the report; ``tfidf`` weighs them by how telling they are, as stored.
    """

    weighting: Literal["counts", "tfidf"] = "counts"


class VisualWords:
    """The method with its vocabulary.

    Args:
        words: float32[K, 128].
        settings: which regions, and how they count.
        idf: float32[K] >= 0, only of use with ``weighting: tfidf``.

    Source: report, Image Retrieval, sections 4.2 and 5.2; Sivic and Zisserman (2003).
    """

    def __init__(self, words: Floats, settings: Settings, idf: Floats | None = None) -> None:
        self.words, self.settings, self.dim = words, settings, len(words)
        self._idf = idf if settings.weighting == "tfidf" else None

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, K] of N images uint8[H, W, 3] RGB of any sizes: histograms that sum to 1; N may be 0.

        Raises:
            ValueError: an image has no region, such as one of a single colour: nothing can be said to be like it, and
                any histogram would be like some.
        """
        return np.stack([self._histogram(image) for image in images]) if images else np.zeros((0, self.dim), np.float32)

    def _histogram(self, image: Image) -> Floats:
        found = descriptors.describe(image, self.settings).descriptors
        return histogram(vocabulary.nearest(found, self.words), self.dim, self._idf)


def histogram(word_ids: NDArray[np.int64], words: int, idf: Floats | None = None) -> Floats:
    """float32[K] that sums to 1: how often each of K words occurs, times its ``idf`` float32[K] if there is one.

    Raises:
        ValueError: no word occurs, or none that counts.

    >>> histogram(np.array([2, 0, 2, 2]), 3).tolist()
    [0.25, 0.0, 0.75]
    """
    counts = np.bincount(word_ids, minlength=words).astype(np.float64)
    counts = counts if idf is None else counts * idf
    if not counts.sum() > 0:
        raise ValueError("image: expected regions with something to see in them, found none")
    found: Floats = (counts / counts.sum()).astype(np.float32)
    return found


@registry.register("visual_words", task="retrieve")
def build(card: Card, device: str) -> VisualWords:
    """The method that a card describes; its weights have the role ``vocabulary``: ``words``, and perhaps ``idf``.

    Raises:
        ConfigError: another device than the CPU, a setting that is none, or weights that do not fit.
        TransientError: its weights cannot be reached.
    """
    owner = f"card {card.name}"
    settings = parse(Settings, card.settings, where=f"{owner}: settings")
    if device != "cpu":
        raise ConfigError(f"{owner}: device: expected cpu, on which visual words are found, got {device!r}")
    if set(card.weights) != {ROLE}:
        raise ConfigError(f"{owner}: weights: expected the role {ROLE}, got {', '.join(card.weights) or 'none'}")
    arrays = weights.read_arrays(weights.fetch(card.weights[ROLE], owner))
    return VisualWords(_words(card, arrays), settings, _idf(card, arrays, settings))


def _words(card: Card, arrays: dict[str, Floats]) -> Floats:
    """The card's vocabulary, if it has the right shape."""
    words = arrays.get(vocabulary.WORDS, np.zeros(0, np.float32))
    if words.shape != (card.embedding_dim, descriptors.DIM) or not np.isfinite(words).all():
        raise ConfigError(
            f"card {card.name}: weights: {vocabulary.WORDS}: expected {card.embedding_dim} finite rows of "
            f"{descriptors.DIM}, as many as its embedding_dim, got {list(words.shape)}"
        )
    return words


def _idf(card: Card, arrays: dict[str, Floats], settings: Settings) -> Floats | None:
    """The weights of its words, if there are any; they must be there if they are to be used."""
    idf = arrays.get(vocabulary.IDF)
    if idf is None and settings.weighting == "counts":
        return None
    if idf is None or idf.shape != (card.embedding_dim,) or not (np.isfinite(idf) & (idf >= 0)).all():
        got = "none" if idf is None else f"{idf.shape[0] if idf.ndim else 1}, or some that are no such numbers"
        raise ConfigError(
            f"card {card.name}: weights: {vocabulary.IDF}: expected {card.embedding_dim} numbers of at least 0 for "
            f"weighting: tfidf, got {got}; learn it again with them, or set weighting: counts"
        )
    return idf
