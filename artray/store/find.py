"""Finding works by what was seen in them and by what their metadata say.

    found = find.find(store, Filters(type="painting", objects=("dog:0.5x2",)), limit=20, sort="-type_score")

User input reaches DuckDB as bound parameters only; the statements themselves are made of artray's own words.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from artray import taxonomy
from artray.errors import ERROR_KINDS, ConfigError
from artray.store import views
from artray.store.layout import Store
from artray.store.records import Records

COLUMNS: Final = (
    "image_id, uri, type, type_score, genre, genre_score, objects, mean_rgb, metadata, width_px, height_px, "
    "error, error_detail"
)
SORTS: Final = (
    "image_id",
    "type",
    "type_score",
    "genre",
    "genre_score",
    "type_entropy",
    "genre_entropy",
    "type_disagreement",
    "genre_disagreement",
    "objects",
    "width_px",
    "height_px",
    "size_bytes",
    "processed_at",
    "error",
)
"""What can be sorted by, besides metadata.KEY; an entropy in [0, 1] says how undecided a head's scores are,
a disagreement in [0, 1] how many other views of an image it would call something else."""

COMPUTED: Final = {
    "objects": "len(objects)",
    "type_entropy": "entropy(type_scores)",
    "genre_entropy": "entropy(genre_scores)",
}

WANTED: Final = re.compile(r"(?P<name>.+?)(?::(?P<score>[^:x]+))?(?:x(?P<count>[0-9]+))?")
SAID: Final = re.compile(r"(?P<key>[^=~<>]+?)\s*(?P<operator>>=|<=|=|~|<|>)\s*(?P<value>.+)", re.DOTALL)
NUMBER: Final = "[-+]?[0-9]+([.][0-9]+)?"
MAX_LIMIT: Final = 100_000


class Wanted(NamedTuple):
    """So many objects of a class or a category, each scoring so much."""

    name: str  # lower case
    score_min: float  # in [0, 1]
    count: int  # type: ignore[assignment]  # at least 1
    category: str = ""  # lower case; "" for any


class Said(NamedTuple):
    """What a work's metadata must say."""

    key: str
    operator: str  # = (the same, in any case), ~ (contains it, likewise), or <, <=, >, >= of the first number in it
    value: str


@dataclass(frozen=True)
class Filters:
    """What a work must be; all of it must hold, and what is None or empty does not matter.

    Args:
        type: a type's name, in any case.
        genre: a genre's name, likewise.
        objects: [CATEGORY/]CLASS[:MIN_SCORE][xCOUNT] each; a class or a category, such as "dog", "faces:0.9",
            "animalsx3" or "Persons/Mary".
        text: words that must all occur in image_id or metadata, in any case.
        error: one of errors.ERROR_KINDS, "any" for every failed image, "none" for every good one.
        where: KEY=VALUE, KEY~WORD, KEY>=NUMBER, ... each, of the metadata: "year>=1880" and "year<1890" for a decade.
    """

    type: str | None = None
    genre: str | None = None
    objects: tuple[str, ...] = ()
    text: str | None = None
    error: str | None = None
    where: tuple[str, ...] = ()

    def wanted(self) -> list[Wanted]:
        """The objects asked for."""
        return [parse_object(text) for text in self.objects]

    def others(self) -> bool:
        """Whether something is asked besides type, genre and objects."""
        return bool(self.text or self.error or self.where)

    def said(self) -> list[Said]:
        """What is asked of the metadata."""
        return [parse_where(text) for text in self.where]

    def __bool__(self) -> bool:
        return bool(self.type or self.genre or self.objects or self.others())


class Found(NamedTuple):
    """The works asked for, and how many there are in all."""

    count: int  # type: ignore[assignment]  # also a method of tuples
    works: list[dict[str, Any]]


class Clause(NamedTuple):
    """A condition with its bound parameters."""

    sql: str
    parameters: list[Any]


def parse_object(text: str) -> Wanted:
    """[CATEGORY/]CLASS[:MIN_SCORE][xCOUNT].

    >>> parse_object("Dog:0.5x2")
    Wanted(name='dog', score_min=0.5, count=2, category='')
    >>> parse_object("Persons/Mary")
    Wanted(name='mary', score_min=0.0, count=1, category='persons')

    Raises:
        ConfigError: it is not of that form.
    """
    match = WANTED.fullmatch(text.strip().lower())
    form = f"--object {text}: expected CLASS[:MIN_SCORE][xCOUNT], for example dog:0.5x2"
    if match is None:
        raise ConfigError(form)
    try:
        score, count = float(match["score"] or 0.0), int(match["count"] or 1)
    except ValueError as error:
        raise ConfigError(form) from error
    if not 0.0 <= score <= 1.0:
        raise ConfigError(f"--object {text}: expected a score in [0, 1], got {match['score']}")
    if not 1 <= count <= 10_000:
        raise ConfigError(f"--object {text}: expected a count from 1 to 10000, got {count}")
    category, _, name = match["name"].rpartition("/")
    return Wanted(name.strip(), score, count, category.strip())


