"""Vocabularies: the sample, the clusters against scikit-learn, the nearest word, how telling words are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from artray.errors import ConfigError
from artray.retrieve import descriptors, vocabulary
from artray.retrieve.regions import RegionSettings
from artray.retrieve.vocabulary import VocabularySettings
from tests.unit.test_regions import picture

REGIONS = RegionSettings(longer_side_px=200, regions_max=150)
NAMES = ("wp_morisot_reading.jpg", "wp_morisot_daffodils.jpg", "fc_mon_louis.png")


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    return [picture(name) for name in NAMES]


@pytest.fixture(scope="module")
def found(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return np.concatenate([descriptors.describe(image, REGIONS).descriptors for image in pictures])


def test_a_vocabulary_is_learnt_alike_each_time(pictures: list[NDArray[np.uint8]]) -> None:
    settings = VocabularySettings(words=20, sample=200, rounds=5, seed=3, regions=REGIONS)
    words = vocabulary.learn(iter(pictures), settings)
    assert (words.shape, words.dtype) == ((20, 128), np.float32)
    assert np.isfinite(words).all()
    assert words.tobytes() == vocabulary.learn(pictures, settings).tobytes()
    assert words.tobytes() != vocabulary.learn(pictures, settings.model_copy(update={"seed": 4})).tobytes()


def test_fewer_regions_than_words_are_refused(pictures: list[NDArray[np.uint8]]) -> None:
    settings = VocabularySettings(words=1500, regions=REGIONS)
    with pytest.raises(ConfigError, match=r"pictures: expected at least 1,500 regions .* got \d+; give more pictures"):
        vocabulary.learn(pictures[:1], settings)
    with pytest.raises(ConfigError, match="got 0"):
        vocabulary.learn([], settings)


def inertia(found: NDArray[np.float32], words: NDArray[np.float32]) -> float:
    return float(np.square(found[:, None] - words).sum(axis=2).min(axis=1).sum())


def test_clusters_are_as_tight_as_those_of_scikit_learn(found: NDArray[np.float32]) -> None:
    sklearn = pytest.importorskip("sklearn.cluster")
    some = found[::2]
    reference = sklearn.KMeans(12, init="random", n_init=2, max_iter=50, random_state=0).fit(some)
    words = vocabulary.clustered(some, 12, rounds=50, seed=0)
    assert inertia(some, words) == pytest.approx(reference.inertia_, rel=0.03)


def test_each_cluster_centre_is_the_mean_of_what_is_nearest_to_it() -> None:
    """Two pairs far apart: whatever the start, their means are the only centres that stay."""
    sample = np.zeros((4, 128), np.float32)
    sample[:, 0] = [0, 2, 100, 104]
    words = vocabulary.clustered(sample, 2, rounds=10, seed=0)
    assert sorted(words[:, 0].tolist()) == [1, 102]


def test_the_nearest_word_is_that_of_written_out_loops(found: NDArray[np.float32]) -> None:
    words = found[::40]
    expected = [min(range(len(words)), key=lambda k: float(np.square(row - words[k]).sum())) for row in found]
    ids = vocabulary.nearest(found, words)
    assert ids.dtype == np.int64
    assert ids.tolist() == expected
    assert vocabulary.nearest(found[:0], words).shape == (0,)
    twins = np.stack([words[3], words[3]])
    assert set(vocabulary.nearest(found, twins).tolist()) == {0}


def test_every_row_is_as_likely_in_the_sample() -> None:
    """100 rows, 20 of them kept, 1,500 times: each about 300 times; the binomial's deviation is 16."""
    parts = np.split(np.arange(100, dtype=np.float32)[:, None], [3, 3, 40, 41])
    kept = np.stack([vocabulary.reservoir(parts, 20, seed)[:, 0] for seed in range(1500)])
    assert all(len(set(row.tolist())) == 20 for row in kept)
    counts = np.bincount(kept.astype(int).ravel(), minlength=100)
    assert abs(counts - 300).max() < 5 * 16
    assert abs(counts[:20].mean() - 300) < 14


def test_a_sample_that_all_fits_is_all() -> None:
    parts = [np.ones((2, 128), np.float32), np.zeros((0, 128), np.float32), np.zeros((1, 128), np.float32)]
    assert np.array_equal(vocabulary.reservoir(parts, 3, 0), np.concatenate(parts))
    assert vocabulary.reservoir([], 5, 0).shape == (0, 128)


def test_words_that_all_pictures_have_tell_nothing(
    pictures: list[NDArray[np.uint8]], found: NDArray[np.float32]
) -> None:
    words = np.concatenate([vocabulary.clustered(found, 12, 10, 0), np.full((1, 128), 9, np.float32)])
    idf = vocabulary.inverse_frequencies(iter(pictures), words, REGIONS)
    present = np.zeros(13)
    for image in pictures:
        ids = vocabulary.nearest(descriptors.describe(image, REGIONS).descriptors, words)
        present[sorted(set(ids.tolist()))] += 1
    assert np.allclose(idf, np.log(3 / np.maximum(present, 1)))
    assert idf[12] == pytest.approx(np.log(3))  # nothing is near it
    with pytest.raises(ConfigError, match="pictures: expected at least one"):
        vocabulary.inverse_frequencies([], words, REGIONS)


def test_what_is_stored() -> None:
    words, idf = np.ones((3, 128), np.float32), np.ones(3, np.float32)
    assert vocabulary.arrays(words) == {"words": words}
    assert set(vocabulary.arrays(words, idf)) == {"words", "idf"}
