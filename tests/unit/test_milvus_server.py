"""Vectors on a Milvus server: Milvus Lite's own, which speaks what a large one speaks, over the network."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artray.config import StoreConfig
from artray.store import vectors
from artray.store.find import Filters
from artray.store.milvus_index import MilvusIndex
from artray.store.records import Records
from artray.store.similar import similar
from tests import made_store

pytest.importorskip("milvus_lite")

QUERY = "01/0000001.jpg"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server's URI."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("milvus")
    arguments = ["server", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "milvus_lite", *arguments], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_two_stores_on_one_server_do_not_mix(server: str, tmp_path: Path) -> None:
    first, second = (made_store.store(tmp_path / name, 120, seed=seed) for seed, name in enumerate(("a", "b")))
    cfg = StoreConfig(milvus_uri=server)
    for store in (first, second):
        assert vectors.sync(store, cfg).count == 117
        with vectors.opened(store, cfg=cfg) as index:
            assert isinstance(index, MilvusIndex)
            assert index.lag(Records.open(store)) == 0
            for filters in (Filters(), Filters(type="painting"), Filters(objects=("animals",))):
                found = similar(store, QUERY, 5, filters, index=index)
                assert found.works == similar(store, QUERY, 5, filters).works
                assert found.note == ""


def test_what_another_program_dropped_is_made_again(server: str, tmp_path: Path) -> None:
    store, cfg = made_store.store(tmp_path / "store", 60), StoreConfig(milvus_uri=server)
    vectors.sync(store, cfg)
    with MilvusIndex(store, server) as index:
        index._connected().drop_collection(index.name)
        (index.folder / "index.json").remove()
        assert index.sync(Records.open(store)).count == index.count == 59
