"""A judging campaign over a store: its queries drawn, its methods asked, its pictures shown."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from artray.errors import ArtrayError, ConfigError
from artray.metrics.retrieval import K
from artray.retrieve import blockwise, judging, results_shown
from artray.retrieve.judging import Campaign, Method, Task
from artray.retrieve.results_shown import Shown
from artray.store import embedded, find, similar, views
from artray.store.layout import Store
from artray.store.pictures import Pictures
from artray.store.records import Records
from artray.store.vectors import metric_of

SHEET_SIDE_PX: Final = 2 * results_shown.CELL_PX
"""Longer side of the pictures of a sheet, as they are read: made small in good quality only then."""


def start(
    store: Store,
    methods: Sequence[str],
    queries: str,
    k: int = K,
    seed: int = 0,
    *,
    held_out: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> Campaign:
    """Ask the methods of a store for works like some queries.

    Args:
        store: whose works.
        methods: names, as of similar.similar.
        queries: how many, drawn by :func:`drawn`, or the path of a file with an image_id per line.
        k: results per method and query.
        seed: of the queries that are drawn and of the order in which results are shown.
        held_out: no query is a result of another one, as in the report.
        tell: is told how many questions are answered, and of how many.

    Raises:
        ConfigError: no or unknown methods, no works, fewer of them than results, or queries that are not there.
    """
    similar.check_methods(methods)
    holders = {method: similar.source(store, method) for method in methods}
    works = _works(store)
    if k < 1 or len(works) <= k:
        told = f"{len(works):,} works in {store.uri} and -k {k}"
        raise ConfigError(f"artray judge: expected more works than results, and at least 1 result, got {told}")
    chosen = drawn(works, _count(queries, len(works)), seed) if queries.isdecimal() else listed(Path(queries), works)
    without = frozenset(chosen) if held_out else frozenset[str]()
    names = frozenset(work["image_id"] for work in works)
    asked: dict[str, Method] = {
        method: _Asked(holder, chosen, k, names - without) for method, holder in holders.items()
    }
    return judging.campaign(judging.retrieve(asked, chosen, k, tell), k, seed, store.uri)


def drawn(works: Sequence[Mapping[str, Any]], count: int, seed: int = 0) -> list[str]:
    """Image_ids drawn by chance, the same number, as far as there are any, of each type and genre.

    So they are as diverse as the report's, who drew them by chance and looked through them.

    Args:
        works: {image_id, type, genre} each, in the order of image_id.
        count: how many, at most.
        seed: of the drawing.

    Source: report, Image Retrieval, section 3.
    """
    random = np.random.default_rng(seed)
    kinds: dict[tuple[str, str], list[str]] = {}
    for place in random.permutation(len(works)):
        work = works[place]
        kinds.setdefault((str(work["type"]), str(work["genre"])), []).append(work["image_id"])
    names = sorted(kinds)
    turns = [(turn, random.random(), name) for name in names for turn in range(len(kinds[name]))]
    return [kinds[name][turn] for turn, _, name in sorted(turns)[:count]]


def listed(path: Path, works: Sequence[Mapping[str, Any]]) -> list[str]:
    """The image_ids of a file, one per line, each once.

    Raises:
        ConfigError: it cannot be read, is empty, or has one that is not in the store.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--queries {path}: expected a number, or a text file of image_ids ({error})") from error
    names = list(dict.fromkeys(line for line in lines if line))
    known = {work["image_id"] for work in works}
    if missing := [name for name in names if name not in known]:
        hint = find.near(missing[0], known)
        raise ConfigError(f"--queries {path}: {missing[0]} is not a work of the store{hint}; artray find lists them")
    if not names:
        raise ConfigError(f"--queries {path}: expected an image_id per line, got none")
    return names


def _count(text: str, works: int) -> int:
    count = int(text)
    if not 1 <= count <= works:
        raise ConfigError(f"--queries: expected 1 to {works}, as many as there are works, got {count}")
    return count


def _works(store: Store) -> list[dict[str, Any]]:
    """The works that can be found, in the order of image_id."""
    statement = "SELECT image_id, type, genre FROM works WHERE error = '' ORDER BY image_id"
    with views.opened(Records.open(store)) as connection:
        return find.works(connection, statement, [])


