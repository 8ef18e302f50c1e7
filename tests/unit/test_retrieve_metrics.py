"""How embeddings are compared: by hand, and against written-out loops."""

import numpy as np
import pytest

from artray.retrieve.metrics import METRICS, recovered, searchable, similarities


def histograms(rows: int, bins: int = 7, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random((rows, bins)).astype(np.float32) ** 3
    return values / values.sum(axis=1, keepdims=True)


def test_cosines_by_hand() -> None:
    # (3, 4) has norm 5: cosines with (1, 0) are 3/5, 0 and -1; with a vector of zeros there is no angle
    matrix = np.array([[3, 4], [0, 2], [-1, 0], [0, 0]], np.float32)
    assert similarities("cosine", matrix, np.array([1, 0], np.float32)).tolist() == [0.6, 0.0, -1.0, 0.0]


def test_chi_square_against_loops() -> None:
    matrix, query = histograms(5), histograms(1, seed=1)[0]
    matrix[0, 0] = query[0] = 0.0  # a bin that both lack counts nothing
    expected = []
    for row in matrix:
        chi2 = 0.0
        for a, b in zip(row.tolist(), query.tolist(), strict=True):
            if a + b > 0:
                chi2 += (a - b) ** 2 / (a + b)
        expected.append(1 - chi2 / 2)
    assert similarities("chi_square", matrix, query).tolist() == pytest.approx(expected, abs=1e-6)
    assert similarities("chi_square", np.eye(2, dtype=np.float32), np.array([1, 0], np.float32)).tolist() == [1.0, 0.0]


def test_euclid_ranks_as_frobenius_does() -> None:
    matrix, query = histograms(6), histograms(1, seed=2)[0]
    squared = [sum((a - b) ** 2 for a, b in zip(row.tolist(), query.tolist(), strict=True)) for row in matrix]
    assert np.argsort(-similarities("euclidean", matrix, query)).tolist() == np.argsort(squared).tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_is_1_and_nothing_is_more(metric: str) -> None:
    matrix = histograms(8)
    for row in matrix:
        found = similarities(metric, matrix, row)
        assert found.max() == 1.0
        assert found.argmax() == np.flatnonzero((matrix == row).all(axis=1))[0]
    assert similarities(metric, np.zeros((0, 7), np.float32), matrix[0]).tolist() == []


@pytest.mark.parametrize("metric", METRICS)
def test_what_an_index_holds_ranks_nearly_likewise(metric: str) -> None:
    matrix, query = histograms(200, bins=30), histograms(1, bins=30, seed=3)
    vectors, asked = searchable(metric, matrix), searchable(metric, query)[0]
    near = -np.square(vectors - asked).sum(axis=1) if metric == "euclidean" else vectors @ asked
    exact = similarities(metric, matrix, query[0])
    assert len({*np.argsort(-near)[:20]} & {*np.argsort(-exact)[:10]}) == 10
    assert recovered(metric, searchable("cosine", matrix) if metric == "cosine" else vectors) == pytest.approx(
        vectors if metric == "cosine" else matrix, abs=1e-6
    )


def test_unit_vectors_stay_bit_for_bit() -> None:
    unit = searchable("cosine", histograms(50))
    assert np.array_equal(searchable("cosine", unit), unit)
    assert np.array_equal(searchable("cosine", np.zeros((1, 3), np.float32)), np.zeros((1, 3), np.float32))
