"""What holds of any ranking, any relevances and any labels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from artray.metrics import retrieval
from artray.metrics.resampling import Difference, paired_bootstrap
from artray.metrics.retrieval import NDCGS
from artray.retrieve import blockwise, metrics

quick = settings(max_examples=80, deadline=None)
RATING = st.integers(1, 3)
POOL = st.lists(RATING, min_size=1, max_size=15)
THOUSANDTHS = st.integers(0, 1000).map(lambda number: number / 1024)  # as float32 has them
DEFINITION = st.sampled_from(list(NDCGS.values()))
SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@quick
@given(POOL, st.integers(1, 10), DEFINITION)
def test_ndcg_is_in_range_and_1_of_the_best_order(pool, k, definition):
    for ranked in (pool, pool[: k // 2 + 1]):
        assert 0 <= retrieval.ndcg(ranked, k, definition, ideal_of=pool) <= 1
        assert 0 <= retrieval.ndcg(ranked, k, definition) <= 1
    best = sorted(pool, reverse=True)
    assert retrieval.ndcg(best, k, definition) == retrieval.ndcg(best, k, definition, ideal_of=pool) == 1


@quick
@given(POOL, DEFINITION, st.randoms())
def test_exchanging_results_of_equal_relevance_changes_nothing(pool, definition, random):
    names = list(range(len(pool)))
    random.shuffle(names)  # what stands where among equals
    same = [pool.index(rating) for rating in pool]  # any of the same rating, by its first place
    assert [pool[place] for place in same] == pool
    assert retrieval.dcg([pool[place] for place in same], 5, definition) == retrieval.dcg(pool, 5, definition)
    tied = retrieval.dcg(np.array(pool)[names], 5, definition, scores=np.zeros(len(pool)))
    assert np.isclose(tied, retrieval.dcg(pool, 5, definition, scores=np.zeros(len(pool))))


@quick
@given(POOL, DEFINITION, st.integers(0, 13))
def test_a_better_result_further_up_is_never_worse(pool, definition, place):
    if place + 1 < len(pool) and pool[place] < pool[place + 1]:
        swapped = [*pool[:place], pool[place + 1], pool[place], *pool[place + 2 :]]
        assert retrieval.dcg(swapped, 5, definition) >= retrieval.dcg(pool, 5, definition) - 1e-12


@quick
@given(arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(0, 12))), st.integers(1, 8), st.integers(0, 5))
def test_binary_measures_are_in_range(relevant, k, more):
    total = relevant.sum(axis=1) + more
    for told in (
        *(retrieval.precision_at(relevant, k), retrieval.recall_at(relevant, total, k), retrieval.hit_at(relevant, k)),
        *(retrieval.r_precision(relevant, total), retrieval.reciprocal_rank(relevant)),
        retrieval.average_precision(relevant, total),
    ):
        assert told.shape == relevant.shape[:1]
        assert ((told >= 0) & (told <= 1)).all()


@quick
@given(SCORES)
def test_a_method_is_no_better_than_itself(values):
    assert paired_bootstrap(values, values, resamples=50) == Difference(0.0, 0.0, 0.0, 1.0)


@quick
@given(st.lists(st.lists(RATING | st.just(np.nan), min_size=6, max_size=6), min_size=2, max_size=4), st.randoms())
def test_agreement_knows_no_order_of_judges(ratings, random):
    turned = list(ratings)
    random.shuffle(turned)
    told, other = retrieval.agreement(ratings), retrieval.agreement(turned)
    assert np.isnan(told) == np.isnan(other)
    assert np.isnan(told) or (told <= 1 + 1e-9 and np.isclose(told, other))


@quick
@given(
    arrays(np.float32, (3, 7), elements=st.floats(-4, 4, width=32)),
    arrays(np.bool_, (3, 7)),
)
def test_rankings_are_stable_and_what_is_left_out_comes_last(close, left_out):
    order = blockwise.ranking(close, left_out)
    for row, (values, without) in enumerate(zip(close, left_out, strict=True)):
        kept = [int(column) for column in np.argsort(-values, kind="stable") if not without[column]]
        assert order[row, : len(kept)].tolist() == kept
        assert sorted(order[row].tolist()) == list(range(7))


@quick
@given(arrays(np.float32, (9, 5), elements=THOUSANDTHS), st.sampled_from(sorted(metrics.METRICS)))
def test_blocks_order_as_the_scores_of_a_store_do(matrix, metric):
    if metric == "chi_square":
        matrix = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-3).astype(np.float32)
    close = blockwise.closeness(metric, matrix)(matrix)
    for row, query in enumerate(matrix):
        exact = metrics.similarities(metric, matrix, query)
        falling = exact[blockwise.ranking(close)[row]]
        assert (np.diff(falling) <= 2e-3).all()  # of nearly equal ones either may be first
