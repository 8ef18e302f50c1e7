"""What holds of any fusion of rankings, and of any whitening."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from artray.retrieve import queries, ranking, whitening

WAYS = [*ranking.RANKED, *ranking.SCORED]
SIMILARITY = st.integers(-20, 20).map(lambda number: number / 20)
"""On a coarse grid, so that many are equal."""


@st.composite
def scored(draw, methods=4, works=12, blank=False):
    """Similarities [M, N] and ids; ``blank`` leaves some out."""
    shape = (draw(st.integers(1, methods)), draw(st.integers(1, works)))
    values = draw(hnp.arrays(np.float64, shape, elements=SIMILARITY | st.just(np.nan) if blank else SIMILARITY))
    ids = draw(st.permutations([f"id{number}" for number in range(shape[1])]))
    return values, ids


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=60)
@given(given_=scored(methods=1), copies=st.integers(1, 5))
def test_a_ranking_fused_with_itself_keeps_its_order(how, given_, copies):
    values, ids = given_
    fused = ranking.fuse(how, np.repeat(values, copies, axis=0), ids)
    np.testing.assert_array_equal(ranking.order(fused, ids), ranking.order(values[0], ids))


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=60)
@given(given_=scored(blank=True), order=st.randoms(use_true_random=False))
def test_methods_of_equal_weight_have_no_order(how, given_, order):
    values, ids = given_
    shuffle = order.sample(range(len(values)), len(values))
    one, two = ranking.fuse(how, values, ids), ranking.fuse(how, values[shuffle], ids)
    assert one.tobytes() == two.tobytes(), "not by one bit"


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=60)
@given(given_=scored(blank=True), order=st.randoms(use_true_random=False))
def test_works_have_no_order_but_that_of_their_ids(how, given_, order):
    values, ids = given_
    shuffle = order.sample(range(len(ids)), len(ids))
    moved = [ids[at] for at in shuffle]
    one = [ids[at] for at in ranking.order(ranking.fuse(how, values, ids), ids)]
    two = [moved[at] for at in ranking.order(ranking.fuse(how, values[:, shuffle], moved), moved)]
    if how == "z_score":  # whose mean and deviation are sums over works, which round
        np.testing.assert_allclose(
            ranking.fuse(how, values, ids)[shuffle], ranking.fuse(how, values[:, shuffle], moved)
        )
    else:
        assert one == two


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=60)
@given(given_=scored(), at=st.integers(0, 11))
def test_what_all_methods_find_best_is_best(how, given_, at):
    values, ids = given_
    at %= len(ids)
    values[:, at] = 1.5
    assert ranking.order(ranking.fuse(how, values, ids), ids)[0] == at


@settings(max_examples=60)
@given(given_=scored(blank=True))
def test_unlisted_works_are_behind_the_listed(given_):
    values, ids = given_
    for how in ranking.RANKED:
        fused = ranking.fuse(how, values[:1], ids)
        listed = ~np.isnan(values[0])
        assume(listed.any() and not listed.all())
        assert fused[listed].min() > fused[~listed].max()


@settings(max_examples=40)
@given(
    rows=hnp.arrays(np.float32, st.tuples(st.integers(3, 20), st.integers(1, 5)), elements=st.floats(-4, 4, width=16)),
    shrinkage=st.sampled_from([0.01, 0.3, 1.0]),
)
def test_whitening_keeps_who_is_where_up_to_scales(rows, shrinkage):
    assume(rows.astype(np.float64).var(axis=0).max() > 1e-3)
    learned = whitening.learn_whitening(rows, shrinkage=shrinkage)
    found = whitening.whiten(rows, learned, scaled=False)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    if shrinkage == 1.0:  # nothing but a turn and one scale: distances keep their ratios
        before = np.linalg.norm(rows[:, None].astype(np.float64) - rows, axis=2)
        after = np.linalg.norm(found[:, None].astype(np.float64) - found, axis=2)
        np.testing.assert_allclose(after * before.max(), before * after.max(), atol=1e-2)


@settings(max_examples=40)
@given(
    query=hnp.arrays(np.float32, 4, elements=st.floats(0.125, 4, width=16)),
    found=hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.floats(0.125, 4, width=16)),
    alpha=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_an_expanded_query_is_as_its_metric_has_embeddings(query, found, alpha):
    assert np.linalg.norm(queries.expanded(query, found, alpha)) == pytest.approx(1, abs=1e-5)
    histogram, histograms = query / query.sum(), found / found.sum(axis=1, keepdims=True)
    mixed = queries.expanded(histogram, histograms, alpha, "chi_square")
    assert mixed.sum() == pytest.approx(1, abs=1e-5)
    assert (mixed >= 0).all()
