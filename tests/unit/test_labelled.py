"""Embeddings judged by labels: by hand, as scikit-learn has it, and as loops written out."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from artray.metrics.resampling import paired_bootstrap
from artray.retrieve import blockwise, metrics
from artray.retrieve.labelled import Labelled, Relevance, judge, judge_rankings

LINE = np.array([[1, 0], [1, 0.1], [1, 0.3], [1, 0.6], [1, 1]], np.float32)
"""Five works in a fan: of the first, the others are less and less like it."""


@pytest.fixture(scope="module")
def many() -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(0)
    centres, kinds = random.normal(size=(6, 12)), random.integers(0, 6, 300)
    matrix = (centres[kinds] + random.normal(size=(300, 12))).astype(np.float32)
    return np.abs(matrix) / np.abs(matrix).sum(axis=1, keepdims=True), [f"kind {kind}" for kind in kinds]


def test_by_hand() -> None:
    told = judge(LINE, ["a", "b", "a", "b", "a"], queries=[0])
    # of work 0: 1 (b), 2 (a), 3 (b), 4 (a)
    values = {name: found.tolist() for name, found in told.values.items()}
    assert values["map"] == pytest.approx([(1 / 2 + 2 / 4) / 2])
    assert values["mrr"] == [1 / 2]
    assert values["r_precision"] == [1 / 2]
    assert values["p@5"] == [2 / 5]  # there are four results at most
    assert (values["recall@1"], values["recall@5"]) == ([0], [1])
    assert (values["hit@1"], values["hit@5"]) == ([0], [1])
    assert values["ndcg@5"] == pytest.approx([(0.63093 + 0.43068) / (1 + 0.63093)], abs=1e-4)
    assert (told.queries.tolist(), told.without_relevant, told.unlabelled) == ([0], 0, 0)


def test_queries_that_nothing_is_relevant_to_are_counted() -> None:
    told = judge(LINE, ["a", "a", "alone", None, None])
    assert (told.queries.tolist(), told.without_relevant, told.unlabelled) == ([0, 1], 1, 2)
    # unlabelled works are not ranked: of 0, only 1 and 2 are left
    assert told.measures["map"].value == 1
    nothing = judge(LINE, [None] * 5)
    assert nothing[:2] == ({}, {})
    assert (nothing.queries.tolist(), nothing.without_relevant, nothing.unlabelled) == ([], 0, 5)
    assert judge(LINE, list("abcde")).without_relevant == 5
    assert judge(np.empty((0, 2), np.float32), []).measures == {}


def test_other_reproductions_of_a_work_may_be_left_out() -> None:
    labels, works = ["a", "a", "b", "a", "b"], ["one", "one", None, None, None]
    told = judge(LINE, labels, queries=[0], works=works)
    assert told.values["map"].tolist() == [1 / 2]  # without 1, that is 2 (b), 3 (a), 4 (b)
    assert judge(LINE, labels, queries=[0]).values["map"].tolist() == pytest.approx([(1 + 2 / 3) / 2])
    assert judge(LINE, ["a", "a", "b", "b", "b"], queries=[0], works=works).without_relevant == 1


def test_queries_and_candidates_may_be_different_works() -> None:
    """As of drawings among photographs."""
    labels = ["horse", "horse", "cow", "horse", "cow"]
    told = judge(LINE, labels, queries=[0], candidates=[2, 3, 4])
    assert told.values["map"].tolist() == [1 / 2]
    assert told.values["recall@1"].tolist() == [0]
    assert judge(LINE, labels, queries=[0], candidates=[]).without_relevant == 1


def test_several_labels_are_relevant_where_one_is_shared() -> None:
    labels = [{"dog", "tree"}, {"ship"}, ("tree",), [], frozenset({"dog", "ship"})]
    told = judge(LINE, labels, queries=[0])
    assert told.values["map"].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2])  # 1, 2 (tree), 4 (dog); 3 has no label
    relevance = Relevance(labels)
    assert relevance(np.array([0, 3]), np.arange(5)).tolist() == [[True, False, True, False, True], [False] * 5]
    assert relevance.known.tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("metric", sorted(metrics.METRICS))
def test_as_loops_written_out(many, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, labels = many
    monkeypatch.setattr(blockwise, "COLUMNS", 64)
    told = judge(matrix, labels, metric, resamples=10)
    for row in range(0, 300, 17):
        scores = metrics.similarities(metric, matrix, matrix[row])
        others = np.arange(300) != row
        relevant = np.array([label == labels[row] for label in labels])[others]
        expected = sklearn.average_precision_score(relevant, scores[others])
        assert told.values["map"][row] == pytest.approx(expected, abs=2e-3)
        gains = sklearn.ndcg_score([relevant], [scores[others]], k=5)
        assert told.values["ndcg@5"][row] == pytest.approx(gains, abs=1e-6)
    assert told.measures["map"].value == pytest.approx(told.values["map"].mean())


@pytest.mark.parametrize("metric", sorted(metrics.METRICS))
def test_nearest_has_the_scores_of_a_store(many, metric: str) -> None:
    matrix, _ = many
    found = blockwise.nearest(matrix[:40], matrix, 7, metric, own=np.arange(40))
    for row in range(40):
        scores = metrics.similarities(metric, matrix, matrix[row])
        scores[row] = -9
        order = np.argsort(-scores, kind="stable")[:7]
        assert found.columns[row].tolist() == order.tolist()
        assert found.scores[row].tolist() == scores[order].tolist()
    few = blockwise.nearest(matrix[:1], matrix[:2], 3, metric, own=np.zeros(1, np.int64))
    assert few.columns.tolist() == [[1, -1, -1]]
    assert np.isnan(few.scores[0, 1:]).all()
    assert blockwise.nearest(matrix[:0], matrix, 3).columns.shape == (0, 3)


def test_equal_works_are_in_their_own_order() -> None:
    matrix = np.tile(np.array([[0.3, 0.7]], np.float32), (6, 1))
    for metric in metrics.METRICS:
        assert blockwise.nearest(matrix[:1], matrix, 4, metric, np.array([2])).columns.tolist() == [[0, 1, 3, 4]]


def test_rankings_that_are_there_already(many) -> None:
    matrix, labels = many
    labels = [None if row % 11 == 0 else label for row, label in enumerate(labels)]
    works = [f"work {row // 2}" if row < 40 else None for row in range(300)]
    queries = np.arange(0, 300, 3)
    full = np.stack(
        [np.argsort(-metrics.similarities("cosine", matrix, matrix[row]), kind="stable") for row in queries]
    )
    told = judge_rankings(full, queries, labels, works=works, resamples=20)
    expected = judge(matrix, labels, queries=queries, works=works, resamples=20)
    assert told.queries.tolist() == expected.queries.tolist()
    assert told[3:] == expected[3:]
    for name, values in expected.values.items():
        assert told.values[name] == pytest.approx(values, abs=2e-3), name
    short = judge_rankings(full[:, :20], queries, labels, works=works, resamples=20)
    assert (short.values["map"] <= told.values["map"] + 1e-9).all()  # what is not ranked is not found
    assert short.values["recall@1"] == pytest.approx(told.values["recall@1"])
    padded = np.concatenate([full, np.full((len(queries), 3), -1)], axis=1)
    assert judge_rankings(padded, queries, labels, works=works, resamples=20).measures == told.measures


def test_rankings_of_some_candidates() -> None:
    told = judge_rankings([[1, 2, 3, 4]], [0], ["a", "a", "b", "a", "b"], candidates=[2, 3, 4])
    assert told.values["map"].tolist() == [1 / 2]  # 1 is passed over
    assert judge_rankings([[1, 2]], [0], ["a", "b", "b"], candidates=[]).without_relevant == 1
    assert judge_rankings(np.empty((0, 4), int), [], ["a"]).measures == {}


def test_clusters_widen_the_intervals() -> None:
    random = np.random.default_rng(3)
    artists = np.repeat(np.arange(20), 10)
    centres = random.normal(size=(20, 8)) * np.where(np.arange(20) % 2, 3, 0.3)[:, None]
    matrix = (centres[artists] + random.normal(size=(200, 8))).astype(np.float32)
    single, grouped = (judge(matrix, artists.tolist(), clusters=groups) for groups in (None, artists.tolist()))
    width = [found.measures["map"].high - found.measures["map"].low for found in (single, grouped)]
    assert width[1] > 1.5 * width[0]
    alone = judge(matrix, artists.tolist(), clusters=[None] * 200)
    assert alone.measures == single.measures


def test_two_methods_are_compared_on_the_same_queries(many) -> None:
    matrix, labels = many
    blind = np.random.default_rng(5).normal(size=matrix.shape).astype(np.float32)
    good, poor = judge(matrix, labels, resamples=10), judge(blind, labels, resamples=10)
    assert good.queries.tolist() == poor.queries.tolist()
    told = paired_bootstrap(good.values["map"], poor.values["map"])
    assert told.low > 0
    assert told.p < 0.01


def test_what_is_refused(many) -> None:
    matrix, labels = many
    for wrong, message in (
        (lambda: judge(matrix, labels[:-1]), "labels and works: expected 300 each, got 299 labels"),
        (lambda: judge(matrix, labels, works=["x"]), "labels and works: expected 300 each"),
        (lambda: judge(matrix, labels, queries=[300]), "rows: expected 0 to 299, got 300"),
        (lambda: judge(matrix, labels, candidates=[-1]), "rows: expected 0 to 299, got -1"),
        (lambda: judge(np.full_like(matrix, np.nan), labels), "expected a matrix of finite values"),
        (lambda: judge(-matrix, labels, "chi_square"), "expected histograms, got negative values"),
        (lambda: judge_rankings([[1, 1]], [0], ["a", "a"]), "expected every work once"),
        (lambda: judge_rankings([[9]], [0], ["a", "a"]), "rows: expected -1 to 1"),
        (lambda: judge_rankings([1], [0], ["a", "a"]), r"rankings: expected int\[Q, M\]"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    with pytest.raises(KeyError, match="manhattan"):
        judge(matrix, labels, "manhattan")


def test_the_result_says_what_it_is() -> None:
    assert Labelled._fields == ("measures", "values", "queries", "without_relevant", "unlabelled")
    names = ["map", "mrr", "r_precision", "p@5", "ndcg@5", "recall@1", "recall@5", "hit@1", "hit@5"]
    assert list(judge(LINE, list("aabba")).measures) == names
    assert "p@3" in judge(LINE, list("aabba"), k=3).measures
