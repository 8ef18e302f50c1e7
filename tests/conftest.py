"""What many tests share: an S3 server on this machine, and no settings of the developer's own."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from artray.store.layout import Store

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch does the module's arithmetic in one thread: small networks are faster so, and the same bit for bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of a moto server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield endpoint
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def s3_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new bucket; the AWS environment leads to it, for this process and for those that it starts."""
    from artray.archive import s3

    for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": s3_server, "AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    s3.client.cache_clear()
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=bucket)
    yield bucket
    s3.client.cache_clear()


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster, no cards and no cache of the developer's own."""
    for name in ("RAY_ADDRESS", "ARTRAY_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    assert os.environ.get("RAY_ADDRESS") is None


@pytest.fixture(scope="session")
def ray_temp() -> Iterator[Path]:
    """A folder for Ray's sessions with a short name, as the names of its sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def store(tmp_path: Path) -> "Store":
    """A new store without records, in a folder with an awkward name."""
    from artray.store.layout import create_store

    return create_store(tmp_path / "it's a [store] #1?")


@pytest.fixture(params=["disk", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> "Store":
    """A new store without records, on disk and on S3."""
    from artray.store.layout import create_store

    if request.param == "disk":
        return create_store(tmp_path / "store")
    return create_store(f"s3://{request.getfixturevalue('s3_bucket')}/some/store")
