"""Sorting boxes into runs, and pairs of them."""

import itertools

import numpy as np
import pytest

from artray.detect import rounds


@pytest.mark.parametrize("levels", [1, 3, 10**9])
@pytest.mark.parametrize("far", [1, 2**30, 2**55])
def test_the_order_is_that_of_three_sorts(levels, far):
    rng = np.random.default_rng(levels)
    images, groups = (rng.integers(-4, 4, 500) * far for _ in range(2))
    scores = rng.integers(0, levels, 500) / levels
    scores[::7] += rng.integers(0, 2, 72) * 1e-15  # equal in their leading bits only
    scores[scores == 0] *= -1  # -0.0 is 0.0
    runs = rounds.sort_runs(images, groups, scores)
    assert runs.order.tolist() == np.lexsort((-scores, groups, images)).tolist()
    ids = list(zip(images[runs.order].tolist(), groups[runs.order].tolist(), strict=True))
    expected = [len(list(same)) for _, same in itertools.groupby(ids)]
    assert runs.lengths.tolist() == expected
    assert runs.starts.tolist() == [0, *np.cumsum(expected)[:-1].tolist()]


def test_no_boxes_are_no_runs():
    none = np.empty(0, np.int64)
    runs = rounds.sort_runs(none, none, np.empty(0))
    assert [len(column) for column in runs] == [0, 0, 0]
    assert list(rounds.pairs(runs)) == []


@pytest.mark.parametrize("at_a_time", [1, 5, 1000])
def test_pairs_are_all_of_every_run_however_many_at_a_time(at_a_time, monkeypatch):
    monkeypatch.setattr(rounds, "PAIRS", at_a_time)
    lengths = np.array([1, 6, 1, 1, 3, 2])
    starts = np.cumsum(lengths) - lengths
    found = [
        pair for some in rounds.pairs(rounds.Runs(np.arange(14), starts, lengths)) for pair in zip(*some, strict=True)
    ]
    runs = [range(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    assert found == [pair for run in runs for pair in itertools.combinations(run, 2)]


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_the_size_of_a_chunk_changes_nothing(chunk, monkeypatch):
    rng = np.random.default_rng(0)
    low, groups, scores = rng.random((300, 2)), rng.integers(0, 9, 300), rng.random(300)
    runs = rounds.sort_runs(groups // 3, groups, scores)
    corners = np.concatenate([low, low + 0.3], axis=1).T[:, runs.order]
    boxes, scores = np.concatenate([corners, np.full((1, 300), 0.09)]), scores[runs.order]
    calls = [
        lambda: rounds.cluster(boxes, scores, runs, 0.2, moves=True),
        lambda: rounds.decay(boxes, scores, runs, 0.2, 0.5, 0.0),
    ]
    usual = [call() for call in calls]
    monkeypatch.setattr(rounds, "CHUNK", chunk)
    for one, two in zip(usual, (call() for call in calls), strict=True):
        assert np.array_equal(one, two)
