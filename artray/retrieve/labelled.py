"""Judge embeddings or rankings by labels, without a judge: what has the query's artist, genre or object is relevant.

What labels cannot see: two works of one genre need not look alike, and works that do need not share a genre. Labels
tell which of two methods is better at what they name.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from artray.metrics import retrieval
from artray.metrics.classification import RESAMPLES, Interval
from artray.metrics.resampling import intervals
from artray.retrieve import blockwise

Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Label: TypeAlias = Hashable | Iterable[Hashable] | None
"""One label, a set, list or tuple of several, or None where it is not known."""

SEVERAL: Final = (set, frozenset, list, tuple)


class Labelled(NamedTuple):
    """What labels make of a method; P@5 and so on are shares, mAP is the mean of average precisions."""

    measures: dict[str, Interval]  # by name, over the queries; empty without any
    values: dict[str, Doubles]  # by name: float64[Q], for a paired comparison with another method
    queries: Ints  # int64[Q]: the rows that were asked for
    without_relevant: int  # queries that no candidate is relevant to: left out
    unlabelled: int  # queries without a label: left out


class Relevance:
    """Which works share a label.

    Args:
        labels: one :data:`Label` per work.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        names: dict[Hashable, int] = {}
        several = [_several(label) for label in labels]
        codes = [[names.setdefault(name, len(names)) for name in found] for found in several]
        self.known: Bools = np.array([bool(found) for found in codes], np.bool_)
        self.codes: Ints = np.array([found[0] if found else -1 for found in codes], np.int64)
        self.members: Floats | None = None
        if any(len(found) > 1 for found in codes):
            self.members = np.zeros((len(codes), len(names)), np.float32)
            for row, found in enumerate(codes):
                self.members[row, found] = 1

    def __call__(self, rows: Ints, columns: Ints) -> Bools:
        """bool[B, C]: whether a work of ``rows`` int64[B] and one of ``columns`` int64[C] have a label in common."""
        if self.members is not None:
            shared: Bools = (self.members[rows] @ self.members[columns].T) > 0
            return shared
        same: Bools = (self.codes[rows, None] == self.codes[columns]) & self.known[rows, None]
        return same


