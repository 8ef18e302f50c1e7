"""A Ray cluster of the test's own, started as its users start one: ``ray start --head``."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

JOINED = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.1)
"""


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    """This process's, with a token and artray's cache in ``folder``."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "ARTRAY_CACHE": str(folder / "cache")}
    return dict(os.environ) | own | {"PATH": path}


@contextlib.contextmanager
def head(env: dict[str, str], ray_temp: Path, port: int, *options: str) -> Iterator[psutil.Process]:
    """A head node that listens on ``port``, until the end of the block; its process."""
    start = ["ray", "start", "--head", "--block", f"--port={port}", f"--temp-dir={ray_temp}", "--disable-usage-stats"]
    start += ["--object-store-memory=300000000", *options]
    with _started(start, env) as process:
        wait_for(port, process)
        yield process


@contextlib.contextmanager
def joined(env: dict[str, str], port: int, *options: str) -> Iterator[psutil.Process]:
    """A second node of the cluster whose head listens on ``port``, until the end of the block; its process.

    The block begins when the cluster counts it: Ray Train sizes an elastic training by the nodes that are there.
    """
    start = ["ray", "start", "--block", f"--address=127.0.0.1:{port}", "--disable-usage-stats", *options]
    with _started([*start, "--object-store-memory=100000000"], env) as process:
        subprocess.run([sys.executable, "-c", JOINED, f"127.0.0.1:{port}"], env=env, check=True, timeout=120)
        yield process


def kill(node: psutil.Process) -> None:
    """Power off a machine: the node's process and all below it, at once."""
    for process in [*node.children(recursive=True), node]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def _started(command: list[str], env: dict[str, str]) -> Iterator[psutil.Process]:
    node = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(node.pid)
    finally:  # not `ray stop`, which would stop every Ray of this machine
        family = psutil.Process(node.pid).children(recursive=True) if node.poll() is None else []
        node.terminate()
        psutil.wait_procs(family, timeout=15)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        node.kill()
        node.wait()


def wait_for(port: int, node: psutil.Process) -> None:
    """Until somebody listens on the port."""
    for _ in range(600):
        if listens(port):
            return
        assert node.status() != psutil.STATUS_ZOMBIE, "ray start ended"
        time.sleep(0.2)
    raise AssertionError(f"nobody listens on port {port}")


def listens(port: int) -> bool:
    """Whether somebody does, on this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
