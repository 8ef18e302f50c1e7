"""``python -m tests.benchmarks.search``: searching the embeddings of a whole archive, 700,000 works by default.

Made embeddings that lie as real ones do (tests/made_vectors.py) in a store of made records; the index is built from the
records as ``artray index`` builds it, and asked as ``artray.store.similar`` asks it, in turn with a bare faiss graph of
the same vectors and parameters. The exact answer is a comparison with all vectors. Milvus Lite is asked at growing
sizes until a question takes longer than a user waits.
"""

import argparse
import concurrent.futures
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa

from artray import schema
from artray.store import hnsw_index, layout, searching, similar, views  # noqa: F401 - none is imported late
from artray.store.find import Filters
from artray.store.hnsw_index import HnswIndex
from artray.store.layout import Store, create_store
from artray.store.milvus_index import MilvusIndex
from artray.store.records import Records
from tests import made_store, made_vectors
from tests.benchmarks import machine

Floats = npt.NDArray[np.float32]

STEPS = ("build", "search", "lite")
QUERIES = 200
CLIENTS = 8
EFS = (16, 32, 64, 128, 256, 512)
FILTERS = Filters(type="painting", genre="still life", where=("artist~rembrandt", "year>=1700"))
"""Keeps about one work of a hundred."""

LITE_ROWS = (1_000, 10_000, 20_000, 50_000, 100_000)


def store_of(folder: Path, vectors: Floats) -> Store:
    """A store of made records with these embeddings."""
    if (folder / "store.json").exists():
        return layout.open_store(folder)
    made = create_store(folder)
    records, place, start = Records.create(made), schema.RECORD.get_field_index("embedding"), 0
    for table in made_store.tables(len(vectors), dim=1, batch=20_000):
        own = vectors[start : start + len(table)]
        column = made_store._lists(own, np.zeros(len(own), bool))
        failed = pa.compute.not_equal(table["error"], "")
        column = pa.compute.if_else(failed, pa.scalar(None, column.type), pa.chunked_array([column]))
        records.append(table.set_column(place, schema.RECORD.field(place), column))
        start += len(table)
    return made


def built(store: Store) -> dict[str, Any]:
    """How the index comes from the records: seconds, memory and size."""
    shutil.rmtree(store.vectors_path, ignore_errors=True)
    peak, stop = [0], threading.Event()
    process = psutil.Process()

    def watch() -> None:
        while not stop.wait(0.2):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    with HnswIndex(store) as index:
        synced = index.sync(Records.open(store))
    seconds = time.perf_counter() - begun
    stop.set()
    watcher.join()
    size = sum(path.stat().st_size for path in store.vectors_path.iterdir())
    return {"vectors": synced.count, "s": round(seconds, 1), "peak_mib": peak[0] >> 20, "size_mib": size >> 20}


def exact(vectors: Floats, queries: Floats, k: int) -> npt.NDArray[np.int64]:
    """int64[Q, k]: the nearest by a comparison with all."""
    return np.asarray(faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)[1])


def recall(found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], k: int) -> float:
    """The share of the k nearest that are among the k found."""
    return float(np.mean([len({*a[:k].tolist()} & {*b[:k].tolist()}) / k for a, b in zip(found, truth, strict=True)]))


def curve(graph: Any, queries: Floats, truth: npt.NDArray[np.int64]) -> list[dict[str, float]]:
    """Recall and latency of one query at a time, by the breadth of the search."""
    told = []
    for ef in EFS:
        parameters = faiss.SearchParametersHNSW(efSearch=ef)
        found, times = [], []
        for query in queries:
            begun = time.perf_counter()
            found.append(graph.search(query[None], 50, params=parameters)[1][0])
            times.append(time.perf_counter() - begun)
        table = np.array(found)
        told.append(
            {"ef": ef, "recall_5": recall(table, truth, 5), "recall_50": recall(table, truth, 50)} | spread(times)
        )
    return told


def spread(times: Sequence[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    ordered = sorted(1000 * one for one in times)
    return {"p50_ms": round(statistics.median(ordered), 2), "p95_ms": round(ordered[int(0.95 * (len(ordered) - 1))], 2)}


def timed(call: Callable[[Floats], Any], queries: Floats) -> tuple[list[Any], list[float]]:
    """The answers and how long each took."""
    answers, times = [], []
    for query in queries:
        begun = time.perf_counter()
        answers.append(call(query))
        times.append(time.perf_counter() - begun)
    return answers, times


def clients(call: Callable[[Floats], Any], queries: Floats) -> dict[str, float]:
    """Latencies under several clients at once, each in a thread, and answers per second of all."""
    times: list[float] = []

    def one(query: Floats) -> None:
        begun = time.perf_counter()
        call(query)
        times.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one, queries))
    return spread(times) | {"per_s": round(len(queries) / (time.perf_counter() - begun), 1)}