def judge(
    embeddings: Floats,
    labels: Sequence[Label],
    metric: str = "cosine",
    *,
    queries: npt.ArrayLike | None = None,
    candidates: npt.ArrayLike | None = None,
    works: Sequence[Hashable | None] | None = None,
    clusters: Sequence[Hashable | None] | None = None,
    k: int = retrieval.K,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Labelled:
    """Rank all candidates for every query, and judge the rankings.

    Args:
        embeddings: float32[N, D].
        labels: N; works without one are neither asked for nor ranked. Give each of them a label of its own to have
            them ranked, as not relevant.
        metric: one of :data:`artray.retrieve.metrics.METRICS`.
        queries: int[_], the rows to ask for; None: all. Drawings, say, where ``candidates`` are photographs.
        candidates: int[_], the rows to rank; None: all. The query is never one of its own results.
        works: N names, the same for reproductions of the same work, which are no results either; None where there is
            no other one. Without, they count like any result.
        clusters: N names, the same for what is drawn together for the intervals, such as a work's artist; None stands
            alone. Without, single queries are drawn: of many alike that makes intervals that are too narrow.
        k: of P@k and the like.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        ``map``, ``mrr``, ``r_precision``, ``p@5``, ``ndcg@5`` (gains 1 and 0, log2), ``recall@1``, ``recall@5`` (the
        share of all relevant works), ``hit@1`` and ``hit@5`` (whether there is one).

    Raises:
        KeyError: an unknown metric.
        ValueError: lengths that differ, a row that is not there, or as of blockwise.closeness.

    >>> found = judge(np.array([[1, 0], [9, 1], [0, 1], [1, 9]], np.float32), ["a", "a", "b", "b"])
    >>> found.measures["map"].value, found.measures["p@5"].value, found.queries.tolist()
    (1.0, 0.2, [0, 1, 2, 3])
    """
    asked = _Asked(len(embeddings), labels, queries, candidates, works)
    compare = blockwise.closeness(metric, embeddings[asked.candidates])

    def ranked() -> Iterator[tuple[Ints, Bools]]:
        for part, close in blockwise.blocks(embeddings[asked.queries], compare):
            left_out = asked.left_out(asked.queries[part])
            order = blockwise.ranking(close, left_out)
            relevant = asked.relevance(asked.queries[part], asked.candidates) & ~left_out
            yield relevant.sum(axis=1), np.take_along_axis(relevant, order, axis=1)

    return _told(asked, ranked, clusters, k, resamples, seed)


def judge_rankings(
    rankings: npt.ArrayLike,
    queries: npt.ArrayLike,
    labels: Sequence[Label],
    *,
    candidates: npt.ArrayLike | None = None,
    works: Sequence[Hashable | None] | None = None,
    clusters: Sequence[Hashable | None] | None = None,
    k: int = retrieval.K,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Labelled:
    """:func:`judge` of rankings that are there already, such as those of a fusion.

    Args:
        rankings: int[Q, M], rows of works, the best first; -1 where there are no more. What is not ranked counts as
            found last of all: with M below the number of candidates ``map`` is a lower bound. Rows that are not
            candidates, or not labelled, are passed over.
        queries: int[Q], whose rankings these are.
        labels: as of :func:`judge`, and so is all that follows.
        candidates: likewise.
        works: likewise.
        clusters: likewise.
        k: likewise.
        resamples: likewise.
        seed: likewise.

    Raises:
        ValueError: as of :func:`judge`, or a ranking that has a work twice.
    """
    table, whose = np.asarray(rankings, np.int64), np.asarray(queries, np.int64)
    if table.ndim != 2 or whose.shape != table.shape[:1]:
        raise ValueError(f"rankings: expected int[Q, M] for Q queries, got {table.shape} for {whose.shape}")
    asked = _Asked(len(labels), labels, whose, candidates, works)
    place = np.full(len(labels) + 1, -1)  # of a row among the candidates; the last is that of -1
    place[asked.candidates] = np.arange(len(asked.candidates))
    columns = place[_inside(table, len(labels), -1)][asked.labelled]
    columns = columns if len(asked.candidates) else columns[:, :0]

    def ranked() -> Iterator[tuple[Ints, Bools]]:
        for start in range(0, len(columns), blockwise.ROWS):
            part = slice(start, start + blockwise.ROWS)
            rows, found = asked.queries[part], columns[part]
            left_out = asked.left_out(rows)
            relevant = asked.relevance(rows, asked.candidates) & ~left_out
            kept = (found >= 0) & ~np.take_along_axis(left_out, np.maximum(found, 0), axis=1)
            _check_once(np.where(kept, found, -1))
            order = np.argsort(~kept, axis=1, kind="stable")
            hits = np.take_along_axis(relevant, np.maximum(found, 0), axis=1) & kept
            yield relevant.sum(axis=1), np.take_along_axis(hits, order, axis=1)

    return _told(asked, ranked, clusters, k, resamples, seed)


class _Asked:
    """Which rows are queries, which are candidates, and which of these a query must not find."""

    def __init__(
        self,
        count: int,
        labels: Sequence[Label],
        queries: npt.ArrayLike | None,
        candidates: npt.ArrayLike | None,
        works: Sequence[Hashable | None] | None,
    ) -> None:
        if len(labels) != count or (works is not None and len(works) != count):
            told = f"{len(labels)} labels and {count if works is None else len(works)} works"
            raise ValueError(f"labels and works: expected {count} each, got {told}")
        self.relevance = Relevance(labels)
        every = np.arange(count)
        wanted = every if queries is None else _inside(np.asarray(queries, np.int64), count)
        ranked = every if candidates is None else np.unique(_inside(np.asarray(candidates, np.int64), count))
        self.labelled = self.relevance.known[wanted]
        self.queries, self.candidates = wanted[self.labelled], ranked[self.relevance.known[ranked]]
        self.works = every if works is None else _codes(works)

    def left_out(self, rows: Ints) -> Bools:
        """bool[B, C]: candidates that are the query itself, or the same work."""
        same: Bools = self.works[rows, None] == self.works[self.candidates]
        return same


def _told(
    asked: _Asked,
    ranked: Callable[[], Iterator[tuple[Ints, Bools]]],
    clusters: Sequence[Hashable | None] | None,
    k: int,
    resamples: int,
    seed: int,
) -> Labelled:
    """Measures of the queries that something is relevant to."""
    totals: list[Ints] = [np.empty(0, np.int64)]
    parts: list[dict[str, Doubles]] = []
    for total, relevant in ranked():
        totals.append(total)
        parts.append(_measures(relevant[total > 0], total[total > 0], k))
    some = np.concatenate(totals) > 0
    names = list(parts[0]) if parts else []
    values = {name: np.concatenate([part[name] for part in parts]) for name in names}
    kept = asked.queries[some]
    groups = None if clusters is None else _codes(clusters)[kept].tolist()
    measures = intervals(values, groups, resamples, seed) if len(kept) else {}
    return Labelled(measures, values, kept, int((~some).sum()), int((~asked.labelled).sum()))


def _measures(relevant: Bools, total: Ints, k: int) -> dict[str, Doubles]:
    """Of bool[B, M] by rank, and how many there are in all: float64[B] by name."""
    ideal = np.arange(k) < total[:, None]
    return {
        "map": retrieval.average_precision(relevant, total),
        "mrr": retrieval.reciprocal_rank(relevant),
        "r_precision": retrieval.r_precision(relevant, total),
        f"p@{k}": retrieval.precision_at(relevant, k),
        f"ndcg@{k}": retrieval.ndcg(relevant, k, ideal_of=ideal),
        "recall@1": retrieval.recall_at(relevant, total, 1),
        f"recall@{k}": retrieval.recall_at(relevant, total, k),
        "hit@1": retrieval.hit_at(relevant, 1),
        f"hit@{k}": retrieval.hit_at(relevant, k),
    }


def _several(label: Label) -> list[Hashable]:
    if label is None:
        return []
    return list(dict.fromkeys(label)) if isinstance(label, SEVERAL) else [cast("Hashable", label)]


def _codes(names: Sequence[Hashable | None]) -> Ints:
    """A number per name; each None has one of its own."""
    numbers: dict[Hashable, int] = {}
    found = [numbers.setdefault(("", row) if name is None else name, len(numbers)) for row, name in enumerate(names)]
    return np.array(found, np.int64)


def _inside(rows: Ints, count: int, least: int = 0) -> Ints:
    if rows.size and not least <= rows.min() <= rows.max() < count:
        raise ValueError(f"rows: expected {least} to {count - 1}, got {rows.min()} to {rows.max()}")
    return rows


def _check_once(columns: Ints) -> None:
    """Raises ValueError where a row of columns has one twice; -1 may be there often."""
    ordered = np.sort(columns, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("rankings: expected every work once, got one twice")