def parse_where(text: str) -> Said:
    """KEY, an operator and a value.

    >>> parse_where("year >= 1880")
    Said(key='year', operator='>=', value='1880')

    Raises:
        ConfigError: it is not of that form, or there is no number to compare with.
    """
    match = SAID.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"--where {text}: expected KEY, one of = ~ < <= > >=, and a value, for example year>=1880")
    said = Said(**match.groupdict())
    if said.operator not in "=~" and not re.fullmatch(NUMBER, said.value):
        raise ConfigError(f"--where {text}: expected a number after {said.operator}, got {said.value}")
    return said


def find(
    store: Store, filters: Filters | None = None, *, limit: int = 50, sort: str = "image_id", offset: int = 0
) -> Found:
    """Works that pass the filters.

    Args:
        store: where to look.
        filters: what they must be; None for all.
        limit: how many to return, at most.
        sort: columns of :data:`SORTS` or metadata.KEY with commas between; a leading - sorts downwards. Works
            without a value come last; equal ones are in the order of image_id.
        offset: how many to skip.

    Returns:
        The count of all that pass, and of each returned one a dict of :data:`COLUMNS`: scores in [0, 1], boxes in
        pixels of the original, mean_rgb in [0, 255], metadata as a dict.

    Raises:
        ConfigError: an unknown name, or something of the wrong form.
    """
    with views.opened(Records.open(store)) as connection:
        return search(connection, filters or Filters(), limit=limit, sort=sort, offset=offset)


def search(
    connection: views.Connection, filters: Filters, *, limit: int = 50, sort: str = "image_id", offset: int = 0
) -> Found:
    """:func:`find` over an open connection (see views.opened)."""
    if not 0 <= limit <= MAX_LIMIT:
        raise ConfigError(f"--limit: expected 0 to {MAX_LIMIT}, got {limit}; export writes any number of works")
    if not 0 <= offset <= 2**62:
        raise ConfigError(f"offset: expected 0 or more, got {offset}")
    where, order = condition(filters), ordering(sort)
    count = one(connection, f"SELECT count(*) FROM works WHERE {where.sql}", where.parameters)  # noqa: S608
    if not count:
        check_names(connection, filters)
        return Found(0, [])
    statement = f"SELECT {COLUMNS} FROM works WHERE {where.sql} ORDER BY {order.sql} LIMIT ? OFFSET ?"  # noqa: S608
    parameters = [*where.parameters, *order.parameters, limit, offset]
    return Found(count, works(connection, statement, parameters))


