"""A judging campaign: what several methods find for some queries, pooled, shown blind, and rated by several judges.

FILE.json               the campaign: which method found what at which rank; never changed once it is made
FILE.judgements.jsonl   a line per rating: who, when, query, image, rating; lines are only ever added

Source: report, Image Retrieval, sections 3 and 6: five results per method and query, each rated "without knowing from
which model at which rank it was returned".
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from artray.errors import ConfigError
from artray.metrics.retrieval import K

Method: TypeAlias = Callable[[str], Iterable[str | tuple[str, float]]]
"""What a method is here: from a query's image_id to image_ids, the best first, or to pairs of these and scores."""

RATINGS: Final[Mapping[int, str]] = MappingProxyType({3: "good match", 2: "okayish match", 1: "no match"})
VERSION: Final = 1
SUFFIX: Final = ".judgements.jsonl"
COLUMNS: Final = ("query", "method", "rank", "image_id", "score")


class Ranked(NamedTuple):
    """What a method found at a rank: a row of the table that a campaign is made of."""

    query: str
    method: str
    rank: int  # from 1
    image_id: str
    score: float | None = None


class Task(NamedTuple):
    """One picture to rate beside its query."""

    query: str
    image_id: str


class Judgement(NamedTuple):
    """What a judge said of a task."""

    by: str
    at: str  # ISO 8601, UTC
    query: str
    image_id: str
    rating: int  # of RATINGS


class Judgements(NamedTuple):
    """What was said: by judge, then by task; the last word of each judge on each task."""

    ratings: dict[str, dict[Task, int]]
    broken: int = 0  # lines that could not be read, as a crash leaves them


@dataclass(frozen=True)
class Campaign:
    """What is to be judged.

    Args:
        store: where the works are; "" where that is not said.
        k: results per method and query.
        seed: of the random order in which they are shown.
        queries: image_ids.
        methods: names.
        rankings: ``k`` rows for each query and method, in this order.
    """

    store: str
    k: int
    seed: int
    queries: tuple[str, ...]
    methods: tuple[str, ...]
    rankings: tuple[Ranked, ...]

    @cached_property
    def name(self) -> str:
        """16 hexadecimal digits that change with anything in it: judgements carry them."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def found(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """The image_ids that a method found for a query, by (query, method), the best first."""
        told: dict[tuple[str, str], tuple[str, ...]] = {}
        for row in self.rankings:
            told[row.query, row.method] = (*told.get((row.query, row.method), ()), row.image_id)
        return told

    def pool(self, query: str) -> list[str]:
        """What was found for a query by any method, each once, in the order of image_id."""
        return sorted({image_id for method in self.methods for image_id in self.found[query, method]})

    @cached_property
    def pooled(self) -> frozenset[Task]:
        """All that is to be rated."""
        return frozenset(Task(query, image_id) for query in self.queries for image_id in self.pool(query))

    def tasks(self, judge: str) -> list[Task]:
        """What a judge is to rate, query by query, in a random order: the same for the same judge at any time.

        Judges have orders of their own, so that what comes late, or beside what, is not the same for all of them.
        """
        digest = hashlib.sha256(f"{self.name} {judge}".encode()).digest()
        random = np.random.default_rng([self.seed, int.from_bytes(digest[:8], "big")])
        shown: list[Task] = []
        for number in random.permutation(len(self.queries)):
            query = self.queries[number]
            pool = self.pool(query)
            shown += [Task(query, pool[place]) for place in random.permutation(len(pool))]
        return shown


def retrieve(
    methods: Mapping[str, Method],
    queries: Sequence[str],
    k: int = K,
    tell: Callable[[int, int], None] | None = None,
) -> list[Ranked]:
    """Ask every method for every query; a query that is among its own results is passed over.

    Args:
        methods: by name.
        queries: image_ids.
        k: how many results.
        tell: is told how many questions are answered, and of how many.

    Raises:
        ConfigError: a method found fewer than ``k``.
    """
    rows: list[Ranked] = []
    for number, query in enumerate(queries):
        for place, (name, method) in enumerate(methods.items()):
            pairs = [(one[0], float(one[1])) if isinstance(one, tuple) else (one, None) for one in method(query)]
            kept = [pair for pair in pairs if pair[0] != query][:k]
            if len(kept) < k:
                raise ConfigError(f"{name}: expected {k} works like {query}, found {len(kept)}; ask for fewer with -k")
            rows += [Ranked(query, name, rank, *pair) for rank, pair in enumerate(kept, 1)]
            if tell is not None:
                tell(number * len(methods) + place + 1, len(queries) * len(methods))
    return rows


def campaign(rankings: Iterable[Ranked | Mapping[str, Any]], k: int = K, seed: int = 0, store: str = "") -> Campaign:
    """A campaign of a table of results: rows of query, method, rank, image_id and score, in any order.

    Args:
        rankings: the rows; ranks above ``k`` are left out.
        k: results per method and query.
        seed: of the order in which they are shown.
        store: where the works are.

    Raises:
        ConfigError: no rows, a row of another form, or a method that does not have ranks 1 to ``k`` of a query once.
    """
    rows = [row if isinstance(row, Ranked) else _row(row) for row in rankings]
    queries, methods = tuple(dict.fromkeys(r.query for r in rows)), tuple(dict.fromkeys(r.method for r in rows))
    if not rows or k < 1:
        raise ConfigError(f"campaign: expected results and k of at least 1, got {len(rows)} results and k {k}")
    by_pair: dict[tuple[str, str], list[Ranked]] = {}
    for row in rows:
        if row.rank <= k:
            by_pair.setdefault((row.query, row.method), []).append(row)
    kept: list[Ranked] = []
    for query in queries:
        for method in methods:
            found = sorted(by_pair.get((query, method), []), key=lambda row: row.rank)
            _check_ranks(query, method, found, k)
            kept += found
    return Campaign(store, k, seed, queries, methods, tuple(kept))


def _row(values: Mapping[str, Any]) -> Ranked:
    try:
        score = values.get("score")
        names = (str(values["query"]), str(values["method"]), int(values["rank"]), str(values["image_id"]))
        return Ranked(*names, None if score is None else float(score))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"campaign: expected rows of {', '.join(COLUMNS)}, got {values!r:.200}") from error


def _check_ranks(query: str, method: str, found: Sequence[Ranked], k: int) -> None:
    if [row.rank for row in found] != list(range(1, k + 1)):
        told = ", ".join(str(row.rank) for row in found) or "none"
        raise ConfigError(f"{method}: expected ranks 1 to {k} for {query}, got {told}; rank so many works, or lower k")
    names = [row.image_id for row in found]
    if len(set(names)) < k or query in names:
        raise ConfigError(f"{method}: expected {k} different works for {query}, and not itself, got {', '.join(names)}")


def save(made: Campaign, path: Path) -> None:
    """Write a campaign as JSON.

    Raises:
        ConfigError: the file is there already, for judgements may refer to it, or it cannot be written.
    """
    from artray.store.export import replacing

    if path.exists():
        raise ConfigError(f"{path}: expected a new file, got one that is there; name another, or remove it")
    document = {"artray_campaign": VERSION, "name": made.name} | asdict(made)
    document["rankings"] = [row._asdict() for row in made.rankings]
    with replacing(path) as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=False).encode())


def load(path: Path) -> Campaign:
    """Read a campaign.

    Raises:
        ConfigError: there is none, it is something else, or it was changed after it was made.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); artray judge start makes a campaign") from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected a campaign, got no JSON ({error})") from error
    version = document.get("artray_campaign") if isinstance(document, dict) else None
    if version != VERSION:
        raise ConfigError(f"{path}: expected a campaign of version {VERSION}, got {version}")
    try:
        made = campaign(document["rankings"], int(document["k"]), int(document["seed"]), str(document["store"]))
        told = str(document["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: expected a campaign, got one that lacks {error}") from error
    if made.name != told:
        raise ConfigError(f"{path}: expected campaign {told}, got {made.name}: it was changed after it was made")
    return made


def judgements_path(path: Path) -> Path:
    """Where the judgements of a campaign are.

    >>> judgements_path(Path("kin.json")).name
    'kin.judgements.jsonl'
    """
    return path.with_name(f"{path.stem}{SUFFIX}")


def judge(path: Path, made: Campaign, by: str, task: Task, rating: int) -> Judgement:
    """Add a rating to a file of judgements; it takes the place of what this judge said of the task before.

    Raises:
        ConfigError: no such rating, a task that is not in the campaign, a judge without a name, or the file cannot be
            written.
    """
    said = Judgement(by.strip(), datetime.now(timezone.utc).isoformat(timespec="milliseconds"), *task, rating)
    _check(made, said, "judgement")
    line = json.dumps({"campaign": made.name} | said._asdict(), ensure_ascii=False) + "\n"
    try:
        with path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
                line = f"\n{line}"  # the line before was cut short by a crash: it spoils itself only
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); make room, or see its permissions") from error
    return said


