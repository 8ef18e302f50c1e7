"""Short forms of long descriptors: sketches by their definition, components against scikit-learn's."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from artray.retrieve import compact


def places(seed: int, count: int = 5, channels: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """A and C, float64[places, D]."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, channels)), random.normal(size=(count, channels))


def test_a_count_sketch_is_its_definition() -> None:
    rows, _ = places(0)
    by = compact.sketch(7, 4, seed=3)
    expected = np.zeros((5, 4))
    for row in range(5):
        for channel in range(7):
            expected[row, by.buckets[0, channel]] += by.signs[0, channel] * rows[row, channel]
    assert np.allclose(compact.count_sketch(rows, by.buckets[0], by.signs[0], 4), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 16, 33])
def test_a_tensor_sketch_is_the_count_sketch_of_the_sum_of_outer_products(dim: int) -> None:
    """Whose bucket is the sum of both channels' buckets, and whose sign the product of their signs."""
    first, second = places(1)
    by = compact.sketch(7, dim, seed=5)
    whole, expected = first.T @ second, np.zeros(dim)
    for row in range(7):
        for column in range(7):
            bucket = (by.buckets[0, row] + by.buckets[1, column]) % dim
            expected[bucket] += by.signs[0, row] * by.signs[1, column] * whole[row, column]
    assert np.allclose(compact.tensor_sketch(first, second, by), expected, rtol=0, atol=1e-10)


def test_a_sketch_of_nothing_is_zero() -> None:
    nothing = np.zeros((0, 7))
    assert not compact.tensor_sketch(nothing, nothing, compact.sketch(7, 8)).any()


def test_inner_products_of_sketches_are_those_of_the_full_ones_on_average() -> None:
    """Over 2,000 seeds, within four standard errors; and their errors fall as the dimension grows."""
    one, other = places(2, 3), places(3, 3)
    truth = float(((one[0].T @ one[1]) * (other[0].T @ other[1])).sum())
    spread = {}
    for dim in (16, 64):
        sketches = [compact.sketch(7, dim, seed) for seed in range(2_000)]
        found = np.array([compact.tensor_sketch(*one, by) @ compact.tensor_sketch(*other, by) for by in sketches])
        assert found.mean() == pytest.approx(truth, abs=4 * found.std() / np.sqrt(len(found)))
        spread[dim] = found.std()
    assert spread[64] < 0.6 * spread[16]  # the variance is inverse to the dimension


def test_a_sketch_follows_from_its_seed_for_ever() -> None:
    """What is stored was made with these: a change of them would make stores useless without anyone noticing."""
    by = compact.sketch(4, 1_000, seed=7)
    assert by.buckets.tolist() == [[585, 932, 671, 515], [377, 479, 310, 199]]
    assert by.signs.tolist() == [[-1, -1, 1, 1], [-1, 1, 1, -1]]
    assert compact.sketch(4, 1_000, seed=8).buckets.tolist() != by.buckets.tolist()


def test_buckets_and_signs_are_even() -> None:
    by = compact.sketch(20_000, 10)
    counts = np.bincount(by.buckets.ravel(), minlength=10)
    assert counts.min() > 3_700  # 4,000 each
    assert counts.max() < 4_300
    assert abs(by.signs.mean()) < 0.03
    assert abs(np.corrcoef(by.buckets.ravel(), by.signs.ravel())[0, 1]) < 0.03


def test_components_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(12, 40)) * np.linspace(1, 5, 40) + 3
    pca, reference = compact.learn(rows, 5), PCA(5, svd_solver="full").fit(rows)
    assert pca.mean == pytest.approx(reference.mean_, abs=1e-5)
    for mine, theirs in zip(pca.components, reference.components_, strict=True):
        assert np.abs(mine @ theirs) == pytest.approx(1, abs=1e-5)  # its sign is the library's
        assert mine[np.abs(mine).argmax()] > 0
    assert np.abs(compact.project(pca, rows[3])) == pytest.approx(np.abs(reference.transform(rows[3:4])[0]), abs=1e-4)


def test_all_components_of_a_sample_keep_its_distances() -> None:
    rows = np.random.default_rng(1).normal(size=(6, 30))
    pca = compact.learn(rows, 5)
    projected = np.stack([compact.project(pca, row) for row in rows])
    before, after = (np.linalg.norm(each[:, None] - each, axis=-1) for each in (rows, projected))
    assert after == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("dim", [0, 6, 7])
def test_a_sample_that_is_too_small_is_told(dim: int) -> None:
    with pytest.raises(ValueError, match=f"dim: expected less than the 6 rows of the sample, got {dim}"):
        compact.learn(np.random.default_rng(0).normal(size=(6, 9)), dim)


def test_a_sample_that_does_not_vary_is_told() -> None:
    rows = np.outer(np.arange(6.0), np.ones(9))  # along one line
    with pytest.raises(ValueError, match="dim: expected rows that vary in 3 directions"):
        compact.learn(rows, 3)
    with pytest.raises(ValueError, match="dim: expected rows that vary in 2 directions"):
        compact.learn(np.ones((6, 9)), 2)


def test_a_unit_row_has_a_direction() -> None:
    assert compact.unit(np.array([3.0, -4.0])).tolist() == pytest.approx([0.6, -0.8])
    with pytest.raises(ValueError, match="embedding: expected a descriptor with a direction, got zeros"):
        compact.unit(np.zeros(3))