def works(connection: views.Connection, statement: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows of a statement, in values that JSON knows."""
    rows = views.rows(connection.sql(statement, params=views.bound(parameters)).to_arrow_table())
    return [{name: views.plain(value) for name, value in row.items()} for row in rows]


def pictured(records: Records, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of those of the names that are images of a store what their pictures are read by: image_id, uri and version."""
    wanted = list(names)
    if not wanted:
        return {}
    statement = "SELECT image_id, uri, version FROM stored WHERE list_contains(?, image_id)"
    with views.opened(records) as connection:
        return {row["image_id"]: row for row in works(connection, statement, [wanted])}


def one(connection: views.Connection, statement: str, parameters: Sequence[Any] = ()) -> Any:
    """The only value of a statement."""
    return views.fetched(connection, statement, parameters)[0][0]


def condition(filters: Filters) -> Clause:
    """The filters as a condition on ``works``."""
    clauses = [
        *(_equal(name, value) for name, value in (("type", filters.type), ("genre", filters.genre)) if value),
        *(_objects(wanted) for wanted in filters.wanted()),
        *(_word(word) for word in (filters.text or "").split()),
        *([_error(filters.error)] if filters.error else []),
        *(_said(said) for said in filters.said()),
    ]
    sql = " AND ".join(clause.sql for clause in clauses) or "true"
    return Clause(sql, [value for clause in clauses for value in clause.parameters])


def _equal(column: str, value: str) -> Clause:
    return Clause(f"lower({column}) = ?", [value.strip().lower()])


def _objects(wanted: Wanted) -> Clause:
    both = "AND" if wanted.category else "OR"
    inside = f"lower(o.class_name) = ? {both} lower(o.category) = ?"
    sql = f"len(list_filter(objects, lambda o: ({inside}) AND o.score >= ?::FLOAT)) >= ?"
    return Clause(sql, [wanted.name, wanted.category or wanted.name, wanted.score_min, wanted.count])


def _word(word: str) -> Clause:
    values = "array_to_string(map_values(metadata), chr(10))"
    return Clause(f"(contains(lower(image_id), lower(?)) OR contains(lower({values}), lower(?)))", [word, word])


def _said(said: Said) -> Clause:
    if said.operator == "=":
        return Clause("lower(metadata[?]) = lower(?)", [said.key, said.value])
    if said.operator == "~":
        return Clause("contains(lower(metadata[?]), lower(?))", [said.key, said.value])
    number = f"try_cast(regexp_extract(metadata[?], '{NUMBER}') AS DOUBLE)"
    return Clause(f"{number} {said.operator} ?::DOUBLE", [said.key, float(said.value)])


def _error(kind: str) -> Clause:
    if kind in ("any", "none"):
        return Clause("error <> ''" if kind == "any" else "error = ''", [])
    if kind not in ERROR_KINDS:
        raise ConfigError(
            f"--error {kind}: expected any, none or one of {', '.join(ERROR_KINDS)}{near(kind, ERROR_KINDS)}"
        )
    return Clause("error = ?", [kind])


def ordering(sort: str) -> Clause:
    """ORDER BY's expressions; image_id last, so that the order is always the same.

    Raises:
        ConfigError: a column that cannot be sorted by.
    """
    parts: list[str] = []
    parameters: list[Any] = []
    for column in (text.strip() for text in sort.split(",") if text.strip()):
        name, direction = column.lstrip("+-"), "DESC" if column.startswith("-") else "ASC"
        if name.startswith("metadata."):
            key = name.removeprefix("metadata.")
            parts += [f"try_cast(metadata[?] AS DOUBLE) {direction} NULLS LAST", f"metadata[?] {direction} NULLS LAST"]
            parameters += [key, key]
        elif name in SORTS:
            parts.append(f"{COMPUTED.get(name, name)} {direction} NULLS LAST")
        else:
            raise ConfigError(f"--sort {name}: expected metadata.KEY or one of {', '.join(SORTS)}{near(name, SORTS)}")
    return Clause(", ".join([*parts, "image_id"]), parameters)


def check_names(connection: views.Connection, filters: Filters) -> None:
    """Say so where nothing was found because a name does not exist.

    Raises:
        ConfigError: a type, a genre or an object that neither artray nor this store knows.
    """
    for option, value, known in (("type", filters.type, taxonomy.TYPES), ("genre", filters.genre, taxonomy.GENRES)):
        if value:
            stored = _distinct(connection, f"SELECT DISTINCT {option} FROM works WHERE {option} IS NOT NULL")  # noqa: S608
            check_name(option, value, {*known, *stored})
    if filters.where:
        keys = metadata_keys(connection)
        for said in filters.said():
            if said.key not in keys:
                raise ConfigError(
                    f"--where {said.key}: expected a key of the metadata ({', '.join(sorted(keys)) or 'there is none'})"
                    f"{near(said.key, keys)}"
                )
    if filters.objects:
        stored = _distinct(connection, "SELECT DISTINCT unnest([class_name, category]) FROM objects")
        for wanted in filters.wanted():
            check_name("object", wanted.name, {*taxonomy.CATEGORY, *taxonomy.OBJECTS, *stored})
            if wanted.category:
                check_name("object", wanted.category, taxonomy.OBJECTS)
            if wanted.category not in ("", own := taxonomy.CATEGORY.get(wanted.name, wanted.category)):
                raise ConfigError(f"--object {wanted.category}/{wanted.name}: expected {own}/{wanted.name}")


def metadata_keys(connection: views.Connection) -> set[str]:
    """The keys of any work's metadata."""
    return set(_distinct(connection, "SELECT DISTINCT unnest(map_keys(metadata)) FROM works"))


def check_name(option: str, value: str, known: Iterable[str]) -> None:
    """Raises ConfigError where ``value`` is not among the known names, in any case."""
    names = sorted(set(known))
    if value.strip().lower() not in {name.lower() for name in names}:
        raise ConfigError(f"--{option} {value}: expected one of {', '.join(names)}{near(value, names)}")


def near(value: str, names: Iterable[str]) -> str:
    """A hint at names like ``value``, or nothing.

    >>> near("paintng", ["painting", "drawing"])
    '; did you mean painting?'
    """
    close = difflib.get_close_matches(value.lower(), list(names), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _distinct(connection: views.Connection, statement: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(statement).fetchall() if row[0] is not None]
