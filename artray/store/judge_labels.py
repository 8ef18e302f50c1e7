"""A store's methods judged by labels: which finds more works of the query's artist, genre, object or class.

See artray.retrieve.labelled for what is measured, and :mod:`artray.store.judge` for what people say.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from artray.errors import ConfigError
from artray.metrics import retrieval
from artray.metrics.resampling import comparisons
from artray.retrieve import blockwise, labelled, ranking
from artray.retrieve.labelled import Labelled
from artray.store import embedded, find, similar, views
from artray.store.find import Clause
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import metric_of

Ints = npt.NDArray[np.int64]

COLUMNS: Final = {
    "type": "nullif(type, '')",
    "genre": "nullif(genre, '')",
    "objects": "list_distinct(list_transform(objects, lambda o: o.class_name))",
}
"""What of a record can be a label, besides metadata.KEY."""

FUSED_CELLS: Final = 2**28
"""Ranks that are held in memory where methods are fused, at most."""


class Question(NamedTuple):
    """By what methods are judged, and on which works.

    Args:
        label: ``type``, ``genre``, ``objects`` or ``metadata.KEY``: works that share it with a query are relevant.
        same_work: likewise; works that share this with a query are the same one, and no results.
        clusters: likewise; queries that share this, such as an artist, are drawn together for the intervals.
        asked: which works are queries: KEY=VALUE and so on of the metadata, as of find.Filters.where.
        among: which works can be results, likewise.
        others: whether works without the label are results, too, which are not relevant; else they are not ranked.
        most: at most so many queries, drawn by chance; None for all.
        k: of P@k and the like.
        seed: of all that is drawn.
    """

    label: str
    same_work: str | None = None
    clusters: str | None = None
    asked: tuple[str, ...] = ()
    among: tuple[str, ...] = ()
    others: bool = False
    most: int | None = None
    k: int = retrieval.K
    seed: int = 0


class Works(NamedTuple):
    """The works of a store, in the order of image_id."""

    names: list[str]
    labels: list[Any]
    same: list[Any] | None
    clusters: list[Any] | None
    queries: Ints  # their rows
    candidates: Ints


def judge(
    store: Store, methods: Sequence[str], question: Question, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """What labels make of the methods, all of them on the same works: those that have an embedding by each.

    Args:
        store: whose.
        methods: names, as of similar.similar; A+B fuses the rankings of A and B, as ``similar`` does.
        question: by what.
        tell: is told which method is being judged.

    Returns:
        As ``artray judge labels --json`` prints it: ``methods`` by name, each measure of labelled.judge with value, low
        and high; ``comparisons`` of each pair on the same queries; how many works and queries there are.

    Raises:
        ConfigError: unknown methods or labels, or nothing to judge by.
    """
    similar.check_methods(methods)
    if not 1 <= question.k <= similar.MAX_K:
        raise ConfigError(f"-k: expected 1 to {similar.MAX_K}, got {question.k}")
    if question.most is not None and question.most < 1:
        raise ConfigError(f"--queries: expected at least 1, got {question.most}")
    if "objects" in (question.same_work, question.clusters):
        raise ConfigError("--same-work and --clusters: expected what a work has one of, got objects")
    names = dict.fromkeys(part for method in methods for part in method.split("+"))
    holders = {name: Records.open(similar.source(store, name)) for name in names}
    works = _works(store, question, [*holders.values()])
    judged: dict[str, Labelled] = {}
    for method in methods:
        tell(method)
        judged[method] = _judged([holders[part] for part in method.split("+")], works, question)
    first = judged[methods[0]]
    if not len(first.queries):
        raise ConfigError(f"{question.label}: expected works that share it, got none; name another label")
    compared = {name: {key: each.values[key] for key in ("map", f"p@{question.k}")} for name, each in judged.items()}
    groups = None if works.clusters is None else [works.clusters[row] or row for row in first.queries.tolist()]
    return {
        "store": store.uri,
        **question._asdict(),
        "works": sum(bool(works.labels[row]) for row in works.candidates.tolist()),
        "queries": len(first.queries),
        "without_relevant": first.without_relevant,
        "methods": {name: {key: one._asdict() for key, one in each.measures.items()} for name, each in judged.items()},
        "comparisons": comparisons(compared, groups, seed=question.seed),
    }


def _judged(holders: Sequence[Records], works: Works, question: Question) -> Labelled:
    """One method, or the fusion of several."""
    told: dict[str, Any] = {"candidates": works.candidates, "works": works.same, "clusters": works.clusters}
    told |= {"k": question.k, "seed": question.seed}
    if len(holders) == 1:
        matrix = embedded.matrix(holders[0], works.names)
        return labelled.judge(
            matrix, works.labels, metric_of(holders[0].store.embedding), queries=works.queries, **told
        )
    if len(works.queries) * len(works.candidates) > FUSED_CELLS:
        raise ConfigError(
            f"--queries: expected at most {FUSED_CELLS // len(works.candidates):,} where methods are fused, of "
            f"{len(works.candidates):,} works, got {len(works.queries):,}"
        )
    return labelled.judge_rankings(_fused(holders, works), works.queries, works.labels, **told)


def _fused(holders: Sequence[Records], works: Works) -> Ints:
    """int64[Q, C]: the rows of all candidates, by the sum of reciprocal ranks."""
    sums = np.zeros((len(works.queries), len(works.candidates)))
    columns = np.arange(len(works.candidates))
    for holder in holders:
        matrix = embedded.matrix(holder, works.names)
        compare = blockwise.closeness(metric_of(holder.store.embedding), matrix[works.candidates])
        for part, close in blockwise.blocks(matrix[works.queries], compare):
            order = blockwise.ranking(close, works.queries[part, None] == works.candidates)
            ranks = np.empty(order.shape)
            np.put_along_axis(ranks, order, columns + 1.0, axis=1)
            sums[part] += 1 / (ranking.RANK_OFFSET + ranks)
    fused: Ints = works.candidates[np.argsort(-sums, axis=1, kind="stable")]
    return fused


def _works(store: Store, question: Question, holders: Sequence[Records]) -> Works:
    """What there is to judge by, of the works that have an embedding by each method."""
    records = Records.open(store)
    there = [embedded.image_ids(holder) for holder in holders]
    with views.opened(records) as connection:
        filters = [find.Filters(where=where) for where in (question.asked, question.among)]
        for each in filters:
            find.check_names(connection, each)
        keys = (question.label, question.same_work, question.clusters)
        columns = [_column(connection, key) for key in keys]
        conditions = [find.condition(each) for each in filters]
        selected = ", ".join(clause.sql for clause in (*columns, *conditions))
        statement = f"SELECT image_id, {selected} FROM works WHERE error = '' ORDER BY image_id"  # noqa: S608
        parameters = [value for clause in (*columns, *conditions) for value in clause.parameters]
        rows = views.fetched(connection, statement, parameters)
    kept = [row for row in rows if all(row[0] in names for names in there)]
    names, labels, same, clusters, _, among = ([row[column] for row in kept] for column in range(6))
    queries = np.flatnonzero([bool(row[1] and row[4]) for row in kept])
    if question.most is not None and len(queries) > question.most:
        queries = np.sort(np.random.default_rng(question.seed).choice(queries, question.most, replace=False))
    return Works(
        names,
        [label or (("", row) if question.others else None) for row, label in enumerate(labels)],
        None if question.same_work is None else same,
        None if question.clusters is None else clusters,
        queries,
        np.flatnonzero(np.array(among, bool)),
    )


def _column(connection: views.Connection, key: str | None) -> Clause:
    """What a work is labelled with: null where it is not.

    Raises:
        ConfigError: there is no such thing.
    """
    if key is None:
        return Clause("NULL", [])
    if key in COLUMNS:
        return Clause(COLUMNS[key], [])
    keys = find.metadata_keys(connection)
    name = key.removeprefix("metadata.")
    if name == key or name not in keys:
        known = [*COLUMNS, *(f"metadata.{each}" for each in sorted(keys))]
        raise ConfigError(f"{key}: expected one of {', '.join(known)}{find.near(key, known)}")
    return Clause("nullif(metadata[?], '')", [name])