class _Asked:
    """A method that is asked for all queries at once, as every one of its embeddings is read for it.

    Args:
        holder: whose embeddings.
        queries: image_ids.
        k: results of each.
        among: image_ids that can be results.
    """

    def __init__(self, holder: Store, queries: Sequence[str], k: int, among: frozenset[str]) -> None:
        self.holder, self.queries, self.k, self.among = holder, queries, k, among

    def __call__(self, query: str) -> list[tuple[str, float]]:
        return self._found[query]

    @cached_property
    def _found(self) -> dict[str, list[tuple[str, float]]]:
        """The first ``k`` works like each query, equal ones in the order of image_id."""
        records, metric = Records.open(self.holder), metric_of(self.holder.embedding)
        there = embedded.image_ids(records)
        if missing := [query for query in self.queries if query not in there]:
            raise ConfigError(f"{missing[0]}: has no embedding in {self.holder.uri}; name another query")
        vectors = embedded.matrix(records, self.queries)
        best: dict[str, list[tuple[float, str]]] = {query: [] for query in self.queries}
        for names, matrix in embedded.parts(records, there & self.among):
            row = {name: place for place, name in enumerate(names)}
            own = np.array([row.get(query, -1) for query in self.queries])
            near = blockwise.nearest(vectors, matrix, self.k, metric, own)
            for query, columns, scores in zip(self.queries, near.columns, near.scores, strict=True):
                new = [(-score, names[column]) for column, score in zip(columns, scores, strict=True) if column >= 0]
                best[query] = sorted([*best[query], *new])[: self.k]
        return {query: [(name, -float(score)) for score, name in found] for query, found in best.items()}


class Gallery:
    """Pictures of a campaign's works, read when they are asked for; the last one of each kind is kept.

    Use it as a context manager: inside, one process decodes all of them.

    Args:
        store: whose pictures.
        campaign: which works.
        side_px: their longer side, at most.

    Raises:
        ConfigError: a work is not there any more.
    """

    def __init__(self, store: Store, campaign: Campaign, side_px: int = results_shown.PAIR_PX) -> None:
        names = sorted({name for task in campaign.pooled for name in task})
        self.records = find.pictured(Records.open(store), names)
        if missing := [name for name in names if name not in self.records]:
            raise ConfigError(f"{missing[0]}: expected a work of {store.uri}, got none; the campaign is of another one")
        self.pictures, self.side_px, self.failed = Pictures(store), side_px, dict[str, str]()
        self._kept: dict[str, tuple[str, Shown]] = {}
        self._open = ExitStack()

    def __enter__(self) -> "Gallery":
        self._open.enter_context(self.pictures.kept(self.side_px))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def pair(self, task: Task) -> Any:
        """A query and a picture to judge as a PIL image; no names, which might give a judge ideas."""
        return results_shown.pair(self._shown("query", task.query), self._shown("candidate", task.image_id))

    def _shown(self, kind: str, image_id: str) -> Shown:
        name, shown = self._kept.get(kind, ("", Shown(None)))
        if name != image_id:
            shown = self.shown(image_id)
            self._kept[kind] = image_id, shown
        return shown

    def shown(self, image_id: str, caption: str = "") -> Shown:
        """A picture; none, and the reason in ``failed``, where it cannot be had."""
        try:
            return Shown(self.pictures.of_record(self.records[image_id], self.side_px).pixels, caption)
        except ArtrayError as error:
            self.failed[image_id] = str(error)
            return Shown(None, caption)


def sheet(gallery: Gallery, campaign: Campaign, query: str) -> Any:
    """A query and what each method found for it, with ranks and scores: a PIL image, as the report's Figures 1 to 6.

    Args:
        gallery: where the pictures come from; :data:`SHEET_SIDE_PX` is large enough.
        campaign: which campaign.
        query: one of its queries.

    Raises:
        ConfigError: no such query.
    """
    if query not in campaign.queries:
        raise ConfigError(f"{query}: expected a query of the campaign, one of {', '.join(campaign.queries)}")
    rows: dict[str, list[Shown]] = {method: [] for method in campaign.methods}
    for row in campaign.rankings:
        if row.query == query:
            rows[row.method].append(gallery.shown(row.image_id, results_shown.caption(row.rank, row.score)))
    return results_shown.draw(gallery.shown(query, query), rows)
