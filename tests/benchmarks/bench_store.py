"""Questions of a store of made rows, each beside the bare call of the library that answers it.

    python -m tests.benchmarks.bench_store [--rows 100000] [--scratch DIR]

The bare calls are what somebody who knows DuckDB and Milvus would write by hand, over the same files and the same
collection, in turn with ours.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from artray.store import find, layout, similar, sql, views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.milvus_index import MilvusIndex
from artray.store.records import Records
from tests import made_store

ROWS, DIM, TIMES = 100_000, 1280, 9
FILTERS = Filters(type="painting", genre="portrait", objects=("dog:0.5",))
WHERE = (
    "vanished_at IS NULL AND type = 'painting' AND genre = 'portrait' "
    "AND len(list_filter(objects, lambda o: o.class_name = 'dog' AND o.score >= 0.5)) >= 1"
)
AGGREGATE = "SELECT type, genre, count(*), avg(type_score) FROM {} WHERE {}error = '' GROUP BY type, genre"
QUERY = "05/0000505.jpg"


def run(scratch: Path, rows: int = ROWS) -> dict[str, Any]:
    """Everything, over a store of ``rows`` made rows in ``scratch``, made if it is not there."""
    folder = scratch / f"made-{rows}-{DIM}"
    made = layout.open_store(folder) if (folder / "store.json").exists() else made_store.store(folder, rows, DIM)
    return {"rows": rows, "dim": DIM, "times": TIMES} | queries(made) | vectors(made)


def queries(store: Store) -> dict[str, Any]:
    """``find`` and ``sql`` beside DuckDB."""
    files = views.parts(Records.open(store))
    bare = duckdb.connect()
    source = f"read_parquet({files!r})"
    page = f"SELECT {find.COLUMNS} FROM {source} WHERE {WHERE} ORDER BY type_score DESC, image_id LIMIT 50"
    count = f"SELECT count(*) FROM {source} WHERE {WHERE}"
    result = {}
    with views.opened(Records.open(store)) as opened:
        result["find"] = compare(
            lambda: find.search(opened, FILTERS, sort="-type_score"),
            lambda: (bare.execute(page).fetchall(), bare.execute(count).fetchall()),
        )
    result["find, opening the store each time"] = compare(
        lambda: find.find(store, FILTERS, sort="-type_score"),
        lambda: (bare.execute(page).fetchall(), bare.execute(count).fetchall()),
    )
    begun = time.perf_counter()
    with sql.Session(store) as session:
        start_s = time.perf_counter() - begun
        result["sql"] = compare(
            lambda: session.query(AGGREGATE.format("works", "")),
            lambda: bare.execute(AGGREGATE.format(source, "vanished_at IS NULL AND ")).fetchall(),
        ) | {"start_s": round(start_s, 3)}
    return result


def vectors(store: Store) -> dict[str, Any]:
    """The vectors' synchronisation, and ``similar`` beside Milvus."""
    records = Records.open(store)
    with MilvusIndex(store) as index:
        begun = time.perf_counter()
        synced = index.sync(records)
        sync_s = time.perf_counter() - begun
    index = MilvusIndex(store)
    begun = time.perf_counter()
    hit = index.get(QUERY)
    start_s = time.perf_counter() - begun
    assert hit is not None
    client, vector = index._ready(), np.asarray(hit.embedding)

    def bare(expression: str = "") -> Any:
        return client.search(
            index.name,
            [vector],
            filter=expression,
            limit=51,
            output_fields=["image_id"],
            search_params={"params": {"ef": 128}},
        )

    filters = Filters(type="painting", objects=("dog",))
    expression = 'type == "painting" and objects like "%|dog|%"'
    with views.opened(records) as opened:
        ids = [hit["entity"]["image_id"] for hit in bare()[0]][:5]
        look_up = f"SELECT {find.COLUMNS} FROM works WHERE list_contains(?, image_id)"
        result = {
            "sync": {"s": round(sync_s, 1), "upserted": synced.upserted, "per_s": round(synced.upserted / sync_s)},
            "no-op sync": {"s": median([seconds(lambda: index.sync(records)) for _ in range(5)])},
            "start of the index": {"s": round(start_s, 2)},
            "similar": compare(lambda: similar.search(records, opened, QUERY, 5, index=index), bare),
            "similar, filtered": compare(
                lambda: similar.search(records, opened, QUERY, 5, filters, index=index), lambda: bare(expression)
            ),
            "similar, opening the store each time": compare(
                lambda: similar.similar(store, QUERY, 5, index=index), bare
            ),
            "look-up of five rows": {
                "s": median([seconds(lambda: find.works(opened, look_up, [ids])) for _ in range(5)])
            },
            "all records compared": {
                "s": median([seconds(lambda: similar.similar(store, QUERY, 5)) for _ in range(5)])
            },
            "recall of the index at 5": recall(store, index),
        }
    index.close()
    return result


def recall(store: Store, index: MilvusIndex, queries: int = 10) -> float:
    """The share of the exact five nearest that the index finds, too."""
    found = 0
    for number in range(queries):
        query = f"{number:02d}/{number * 101:07d}.jpg" if number else "00/0000000.jpg"
        names = [{work["image_id"] for work in similar.similar(store, query, 5, index=i).works} for i in (index, None)]
        found += len(names[0] & names[1])
    return found / (5 * queries)


def compare(ours: Callable[[], Any], bare: Callable[[], Any]) -> dict[str, float]:
    """Medians in seconds of both, in turn, and their ratio."""
    ours(), bare()
    pairs = [(seconds(ours), seconds(bare)) for _ in range(TIMES)]
    first, second = median([pair[0] for pair in pairs]), median([pair[1] for pair in pairs])
    return {"s": first, "bare_s": second, "ratio": round(first / second, 2)}


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def median(values: list[float]) -> float:
    """The median, in seconds to a tenth of a millisecond."""
    return round(statistics.median(values), 4)


def markdown(measured: Mapping[str, Any]) -> str:
    """A section with a table."""
    rows = [
        f"| {name} | {1000 * entry['s']:,.0f} | {_ms(entry.get('bare_s'))} | {entry.get('ratio', '')} |"
        for name, entry in measured.items()
        if isinstance(entry, Mapping)
    ]
    title = f"## Questions of a store of {measured['rows']:,} works with embeddings of {measured['dim']} values"
    head = "| question | ms | bare call, ms | ratio |\n|---|---:|---:|---:|\n"
    note = (
        f"Medians of {measured['times']}, in turn with bare calls of DuckDB and Milvus Lite on the same files. Of the "
        f"five nearest, the index finds {measured['recall of the index at 5']:.0%}. A process for SQL starts in "
        f"{measured['sql']['start_s']} s and answers any number of statements."
    )
    return f"{title}\n\n{note}\n\n{head}" + "\n".join(rows)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{1000 * value:,.0f}"


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description="Measure questions of a store.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--scratch", type=Path)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.stdout.write(json.dumps(run(told.scratch or Path(temporary), told.rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
