"""Rankings, their fusion, queries of several parts and whitening: values by hand, and scikit-learn's."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from artray.retrieve import queries, ranking, whitening
from artray.retrieve.queries import Rocchio

NAN = float("nan")


def floats(*rows: object) -> np.ndarray:
    return np.array(rows, np.float32)


def ordered(values: np.ndarray, ids: list[str]) -> list[str]:
    return [ids[at] for at in ranking.order(values, ids)]


def test_equal_scores_follow_in_the_order_of_their_ids() -> None:
    assert ordered(np.array([1.0, 2.0, 1.0, 1.0]), ["z", "b", "a", "ä"]) == ["b", "a", "z", "ä"]
    assert ordered(np.array([0.0, -0.0]), ["b", "a"]) == ["a", "b"]
    assert ranking.order([], []).tolist() == []
    assert ordered(np.array([NAN, 1.0, NAN]), ["a", "b", "c"]) == ["b"], "what has no score is not ranked"
    with pytest.raises(ValueError, match=r"scores: expected one for each of 1 ids, got shape \(2,\)"):
        ranking.order([1, 2], ["a"])


def test_ranks_of_scores_and_of_lists_agree() -> None:
    ids, found = ranking.ranks_of_lists([["a", "b", "c"], ["c", "a"]])
    assert ids == ["a", "b", "c"]
    np.testing.assert_array_equal(found, [[1, 2, 3], [2, NAN, 1]])
    np.testing.assert_array_equal(ranking.ranks([[0.9, 0.5, 0.1], [0.3, NAN, 0.4]], ids), found)
    assert ranking.ranks_of_lists([[], []])[1].shape == (2, 0)
    with pytest.raises(ValueError, match="ranking: expected every id once, got 'b' twice"):
        ranking.ranks_of_lists([["b", "a", "b"]])


def test_reciprocal_rank_by_hand() -> None:
    ids, found = ranking.ranks_of_lists([["a", "b", "c"], ["c", "a"]])
    fused = ranking.reciprocal_rank(found)
    assert fused.tolist() == pytest.approx([1 / 61 + 1 / 62, 1 / 62, 1 / 63 + 1 / 61])
    assert ordered(fused, ids) == ["a", "c", "b"], "second and first is better than first and third"
    assert ordered(ranking.reciprocal_rank(found, weights=[1, 3]), ids) == ["c", "a", "b"]
    assert ranking.reciprocal_rank(found, weights=[1, 0]).tolist() == pytest.approx([1 / 61, 1 / 62, 1 / 63])


def test_borda_by_hand() -> None:
    # five works: the first method gives 4, 3, 2 and (1 + 0) / 2 for the two that it does not list
    _, found = ranking.ranks_of_lists([["a", "b", "c"], ["e", "d", "c", "b", "a"]])
    assert ranking.borda(found).tolist() == [(4 + 0) / 2, (3 + 1) / 2, (2 + 2) / 2, (0.5 + 3) / 2, (0.5 + 4) / 2]
    assert ranking.borda(found, weights=[3, 1]).tolist() == [3, 2.5, 2, 1.125, 1.375]


def test_median_rank_by_hand() -> None:
    # of four works a list of two leaves places 3 and 4: 3.5 for each of the others
    ids, found = ranking.ranks_of_lists([["a", "b"], ["b", "a", "c", "d"], ["d", "c", "b", "a"]])
    assert dict(zip(ids, ranking.median_rank(found).tolist(), strict=True)) == {"a": -2, "b": -2, "c": -3, "d": -3.5}
    with pytest.raises(ValueError, match="weights: expected none, as a median knows none"):
        ranking.fuse("median_rank", [[1.0, 2.0]] * 2, ["a", "b"], weights=[1, 2])
    assert ranking.fuse("median_rank", [[1.0, 2.0]] * 2, ["a", "b"], weights=[2, 2]).tolist() == [-2, -1]


def test_scores_are_stretched_or_standardised_by_method() -> None:
    scores = [[0.2, 0.4, 0.6], [30.0, 10.0, NAN]]
    assert ranking.min_max(scores).tolist() == pytest.approx([(0 + 1) / 2, (0.5 + 0) / 2, (1 + 0) / 2])
    assert ranking.min_max(scores, weights=[3, 1]).tolist() == pytest.approx([1 / 4, 3 / 8, 3 / 4])
    # mean 0.4 and deviation sqrt(0.08 / 3); mean 20 and deviation 10, and the least, -1, where nothing is said
    z = np.sqrt(1.5)
    assert ranking.z_score(scores).tolist() == pytest.approx([(-z + 1) / 2, (0 - 1) / 2, (z - 1) / 2])


def test_a_method_that_says_nothing_changes_nothing() -> None:
    for how in ranking.SCORED:
        alone = ranking.fuse(how, [[0.1, 0.7, 0.3]], ["a", "b", "c"])
        for nothing in ([0.5, 0.5, 0.5], [NAN, NAN, NAN]):
            both = ranking.fuse(how, [[0.1, 0.7, 0.3], nothing], ["a", "b", "c"])
            np.testing.assert_allclose(both * 2, alone, atol=1e-12)


@pytest.mark.parametrize("how", [*ranking.RANKED, *ranking.SCORED])
def test_fusing_no_works_and_no_methods(how: str) -> None:
    assert ranking.fuse(how, np.empty((2, 0)), []).shape == (0,)
    with pytest.raises(ValueError, match="expected"):
        ranking.fuse(how, np.empty((0, 2)), ["a", "b"])


@pytest.mark.parametrize("weights", [[1.0], [1, -1], [0, 0], [1, NAN], [1, float("inf")]])
def test_weights_that_are_none(weights: list[float]) -> None:
    for how in ("reciprocal_rank", "borda", "min_max", "z_score"):
        with pytest.raises(ValueError, match="weights: expected 2 of at least 0, not all 0, got "):
            ranking.fuse(how, [[1.0, 2.0], [2.0, 1.0]], ["a", "b"], weights)


def test_infinite_scores_and_unknown_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing infinite"):
        ranking.fuse("min_max", [[1.0, float("inf")]], ["a", "b"])
    with pytest.raises(KeyError):
        ranking.fuse("combsum", [[1.0]], ["a"])


def test_several_images_do_not_depend_on_their_order() -> None:
    scores = np.random.default_rng(0).random((7, 50))
    for how in ("mean", "max"):
        one, two = queries.several(scores, how), queries.several(scores[::-1], how)
        assert one.tobytes() == two.tobytes()
    np.testing.assert_allclose(queries.several(scores), scores.mean(axis=0))
    with pytest.raises(ValueError, match="expected those of at least one query image"):
        queries.several(np.empty((0, 3)))


def test_expansion_by_hand() -> None:
    query, found = floats(1, 0), floats([0.6, 0.8], [0, 2])
    # average: (1, 0) + (0.6, 0.8) + (0, 1), whatever their lengths
    average = queries.expanded(query, found)
    np.testing.assert_allclose(average, np.array([1.6, 1.8]) / np.hypot(1.6, 1.8), rtol=1e-6)
    # to the third power 0.6 weighs 0.216, and what is at a right angle nothing
    alpha = queries.expanded(query, found, alpha=queries.ALPHA)
    expected = np.array([1 + 0.216 * 0.6, 0.216 * 0.8])
    np.testing.assert_allclose(alpha, expected / np.linalg.norm(expected), rtol=1e-6)
    assert queries.expanded(floats(3, 4), floats().reshape(0, 2)).tolist() == pytest.approx([0.6, 0.8])
    with pytest.raises(ValueError, match="cancel each other out"):
        queries.expanded(query, -query[None])


def test_expansion_keeps_what_a_metric_wants() -> None:
    histogram = queries.expanded(floats(0.5, 0.5, 0), floats([0, 0, 1]), metric="chi_square")
    assert histogram.tolist() == pytest.approx([0.25, 0.25, 0.5])
    # distance 2, similarity 1/3: (3 (1, 1) + (3, 1)) / 4
    place = queries.expanded(floats(1, 1), floats([3, 1]), alpha=1.0, metric="euclidean")
    assert place.tolist() == pytest.approx([1.5, 1.0])


def test_rocchio_by_hand() -> None:
    query, like, off = floats(1, 0), floats([0, 2], [0, 4]), floats([5, 0])
    moved = queries.rocchio(query, like, off, Rocchio(1, 1, 0.5))
    assert moved.tolist() == pytest.approx([0.5 / np.hypot(0.5, 1), 1 / np.hypot(0.5, 1)])
    nothing = np.empty((0, 2), np.float32)
    assert queries.rocchio(query, nothing, nothing).tolist() == [1, 0]
    # what a histogram would have less than nothing of is none of it
    histogram = queries.rocchio(floats(0.5, 0.5), nothing, floats([1, 0]), Rocchio(1, 1, 1), "chi_square")
    assert histogram.tolist() == [0, 1]
    # (2 (1, 1) - (0, 1)) / (2 - 1)
    place = queries.rocchio(floats(1, 1), nothing, floats([0, 1]), Rocchio(2, 1, 1), "euclidean")
    assert place.tolist() == [2, 1]
    with pytest.raises(ValueError, match="cancel each other out"):
        queries.rocchio(query, nothing, query[None], Rocchio(1, 1, 1))
    with pytest.raises(ValueError, match="expected more for what is wanted"):
        queries.rocchio(query, nothing, query[None], Rocchio(1, 1, 1), "euclidean")


def test_unlike_takes_off_the_most_similar() -> None:
    assert queries.unlike([1.0, 1.0], [[0.2, 0.0], [0.4, -1.0]], weight=0.5).tolist() == pytest.approx([0.8, 1.0])
    assert queries.unlike([1.0, 0.5], np.empty((0, 2))).tolist() == [1.0, 0.5]


def sample(count: int = 300, dim: int = 6) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + 5).astype(np.float32)


def test_whitening_is_scikit_learns_up_to_signs() -> None:
    data = sample()
    learned = whitening.learn_whitening(data, dim=4)
    ours = whitening.whiten(data, learned, scaled=False)
    reference = PCA(4, whiten=True, svd_solver="full").fit_transform(data.astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(reference), atol=1e-4)
    np.testing.assert_allclose(np.cov(ours.T), np.eye(4), atol=1e-4)
    assert (learned.components[np.arange(4), np.abs(learned.components).argmax(axis=1)] > 0).all()


def test_shrinkage_draws_variances_to_their_mean() -> None:
    data = sample()
    variances = np.linalg.eigvalsh(np.cov(data.T.astype(np.float64)))[::-1]
    for shrinkage in (0.25, 1.0):
        ours = whitening.whiten(data, whitening.learn_whitening(data, shrinkage=shrinkage), scaled=False)
        left = variances / ((1 - shrinkage) * variances + shrinkage * variances.mean())
        np.testing.assert_allclose(np.cov(ours.T), np.diag(left), atol=1e-3)


def test_whitened_rows_have_unit_norm_and_the_mean_is_nothing() -> None:
    data = sample()
    learned = whitening.learn_whitening(data)
    rows = whitening.whiten(np.vstack([data[:5], learned.mean[None]]), learned)
    np.testing.assert_allclose(np.linalg.norm(rows[:5], axis=1), 1, atol=1e-6)
    assert not rows[5].any()
    assert whitening.whiten(data[:0], learned).shape == (0, 6)


def test_fewer_works_than_dimensions() -> None:
    data = sample(count=4)
    assert whitening.learn_whitening(data).components.shape == (3, 6), "four points vary along three axes"
    assert whitening.learn_whitening(data, shrinkage=0.1).components.shape == (6, 6)
    with pytest.raises(ValueError, match="dim: expected 1 to 3, along which 4 embeddings vary, got 4"):
        whitening.learn_whitening(data, dim=4)
    with pytest.raises(ValueError, match="expected two rows and a number in"):
        whitening.learn_whitening(data[:1])
    with pytest.raises(ValueError, match="expected two rows and a number in"):
        whitening.learn_whitening(data, shrinkage=1.5)
    with pytest.raises(ValueError, match="dim: expected 1 to 0"):
        whitening.learn_whitening(np.ones((3, 2), np.float32))
