"""Measures of rankings: by hand, as scikit-learn and Krippendorff have them, and what the report's figures can mean."""

from itertools import product

import krippendorff
import numpy as np
import pytest
from sklearn import metrics as sklearn

from artray.metrics import retrieval
from artray.metrics.resampling import Difference, holm, intervals, paired_bootstrap
from artray.metrics.retrieval import EXPONENTIAL, REPORT, STANDARD, Definition

GOOD = [3, 3, 3, 3, 3]
MIXED = [3, 1, 2, 1, 3]
LISTS = np.array(list(product([1, 2, 3], repeat=5)))
"""Every way to rate five results: 243 of them."""


def test_dcg_by_hand() -> None:
    # discounts 1, 1/log2(3) = 0.63093, 1/2, 1/log2(5) = 0.43068, 1/log2(6) = 0.38685
    assert retrieval.dcg(MIXED) == pytest.approx(3 + 0.63093 + 2 / 2 + 0.43068 + 3 * 0.38685, abs=1e-4)
    assert retrieval.dcg(MIXED, definition=REPORT) == 3 + 1 + 2 + 1 + 3
    # gains 2^r - 1: 7, 1, 3, 1, 7
    assert retrieval.dcg(MIXED, definition=EXPONENTIAL) == pytest.approx(
        7 + 0.63093 + 3 / 2 + 0.43068 + 7 * 0.38685, abs=1e-4
    )
    assert retrieval.dcg(MIXED, k=2) == pytest.approx(3 + 0.63093, abs=1e-4)
    # base 2: ranks 1 and 2 in full, then 1/log2(3), 1/2, 1/log2(5)
    assert retrieval.dcg(MIXED, definition=Definition("linear", 2.0)) == pytest.approx(
        3 + 1 + 2 * 0.63093 + 1 / 2 + 3 * 0.43068, abs=1e-4
    )


def test_ndcg_by_hand() -> None:
    # ideal of the five: 3, 3, 2, 1, 1
    own = 3 + 3 * 0.63093 + 2 / 2 + 0.43068 + 0.38685
    assert retrieval.ndcg(MIXED) == pytest.approx(float(retrieval.dcg(MIXED)) / own, abs=1e-4)
    # ideal of a pool of eight with three more 3s: five 3s
    pool = [*MIXED, 3, 3, 3]
    assert retrieval.ndcg(MIXED, ideal_of=pool) == pytest.approx(float(retrieval.dcg(MIXED)) / (3 * 2.94846), abs=1e-4)
    assert retrieval.ndcg(MIXED, definition=REPORT, ideal_of=pool) == pytest.approx(10 / 15)
    assert retrieval.accumulated(MIXED) == 10
    assert retrieval.accumulated([*MIXED, 3], 5) == 10


def test_only_without_a_discount_has_five_times_three_a_maximum_of_15() -> None:
    assert retrieval.dcg(GOOD, definition=REPORT) == 15
    assert retrieval.dcg(GOOD) == pytest.approx(8.845, abs=1e-3)
    assert retrieval.dcg(GOOD, definition=EXPONENTIAL) == pytest.approx(20.639, abs=1e-3)
    maxima = {base: float(retrieval.dcg(GOOD, definition=Definition("linear", base))) for base in (2.0, 3.0, 4.0)}
    assert maxima[2.0] == pytest.approx(10.685, abs=1e-3)
    assert all(maximum < 15 for maximum in maxima.values())
    assert all(retrieval.dcg(GOOD, definition=Definition("linear", base)) == 15 for base in (5.0, 6.0, 10.0, 100.0))


