"""What a store holds: counts by state, type, genre, object and error, its runs, and how far its vectors lag."""

from typing import Any, Final

from artray.errors import ArtrayError
from artray.store import views
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import opened

COUNTS: Final = {
    "types": "SELECT type, count(*) FROM works WHERE type IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1",
    "genres": "SELECT genre, count(*) FROM works WHERE genre IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1",
    "objects": "SELECT class_name, count(*) FROM objects GROUP BY 1 ORDER BY 2 DESC, 1",
    "errors": "SELECT error, count(*) FROM works WHERE error != '' GROUP BY 1 ORDER BY 2 DESC, 1",
}
"""Name to a query of (name, count)."""

RUN_KEYS: Final = ("run_id", "state", "started_at", "ended_at", "images", "done", "failed", "pending", "images_per_s")
RUNS: Final = 20
"""So many of the latest runs are told of."""


def status(store: Store) -> dict[str, Any]:
    """Counts of a store, as ``artray status --json`` prints them.

    Raises:
        ConfigError: the store has no records.
        TransientError: they cannot be read.
    """
    records = Records.open(store)
    runs = [{key: run.get(key) for key in RUN_KEYS} for run in store.runs(RUNS)]
    with views.opened(records) as database:
        states = _states(database, runs)
        counts = {name: dict(database.execute(query).fetchall()) for name, query in COUNTS.items()}
    described = store.read_json("store.json") or {}
    return (
        {"store": store.uri, "archive": described.get("archive"), "version": records.version}
        | states
        | counts
        | {"runs": runs, "vectors": _vectors(store, records)}
        | {"methods": {name: _method(store.method(name)) for name in store.methods()}}
    )


def _method(store: Store) -> dict[str, Any]:
    """What there is of another method's embeddings."""
    records = Records.open(store)
    with views.opened(records) as database:
        states = _states(database, store.runs(RUNS))
    described = store.embedding
    told = {key: described.get(key) for key in ("dimension", "metric")}
    return told | states | {"vectors": _vectors(store, records)}


def _states(database: views.Connection, runs: list[dict[str, Any]]) -> dict[str, int]:
    """How many images there are, by state; a pending one may have a row: of an older version, or of other models."""
    done, recorded = database.execute("SELECT count(*) FILTER (error = ''), count(*) FROM works").fetchall()[0]
    vanished = database.execute("SELECT count(*) FROM stored WHERE vanished_at IS NOT NULL").fetchall()[0][0]
    images = next((run["images"] for run in reversed(runs) if run["images"]), 0)
    pending = (runs[-1]["pending"] or 0) if runs else 0
    if runs and runs[-1]["state"] == "running":  # or killed: what it has committed is not in its report
        counted = "SELECT count(*) FROM works WHERE run_id = ?"
        pending -= min(pending, database.execute(counted, [runs[-1]["run_id"]]).fetchall()[0][0])
    return {
        "images": max(images, recorded),
        "done": done,
        "failed": recorded - done,
        "pending": pending,
        "vanished": vanished,
    }


def _vectors(store: Store, records: Records) -> dict[str, Any]:
    try:
        with opened(store) as index:
            return {"count": index.count, "lag": index.lag(records)}
    except ArtrayError as error:
        return {"count": None, "lag": None, "note": str(error)}
