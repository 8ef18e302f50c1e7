"""Where Ray runs: the cluster that RAY_ADDRESS names, or one of this machine that ends with the command."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from artray.errors import TransientError
from artray.location import first_line
from artray.pipeline.messages import Done

OBJECT_STORE_BYTES: Final = 512 * 2**20


@contextlib.contextmanager
def connected() -> Iterator[bool]:
    """Be connected to Ray; yields whether it is a cluster that was there before.

    Raises:
        TransientError: RAY_ADDRESS names a cluster that does not answer.
    """
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    from artray.pipeline import graph

    graph.quiet()
    address = os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield True
        return
    with _own_stderr():
        try:
            _init(address)
            yield bool(address)
        finally:
            ray.shutdown()


class Meters:
    """A run's counts among the cluster's metrics, which Ray's dashboard and Prometheus show.

    ``ray_artray_images_to_do{run_id}`` and ``ray_artray_images_total{run_id, outcome}``; the outcome is ``good`` or a
    kind of error.
    """

    def __init__(self, run_id: str, images: int) -> None:
        from ray.util.metrics import Counter, Gauge

        tags = {"run_id": run_id}
        to_do = Gauge("artray_images_to_do", "Images of a run's work list.", tag_keys=("run_id",))
        to_do.set(images, tags)
        self._images = Counter("artray_images", "Images that came out, by outcome.", tag_keys=("run_id", "outcome"))
        self._images.set_default_tags(tags)

    def add(self, done: Done) -> None:
        """A part came out."""
        outcomes = {"good": done.part.rows - sum(done.errors.values())} | done.errors
        for outcome, images in outcomes.items():
            if images:
                self._images.inc(images, {"outcome": outcome})


def _init(address: str | None) -> None:
    import ray

    try:
        if address:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=os.environ.get("ARTRAY_RAY_TEMP"),
            )
    except (RuntimeError, TimeoutError, OSError) as error:
        where = f"the cluster at {address}" if address else "a local Ray"
        raise TransientError(f"ray: {where} cannot be reached or started: {first_line(error)}") from error


@contextlib.contextmanager
def _own_stderr() -> Iterator[None]:
    """Keep what Ray's native code writes to standard error out of the progress bar, in a file that a good end removes.

    ``sys.stderr`` goes on to be the terminal; the descriptor 2 of this process alone is another one meanwhile.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    descriptor, name = tempfile.mkstemp(".log", f"artray-ray-{os.getpid()}-")
    path = Path(name)
    before = sys.stderr
    with (
        os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="backslashreplace") as own,
        os.fdopen(descriptor, "wb") as log,
    ):
        os.dup2(log.fileno(), 2)
        sys.stderr = own
        try:
            yield
            path.unlink(missing_ok=True)
        finally:
            sys.stderr = before
            os.dup2(terminal, 2)