def test_the_reports_two_figures_are_not_of_one_dcg_with_a_maximum_of_15() -> None:
    """A mean nDCG of 0.55 and 9.38 on 20 queries."""
    sums = retrieval.dcg(LISTS, definition=REPORT)
    assert (sums.min(), sums.max()) == (5, 15)
    for ideal in (LISTS, np.full_like(LISTS, 3)):  # the least and the most that an ideal can be
        assert (retrieval.ndcg(LISTS, 5, REPORT, ideal_of=ideal) >= sums / 15 - 1e-12).all()
    assert 9.38 / 15 > 0.55 + 0.005
    # nor is 9.38 the mean of 20 whole numbers, as sums of majority votes are
    assert all(abs(total / 20 - 9.38) > 0.005 for total in range(100, 301))
    # and with the five results in another order as the ideal, a mean of 0.55 is out of reach
    assert retrieval.ndcg(LISTS).min() > 0.73
    assert retrieval.ndcg(LISTS, definition=EXPONENTIAL).min() > 0.58
    assert (retrieval.ndcg(LISTS, definition=REPORT) == 1).all()
    # exponential gains over a pool's ideal could give both, but not the 15
    assert 0.45 < 9.38 / float(retrieval.dcg(GOOD, definition=EXPONENTIAL)) < 0.55


@pytest.mark.parametrize("seed", range(5))
def test_ndcg_as_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    judged = random.integers(1, 4, (30, 12)).astype(float)  # a pool of twelve for each of thirty queries
    scores = random.permuted(np.tile(np.arange(12.0), (30, 1)), axis=1)
    ranked = np.take_along_axis(judged, np.argsort(-scores, axis=1), axis=1)[:, :5]
    for definition, truth in ((STANDARD, judged), (EXPONENTIAL, 2**judged - 1)):
        found = retrieval.ndcg(ranked, 5, definition, ideal_of=judged)
        assert found.mean() == pytest.approx(sklearn.ndcg_score(truth, scores, k=5))
        assert retrieval.dcg(ranked, 5, definition).mean() == pytest.approx(sklearn.dcg_score(truth, scores, k=5))


@pytest.mark.parametrize("seed", range(5))
def test_ties_as_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, scores = random.integers(0, 4, 20).astype(float), random.integers(0, 5, 20).astype(float)
    assert retrieval.ndcg(truth, 5, scores=scores, ideal_of=truth) == pytest.approx(
        sklearn.ndcg_score([truth], [scores], k=5)
    )
    relevant = truth > 1
    assert retrieval.average_precision(relevant, scores=scores) == pytest.approx(
        sklearn.average_precision_score(relevant, scores)
    )


def test_equal_scores_share_their_gains() -> None:
    # two of the same score, worth 3 and 1: each has 2, at ranks 1 and 2
    assert retrieval.dcg([3, 1], scores=[0.5, 0.5]) == pytest.approx(2 + 2 * 0.63093, abs=1e-4)
    assert retrieval.dcg([1, 3], scores=[0.5, 0.5]) == retrieval.dcg([3, 1], scores=[0.5, 0.5])
    assert retrieval.dcg([1, 3], scores=[0.2, 0.9]) == retrieval.dcg([3, 1])
    # cut between the two of a tie: on average, half of 3 and 1 is seen
    assert retrieval.dcg([3, 1], k=1, scores=[0.5, 0.5]) == 2
    with pytest.raises(ValueError, match="scores: expected those of one list"):
        retrieval.dcg([[3, 1]], scores=[[1, 2]])
    with pytest.raises(ValueError, match="scores: expected those of one list"):
        retrieval.average_precision([True, False], scores=[1])


