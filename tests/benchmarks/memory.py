"""Memory: the most that `artray process` holds must not grow with the archive.

The bundled profile as it is, vectors included; the pictures are small, so that thousands take minutes.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from artray.archive.sample.make import write_archive
from tests.benchmarks import contest
from tests.benchmarks.observe import Memory

MEGAPIXELS: Final = (0.2, 0.2)
WITH_VECTORS: Final = ("store.index=true",)
GROWTH_MAX: Final = 0.15


def run(sizes: Sequence[int], scratch: Path, cores: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Peak memory of a run over each number of pictures, and how much the largest exceeds the smallest."""
    measured = []
    for images in sorted(sizes):
        measured.append(one := _measure(images, scratch, cores))
        tell(f"memory: {images} images: {one['peak_bytes'] / 2**20:,.0f} MiB, {one['wall_s']:.0f} s")
    peaks = [one["peak_bytes"] for one in measured]
    growth = (peaks[-1] - peaks[0]) / peaks[0] if len(peaks) > 1 else None
    return {"what": "peak PSS of the process tree", "runs": measured, "growth": growth, "growth_max": GROWTH_MAX}


def _measure(images: int, scratch: Path, cores: int) -> dict[str, Any]:
    """One run, in a process of its own, looked at every 0.2 s."""
    archive, out = scratch / f"small-{images}", scratch / "out"
    if not archive.exists():
        write_archive(archive, images, megapixels=MEGAPIXELS)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    setting = contest.Setting(archive, images, scratch, cores, WITH_VECTORS)
    begun = time.monotonic()
    with (out / "log").open("wb") as log:
        process = subprocess.Popen(
            contest.pinned(contest.artray(setting, out), cores),
            stdout=log,
            stderr=log,
            cwd=contest.ROOT,
            env=os.environ | {"PYTHONPATH": str(contest.ROOT)},
        )
        with Memory(process.pid) as memory:
            process.wait(contest.TIMEOUT_S)
    if process.returncode:
        raise RuntimeError((out / "log").read_text(encoding="utf-8", errors="replace")[-500:])
    rows, _ = contest.count(out)
    return {
        "images": images,
        "rows": rows,
        "peak_bytes": memory.peak_bytes,
        "samples": memory.samples,
        "wall_s": time.monotonic() - begun,
    }
