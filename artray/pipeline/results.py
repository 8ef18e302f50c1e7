"""What a running graph yields, in the thread of the run: it can be asked, stopped and waited for."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final

from artray.errors import ArtrayError, InvariantError, TransientError
from artray.location import first_line
from artray.pipeline.messages import Done

POLL_S: Final = 0.2
END_S: Final = 30.0
"""How long a graph that is to end may take."""


def finished(
    run: Callable[[], Iterator[Done]], end: threading.Event, go_on: Callable[[], None]
) -> Generator[Done | None, None, None]:
    """What the graph yields, as it comes, and None now and then, so that commits are due in time.

    Args:
        run: runs the graph, in a thread of its own, which is over when this generator is closed.
        end: ends the graph while it is set.
        go_on: raises where the user wants to stop.

    Raises:
        Interrupted: ``go_on`` raised it.
        ArtrayError: the graph failed.
    """
    arrived: queue.Queue[Done | BaseException | None] = queue.Queue(maxsize=1_000)
    thread = threading.Thread(target=_pump, args=(run, arrived), name="artray-graph", daemon=True)
    thread.start()
    try:
        while True:
            go_on()
            try:
                got = arrived.get(timeout=POLL_S)
            except queue.Empty:
                yield None
                continue
            if isinstance(got, BaseException):
                raise _foreign(got) from got
            if got is None:
                return
            yield got
    finally:
        end.set()
        _wait_for(thread, arrived)
        if not thread.is_alive():
            end.clear()


def _wait_for(thread: threading.Thread, arrived: "queue.Queue[Done | BaseException | None]") -> None:
    """Wait until the graph's thread is over, so long as one may wait; it is not to be stuck on a full queue."""
    deadline = time.monotonic() + END_S
    while thread.is_alive() and time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            arrived.get_nowait()
        thread.join(POLL_S)


def _pump(run: Callable[[], Iterator[Done]], arrived: "queue.Queue[Done | BaseException | None]") -> None:
    try:
        for done in run():
            arrived.put(done)
        arrived.put(None)
    except BaseException as error:  # noqa: BLE001 (handed to the thread that waits for it)
        arrived.put(error)


def _foreign(error: BaseException) -> ArtrayError:
    """What a worker or Ray raised, as one of ours."""
    from ray.exceptions import RayError

    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None)
        if isinstance(cause, ArtrayError):
            return cause.plain()
        if isinstance(seen, ArtrayError):
            return seen.plain()
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, (RayError, ConnectionError)):
        return TransientError(f"ray: the cluster failed: {first_line(error)}; run again to resume")
    return InvariantError(f"a worker failed: {first_line(error)}; please report this")
