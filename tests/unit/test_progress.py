"""A line now and then, for people and for logs."""

import io
import re
import sys

import pytest

from artray.pipeline import progress
from artray.pipeline.progress import Bar, Lines, Reporter, Silent, Tally, duration, line


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_tally_counts_rates_and_kinds(clock: Clock) -> None:
    tally = Tally(100)
    assert (tally.images_per_s, tally.left_s, tally.failed, line(tally)) == (0.0, None, 0, "0 of 100 images")
    tally.add(0, {})
    clock.now += 10
    tally.add(20, {"truncated": 1, "corrupt": 2})
    tally.add(20, {"truncated": 4})
    assert (tally.done, tally.failed, tally.images_per_s) == (40, 7, 4.0)
    assert tally.left_s == 15.0  # 60 more at 4 a second
    assert line(tally) == "40 of 100 images, 4.0 images/s, 15 s left, failed: truncated 5, corrupt 2"


def test_a_steady_rate_leaves_out_what_comes_before_the_first_part(clock: Clock) -> None:
    tally = Tally(24)
    clock.now += 20  # Ray starts, models are loaded
    tally.add(8, {})
    assert tally.steady_images_per_s is None
    for _ in range(2):
        clock.now += 2
        tally.add(8, {})
    assert (tally.steady_images_per_s, tally.images_per_s) == (4.0, 1.0)


def test_a_rate_needs_no_time_to_have_passed_and_is_told_when_it_says_something(clock: Clock) -> None:
    tally = Tally(5)
    tally.add(5, {})
    assert tally.images_per_s > 0
    assert tally.left_s == 0.0
    assert line(tally) == "5 of 5 images"
    clock.now += 1
    assert line(tally) == "5 of 5 images, 5.0 images/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (60, "1 min 0 s"), (3599, "59 min 59 s")),
        *((3599.6, "1 h 0 min"), (7300, "2 h 1 min"), (360_000, "100 h 0 min")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_come_every_thirty_seconds_and_once_at_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    with Lines(stream) as told:
        told.phase("listing")
        tally = Tally(10)
        told.start(tally)
        for _ in range(100):
            clock.now += 1
            told.update(tally)
        tally.add(10, {})
        for _ in range(20):  # the graph takes a while to end
            clock.now += 0.2
            told.update(tally)
        told.note("take note")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["artray: listing", "artray: processing 10 images"]
    assert lines[2:5] == ["artray: 0 of 10 images"] * 3
    assert lines[5].startswith("artray: 10 of 10 images, 0.1 images/s")
    assert lines[6:] == ["artray: take note"]
    assert told.notes == ["take note"]


def test_counting_starts_with_the_first_call_and_adds_what_is_new(clock: Clock) -> None:
    stream = io.StringIO()
    told = progress.counting(Lines(stream), "writing")
    assert stream.getvalue() == ""
    for done in (1, 2, 2, 4):
        told(done, 4)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "artray: writing 4 images"
    assert len(lines) == 2
    assert lines[1].startswith("artray: 4 of 4 images")


def test_what_an_archive_says_cannot_do_anything_to_a_log() -> None:
    stream = io.StringIO()
    Lines(stream).note("/a\x1b[2J/b\nartray: 10 of 10 images: cannot be listed")
    assert stream.getvalue() == "artray: /a\\x1b[2J/b\\nartray: 10 of 10 images: cannot be listed\n"


def test_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as told:
        told.update(Tally(1))  # before anything is known
        told.phase("listing: 10 images")
        tally = Tally(10)
        told.start(tally)
        tally.add(5, {"corrupt": 1})
        told.update(tally)
        told.note("/a\x1b]0;x\x07 [bold]b[/bold] :cat: " + "long " * 40)
    assert told.notes
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/10" in err
    assert "failed: corrupt 1" in err
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", err)  # less rich's own
    assert "/a\\x1b]0;x\\x07 [bold]b[/bold] :cat: long" in shown


def test_a_bar_for_people_and_lines_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(progress.reporter(Terminal()), Bar)
    assert isinstance(progress.reporter(io.StringIO()), Lines)
    silent: Reporter = Silent()
    with silent as told:
        told.phase("x")
        told.start(Tally(1))
        told.update(Tally(1))
        told.note("kept")
    assert silent.notes == ["kept"]


def test_lines_follow_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Ray runs, sys.stderr is another one: lines written to the one of before would be lost."""
    told, later = Lines(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    told.phase("listing")
    assert later.getvalue() == "artray: listing\n"