def test_binary_measures_by_hand() -> None:
    found = [False, True, False, True, True, False]
    assert retrieval.precision_at(found, 5) == 3 / 5
    assert retrieval.precision_at([True, True], 5) == 2 / 5  # three results are missing
    assert retrieval.recall_at(found, 6, 5) == 3 / 6
    assert retrieval.recall_at(found, 6, 1) == 0
    assert (retrieval.hit_at(found, 1), retrieval.hit_at(found, 5)) == (0, 1)
    assert retrieval.reciprocal_rank(found) == 1 / 2
    assert retrieval.r_precision(found, 3) == 1 / 3  # one of the first three
    assert retrieval.r_precision([True], 4) == 1 / 4  # three of four were not retrieved
    # precisions at the ranks of the relevant ones: 1/2, 2/4, 3/5; a fourth was not retrieved
    assert retrieval.average_precision(found, 4) == pytest.approx((1 / 2 + 2 / 4 + 3 / 5) / 4)
    assert retrieval.average_precision(found) == pytest.approx((1 / 2 + 2 / 4 + 3 / 5) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_as_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    relevant, scores = random.random((20, 40)) < 0.2, random.random((20, 40))
    relevant[:, 0] = True
    ranked = np.take_along_axis(relevant, np.argsort(-scores, axis=1), axis=1)
    expected = [sklearn.average_precision_score(row, score) for row, score in zip(relevant, scores, strict=True)]
    assert retrieval.average_precision(ranked) == pytest.approx(expected)


def test_many_rankings_at_once() -> None:
    random = np.random.default_rng(0)
    graded, relevant, total = random.integers(0, 4, (2, 3, 8)), random.random((2, 3, 8)) < 0.3, np.full((2, 3), 9)
    for together, alone in (
        (retrieval.ndcg(graded), lambda at: retrieval.ndcg(graded[at])),
        (retrieval.average_precision(relevant, total), lambda at: retrieval.average_precision(relevant[at], 9)),
        (retrieval.r_precision(relevant, total), lambda at: retrieval.r_precision(relevant[at], 9)),
        (retrieval.reciprocal_rank(relevant), lambda at: retrieval.reciprocal_rank(relevant[at])),
        (retrieval.recall_at(relevant, total), lambda at: retrieval.recall_at(relevant[at], 9)),
        (retrieval.precision_at(relevant), lambda at: retrieval.precision_at(relevant[at])),
    ):
        assert together.shape == (2, 3)
        assert all(together[at] == pytest.approx(float(alone(at))) for at in np.ndindex(2, 3))


def test_nothing_there_is_0() -> None:
    none: list[bool] = []
    for told in (
        *(retrieval.dcg(none), retrieval.ndcg(none), retrieval.accumulated(none), retrieval.precision_at(none)),
        *(retrieval.recall_at(none, 0), retrieval.hit_at(none), retrieval.r_precision(none, 0)),
        *(retrieval.reciprocal_rank(none), retrieval.average_precision(none), retrieval.average_precision(none, 3)),
        *(retrieval.average_precision(none, scores=[]), retrieval.dcg(none, scores=[])),
        *(retrieval.ndcg([0, 0, 0]), retrieval.average_precision([False, False]), retrieval.recall_at([True], 0)),
    ):
        assert float(told) == 0
    assert retrieval.average_precision(np.zeros((0, 5), bool)).shape == (0,)
    assert retrieval.reciprocal_rank(np.zeros((3, 0), bool)).tolist() == [0, 0, 0]


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ([3, -1], [float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="relevances: expected finite numbers of at least 0"):
            retrieval.dcg(wrong)
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        retrieval.dcg(GOOD, 0)
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        retrieval.precision_at([True], 0)
    with pytest.raises(ValueError, match="base: expected more than 1"):
        retrieval.discounts(5, 1.0)
    with pytest.raises(ValueError, match="ideal_of: expected all judged results"):
        retrieval.ndcg([3, 3], ideal_of=[3, 1])


PUBLISHED = """\
*    *    *    *    *    3    4    1    2    1    1    3    3    *    3
1    *    2    1    3    3    4    3    *    *    *    *    *    *    *
*    *    2    1    3    4    4    *    2    1    1    3    3    *    4"""
"""Three observers and fifteen units: the example in Wikipedia's article on Krippendorff's alpha and in the package."""


def test_agreement() -> None:
    ratings = [[np.nan if cell == "*" else float(cell) for cell in line.split()] for line in PUBLISHED.split("\n")]
    assert retrieval.agreement(ratings) == pytest.approx(0.807, abs=5e-4)  # ordinal; 0.691 nominal, 0.811 interval
    assert retrieval.agreement([[1, 2, 3], [1, 2, 3], [np.nan, 2, np.nan]]) == 1
    assert retrieval.agreement([[1, 3, 1, 3], [3, 1, 3, 1]]) < 0  # they say the opposite
    # the far end of the scale weighs more than its neighbour
    near, far = [[1, 1, 2, 3, 3], [1, 2, 2, 3, 3]], [[1, 1, 2, 3, 3], [1, 3, 2, 3, 3]]
    assert retrieval.agreement(near) > retrieval.agreement(far)


@pytest.mark.parametrize("seed", range(8))
def test_agreement_as_the_package_krippendorff(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(1, 4, 25)
    ratings = np.clip(truth + random.integers(-1, 2, (4, 25)), 1, 3).astype(float)
    ratings[random.random((4, 25)) < 0.1 * seed] = np.nan
    expected = krippendorff.alpha(reliability_data=ratings, level_of_measurement="ordinal")
    assert retrieval.agreement(ratings) == pytest.approx(expected)


@pytest.mark.parametrize(
    "ratings", [[], [[]], [[1, 2, 3]], [[1, np.nan], [np.nan, 2]], [[2, 2, 2], [2, 2, 2]], [[np.nan] * 3] * 2]
)
def test_agreement_that_is_not_defined(ratings: list[list[float]]) -> None:
    assert np.isnan(retrieval.agreement(ratings))


def test_intervals_are_of_the_mean_and_widen_with_groups() -> None:
    random = np.random.default_rng(0)
    artists = np.repeat(np.arange(30), 10)
    values = np.where(random.random(30) < 0.6, 0.9, 0.1)[artists]
    single, grouped = intervals({"a": values})["a"], intervals({"a": values}, artists.tolist())["a"]
    assert single.value == grouped.value == pytest.approx(values.mean())
    assert single.low < single.value < single.high
    # standard error of a mean of n equal groups: their standard deviation / sqrt(n), and 2 * 1.96 of it
    assert single.high - single.low == pytest.approx(3.92 * values.std() / np.sqrt(300), rel=0.1)
    assert grouped.high - grouped.low == pytest.approx(3.92 * values.std() / np.sqrt(30), rel=0.1)
    assert intervals({"a": values}, seed=3) == intervals({"a": values}, seed=3) != intervals({"a": values}, seed=4)
    assert intervals({"a": [0.5, 1.0]}, resamples=0)["a"] == (0.75, 0.75, 0.75)


def test_groups_of_different_size_weigh_as_many_as_they_are() -> None:
    values, groups = np.array([1.0, 0, 0, 0]), ["one", "three", "three", "three"]
    told = intervals({"a": values}, groups)["a"]
    assert told.value == 0.25
    assert (told.low, told.high) == (0.0, 1.0)  # both draws of the same group, a quarter of the time each


def test_paired_bootstrap() -> None:
    random = np.random.default_rng(0)
    first = random.random(50)
    same = paired_bootstrap(first, first)
    assert same == Difference(0.0, 0.0, 0.0, 1.0)
    better = paired_bootstrap(first + 0.1, first)  # by the same amount on every query
    assert better.value == pytest.approx(0.1)
    assert better.low == pytest.approx(0.1)
    assert better.p == pytest.approx(1 / 2001)
    noisy = first + random.normal(0, 0.3, 50)
    told, turned = paired_bootstrap(first, noisy), paired_bootstrap(noisy, first)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-told.value, -told.high, -told.low))
    assert turned.p == told.p
    assert 0 < told.p <= 1


def test_few_queries_prove_little() -> None:
    """Three of three in favour of the first happen once in four studies of equal methods: 2 * (1/2)^3."""
    assert paired_bootstrap([0.9], [0.1]).p == 1
    assert paired_bootstrap([0.9, 0.8, 0.7], [0.1, 0.0, -0.1]).p == 1 / 4
    assert paired_bootstrap([0.9] * 9, [0.1] * 9, ["a"] * 4 + ["b"] * 5).p == 1 / 2


def test_paired_bootstrap_is_right_as_often_as_it_says() -> None:
    """Of two methods that are equally good, one is called better at 5 % in about 5 % of all studies."""
    random = np.random.default_rng(1)
    found = [paired_bootstrap(*random.normal(size=(2, 30)), resamples=400).p for _ in range(300)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.10


def test_no_queries_have_no_interval() -> None:
    for told in (lambda: intervals({"a": []}), lambda: paired_bootstrap([], [])):
        with pytest.raises(ValueError, match="expected at least one query"):
            told()
    with pytest.raises(ValueError, match="groups: expected one for each of 2 queries, got 1"):
        intervals({"a": [1, 2]}, ["x"])


def test_holm() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and none below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
