"""What the figures were measured on."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.benchmarks.observe import Cores

PACKAGES = ("artray", "ray", "torch", "daft", "simplejpeg", "pyarrow", "deltalake", "duckdb", "milvus-lite", "numpy")
QUIET_CORES = 0.3


def describe() -> dict[str, Any]:
    """Cores, processor, memory, versions and the date."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_1min": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def wait_quiet(most_s: float) -> None:
    """Wait until the machine does next to nothing, for so long at most."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        with Cores() as cores:
            begun = time.time()
            time.sleep(2.5)
        if cores.busy(begun, time.time())[0] < QUIET_CORES:
            return


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def missing(package: str) -> bool:
    """Whether a package is not installed."""
    return _version(package) == "not installed"
