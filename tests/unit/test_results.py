"""A graph's results can be asked for, waited for and stopped."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from artray.errors import ConfigError, InvariantError, TransientError
from artray.pipeline import results
from artray.pipeline.messages import Done
from artray.store.records import Part

DONE = Done(Part("part.parquet", 1, 1), True, {}, 0.0)


class Graph:
    """Yields for ever, until its end is wanted."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.end, self.pause_s, self.over = threading.Event(), pause_s, False

    def run(self) -> Iterator[Done]:
        while not self.end.is_set():
            time.sleep(self.pause_s)
            yield DONE
        self.over = True
        raise RuntimeError("ended")


def go_on() -> None:
    """Nobody wants to stop."""


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "artray-graph"]


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
def test_a_closed_graph_is_over(pause_s: float) -> None:
    graph = Graph(pause_s)
    finished = results.finished(graph.run, graph.end, go_on)
    assert list(itertools.islice(finished, 3)) == [DONE] * 3
    time.sleep(0.2)  # without a pause, the queue between the threads is full now
    finished.close()
    assert graph.over
    assert not threads()
    assert not graph.end.is_set()


def test_a_stopped_graph_is_over() -> None:
    graph, asked = Graph(), itertools.count()

    def stop() -> None:
        if next(asked) == 5:
            raise TransientError("stopped")

    with pytest.raises(TransientError, match="stopped"):
        list(results.finished(graph.run, graph.end, stop))
    assert graph.over


def test_waiting_is_told() -> None:
    arrive = threading.Event()

    def run() -> Iterator[Done]:
        arrive.wait()
        yield DONE

    finished = results.finished(run, threading.Event(), go_on)
    assert next(finished) is None
    arrive.set()
    assert [done for done in finished if done is not None] == [DONE]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ConfigError("no such card"), ConfigError),
        (ConnectionError("gone"), TransientError),
        (KeyError("x"), InvariantError),
    ],
)
def test_a_failure_is_one_of_ours(raised: Exception, expected: type[Exception]) -> None:
    def run() -> Iterator[Done]:
        yield DONE
        raise raised

    finished = results.finished(run, threading.Event(), go_on)
    assert next(finished) == DONE
    with pytest.raises(expected, match=str(raised)):
        list(finished)
    assert not threads()


def test_what_ray_adds_to_an_error_of_ours_is_not_told() -> None:
    def run() -> Iterator[Done]:
        raise ConfigError("card a: expected b, got c\nFailed to apply UDF transform after 1/1 attempts")
        yield DONE

    with pytest.raises(ConfigError, match=r"^card a: expected b, got c$"):
        list(results.finished(run, threading.Event(), go_on))