def searched(store: Store, vectors: Floats, queries: Floats) -> dict[str, Any]:
    """The index in this process, beside the bare graph, with and without a filter."""
    told: dict[str, Any] = {}
    with HnswIndex(store) as index:
        begun = time.perf_counter()
        index.search(queries[0], 21)
        told["first question, s"] = round(time.perf_counter() - begun, 2)
        loaded = index._current()
        graph = loaded.graph
        numbers = np.array([int(name[3:10]) for name in loaded.names.to_pylist()])
        order = numbers[loaded.positions]  # of the graph's rows, as the vectors are numbered
        held = vectors[order]
        truth = exact(held, queries, 50)
        told["curve"] = curve(graph, queries, truth)
        parameters = faiss.SearchParametersHNSW(efSearch=hnsw_index.SEARCH_EF)
        bare, ours = list[float](), list[float]()
        pair = (
            (bare, lambda q: graph.search(q[None], 21, params=parameters)),
            (ours, lambda q: index.search(q, 21)),
        )
        for number, query in enumerate(queries):  # in turn, each as often the first, which finds colder caches
            for times, ask in pair if number % 2 else pair[::-1]:
                times.extend(timed(ask, query[None])[1])
        told["bare graph"], told["index"] = spread(bare), spread(ours)
        told["index, with names and vectors"] = spread(timed(lambda q: list(index.search(q, 21)), queries)[1])
        told["ratio"] = round(statistics.median(ours) / statistics.median(bare), 2)
        told["index, 8 clients"] = clients(lambda q: index.search(q, 21), queries)
        told["bare graph, 8 clients"] = clients(lambda q: graph.search(q[None], 21, params=parameters), queries)
        records = Records.open(store)
        with views.opened(records) as connection:
            for name, filters in (("similar", None), ("similar, filtered", FILTERS)):
                ask = lambda q, f=filters: similar.search(records, connection, q, 5, f, index=index)  # noqa: E731
                ask(queries[0])
                answers, times = timed(ask, queries[:50])
                chosen = None if filters is None else index.choose(filters, records, connection)
                true = truth[:50] if chosen is None else chosen[exact(held[chosen], queries[:50], 5)]
                found = np.array([[_row(work["image_id"], order) for work in one.works] for one in answers])
                told[name] = spread(times) | {"recall_5": recall(found, true, 5)}
                if chosen is not None:
                    told[name] |= {"kept": round(len(chosen) / graph.ntotal, 4)}
                    told["choosing"] = spread(
                        timed(lambda _: index.choose(FILTERS, records, connection), queries[:20])[1]
                    )
                    told["search of the chosen"] = spread(
                        timed(lambda q, c=chosen: index.search(q, 21, c), queries[:50])[1]
                    )
    return told


def _row(image_id: str, order: npt.NDArray[np.int64]) -> int:
    return int(np.flatnonzero(order == int(image_id[3:10]))[0])


def lite(scratch: Path, vectors: Floats, queries: Floats) -> list[dict[str, Any]]:
    """Milvus Lite at growing sizes."""
    told = []
    for rows in LITE_ROWS:
        if rows > len(vectors):
            break
        folder = scratch / f"lite-{rows}"
        shutil.rmtree(folder, ignore_errors=True)
        store = store_of(folder, vectors[:rows])
        with MilvusIndex(store) as index:
            begun = time.perf_counter()
            index.sync(Records.open(store))
            seconds = time.perf_counter() - begun
            index.search(queries[0], 21)
            times = timed(lambda q: index.search(q, 21), queries[:20])[1]
        told.append({"rows": rows, "sync_s": round(seconds, 1)} | spread(times))
        shutil.rmtree(folder)
    return told


def run(scratch: Path, pictures: Path | None, rows: int, dim: int, wanted: Sequence[str]) -> dict[str, Any]:
    """The wanted steps; what was measured of the others before stays."""
    scratch.mkdir(parents=True, exist_ok=True)
    real = made_vectors.real(pictures, 2_000, scratch / "real.npy")
    vectors = np.concatenate(list(made_vectors.made(real, rows + QUERIES, dim)))
    vectors, queries = vectors[:rows], vectors[rows:]
    store = store_of(scratch / f"store-{rows}-{dim}", vectors)
    kept = scratch / "told.json"
    told = json.loads(kept.read_text()) if kept.exists() else {}
    told |= {"machine": machine.describe(), "rows": rows, "dim": dim}
    steps: dict[str, Callable[[], Any]] = {
        "build": lambda: built(store),
        "search": lambda: searched(store, vectors, queries),
        "lite": lambda: lite(scratch, vectors, queries),
    }
    for name, step in steps.items():
        if name in wanted:
            told[name] = step()
            kept.write_text(json.dumps(told, indent=1))
    return told


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=700_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--pictures", type=Path, help="whose embeddings others are made from; by default the sample's")
    parser.add_argument("--scratch", type=Path, required=True, help="kept, and used again")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    told = parser.parse_args()
    sys.stdout.write(json.dumps(run(told.scratch, told.pictures, told.rows, told.dim, told.steps), indent=1) + "\n")


if __name__ == "__main__":
    main()
