"""A vocabulary of visual words: the centres of clusters of descriptors, learnt from a sample of many pictures'."""

from collections.abc import Iterable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from artray.classify.inputs import Image
from artray.config import Section
from artray.errors import ConfigError
from artray.retrieve import descriptors
from artray.retrieve.regions import RegionSettings

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]

WORDS: Final = "words"
IDF: Final = "idf"
"""Names of the arrays in a card's weights ``vocabulary``."""


class VocabularySettings(Section):
    """How a vocabulary is learnt.

    Args:
        words: how many; the report has 1,500.
        sample: so many descriptors are kept to be clustered, 512 bytes each; one of as many as there are is as likely
            to be kept as any other.
        rounds: of k-means.
        seed: of the sample and of the first centres.
        regions: as the card that uses the vocabulary has them.

    Source: report, Image Retrieval, section 5.2.
    """

    words: int = Field(1500, ge=2, le=65_536)
    sample: int = Field(200_000, ge=2, le=10_000_000)
    rounds: int = Field(25, ge=1)
    seed: int = Field(0, ge=0)
    regions: RegionSettings = RegionSettings()


def learn(pictures: Iterable[Image], settings: VocabularySettings) -> Floats:
    """The words float32[K, 128] of pictures, which are read once; the same for the same pictures and settings.

    Memory is that of the sample, of one picture, and of the clustering, whatever the number of pictures.

    Args:
        pictures: uint8[H, W, 3] RGB of any sizes.
        settings: for K and the rest.

    Raises:
        ConfigError: the pictures have fewer regions than there are to be words.
        ValueError: a picture is not uint8[H, W, 3], or empty.
    """
    each = (descriptors.describe(picture, settings.regions).descriptors for picture in pictures)
    return clustered(reservoir(each, settings.sample, settings.seed), settings.words, settings.rounds, settings.seed)


def reservoir(parts: Iterable[Floats], size: int, seed: int) -> Floats:
    """At most ``size`` rows of parts float32[N, D] at random, each as likely as any other, in one pass.

    Returns:
        float32[min(size, rows), D], D being 128 if there is no part.

    Source: Vitter (1985), algorithm R.
    """
    random = np.random.default_rng(seed)
    kept, seen = np.zeros((0, descriptors.DIM), np.float32), 0
    for part in parts:
        if seen == 0:
            kept = np.zeros((size, part.shape[1]), np.float32)
        filling = part[: max(0, size - seen)]
        kept[seen : seen + len(filling)] = filling
        later, ranks = part[len(filling) :], np.arange(seen + len(filling), seen + len(part))
        places = random.integers(0, ranks + 1)
        # of two rows for one place the later one stays
        kept[places[places < size]] = later[places < size]
        seen += len(part)
    return kept[:seen]


def clustered(sample: Floats, words: int, rounds: int, seed: int) -> Floats:
    """The centres float32[K, D] of ``words`` clusters of a sample float32[N, D], by k-means.

    Raises:
        ConfigError: N is less than K.

    Source: Lloyd (1982), as faiss has it: a cluster that gets empty is given half of a large one.
    """
    import faiss

    if len(sample) < words:
        raise ConfigError(
            f"pictures: expected at least {words:,} regions in all for as many words, got {len(sample):,}; "
            f"give more pictures, or set fewer words"
        )
    clusters = faiss.Kmeans(
        sample.shape[1], words, niter=rounds, seed=seed, min_points_per_centroid=1, max_points_per_centroid=len(sample)
    )
    clusters.train(np.ascontiguousarray(sample, np.float32))
    return np.asarray(clusters.centroids, np.float32)


def nearest(found: Floats, words: Floats) -> Ints:
    """int64[N]: the index of the word, of float32[K, D], that is nearest to each descriptor float32[N, D].

    Of words that are equally near the first one.
    """
    closeness = found @ words.T - np.square(words).sum(axis=1) / 2
    ids: Ints = closeness.argmax(axis=1).astype(np.int64)
    return ids


def inverse_frequencies(pictures: Iterable[Image], words: Floats, settings: RegionSettings) -> Floats:
    """How telling each word is, float32[K] >= 0: the logarithm of N pictures over those in which it occurs.

    A word that occurs in none is taken to occur in one.

    Args:
        pictures: N of them, at least one, uint8[H, W, 3] RGB.
        words: float32[K, 128].
        settings: as the card has them.

    Raises:
        ConfigError: there is no picture.

    Source: Sivic and Zisserman (2003), section 4.1.
    """
    occurring, total = np.zeros(len(words), np.int64), 0
    for picture in pictures:
        occurring[np.unique(nearest(descriptors.describe(picture, settings).descriptors, words))] += 1
        total += 1
    if not total:
        raise ConfigError("pictures: expected at least one, got none")
    found: Floats = np.log(total / np.maximum(occurring, 1)).astype(np.float32)
    return found


def arrays(words: Floats, idf: Floats | None = None) -> dict[str, Floats]:
    """What a card's weights ``vocabulary`` hold: ``safetensors.numpy.save_file`` writes it.

    Args:
        words: float32[K, 128].
        idf: float32[K] of :func:`inverse_frequencies`, for cards with ``weighting: tfidf``.
    """
    return {WORDS: words} if idf is None else {WORDS: words, IDF: idf}