def judgements(made: Campaign, paths: Iterable[Path]) -> Judgements:
    """What was said in one or more files; a later line replaces an earlier one of the same judge and task.

    Args:
        made: the campaign.
        paths: the files, in this order; one that is not there has nothing.

    Raises:
        ConfigError: a file cannot be read, or a line is of another campaign or no judgement; names the line.
    """
    told, broken = dict[str, dict[Task, int]](), 0
    for path in paths:
        try:
            lines = path.read_bytes().split(b"\n") if path.exists() else []
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        for number, line in enumerate(lines, 1):
            said = _parsed(line)
            if said is None:
                broken += bool(line.strip())
                continue
            found = _read(made, said, f"{path}, line {number}")
            told.setdefault(found.by, {})[Task(found.query, found.image_id)] = found.rating
    return Judgements(told, broken)


def _parsed(line: bytes) -> Any:
    """A line's JSON, None where it has none: an empty line, or one that was cut short."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _read(made: Campaign, said: Any, where: str) -> Judgement:
    try:
        name, found = said["campaign"], Judgement(**{column: said[column] for column in Judgement._fields})
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{where}: expected a judgement, got {json.dumps(said):.200}") from error
    if name != made.name:
        raise ConfigError(f"{where}: expected a judgement of campaign {made.name}, got one of {name}; keep them apart")
    _check(made, found, where)
    return found


def _check(made: Campaign, said: Judgement, where: str) -> None:
    if type(said.rating) is not int or said.rating not in RATINGS:
        told = ", ".join(f"{rating} ({name})" for rating, name in RATINGS.items())
        raise ConfigError(f"{where}: expected a rating of {told}, got {said.rating!r}")
    if Task(said.query, said.image_id) not in made.pooled:
        raise ConfigError(f"{where}: {said.image_id} was not found for {said.query} in campaign {made.name}")
    if not isinstance(said.by, str) or not said.by:
        raise ConfigError(f"{where}: expected a judge's name, got none; give one with --by")
