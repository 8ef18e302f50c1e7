"""How a run tells how far it is: a bar on a terminal, a line every 30 seconds in a log, silence in between."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from artray.console import safe

LINE_EVERY_S: Final = 30.0
RATE_AFTER_S: Final = 0.5
"""A rate of less time says nothing."""


class Tally:
    """Counts of a run: done, failed by kind, and the rate since it was made."""

    def __init__(self, total: int, what: str = "images") -> None:
        self.total, self.what, self.done, self.errors = total, what, 0, Counter[str]()
        self._begun = time.monotonic()
        self._parts: tuple[tuple[float, int], ...] = ()  # the first one and the last: when, and how many were done

    def add(self, images: int, errors: dict[str, int]) -> None:
        """Count a finished part."""
        self.done += images
        self.errors.update(errors)
        self._parts = (*self._parts[:1], (self.seconds, self.done))

    @property
    def failed(self) -> int:
        """Images with an error."""
        return sum(self.errors.values())

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._begun

    @property
    def images_per_s(self) -> float:
        """Images per second so far."""
        return self.done / max(self.seconds, 1e-3) if self.done else 0.0

    @property
    def steady_images_per_s(self) -> float | None:
        """Images per second from the first finished part to the last: before that, Ray starts and models are loaded.

        None where there are fewer than two parts.
        """
        if len(self._parts) < 2:
            return None
        (first_s, first), (last_s, last) = self._parts
        return (last - first) / max(last_s - first_s, 1e-3)

    @property
    def left_s(self) -> float | None:
        """Seconds to go at this rate; None before the first image."""
        return (self.total - self.done) / self.images_per_s if self.done else None

    def failures(self) -> str:
        """Failures by kind, the commonest first."""
        return ", ".join(f"{kind} {count:,}" for kind, count in self.errors.most_common())


class Reporter(Protocol):
    """Is told how a run goes."""

    notes: list[str]

    def phase(self, text: str) -> None:
        """What is being done now."""

    def start(self, tally: Tally, doing: str = "processing") -> None:
        """Something is about to be done with so many images."""

    def update(self, tally: Tally) -> None:
        """A part is done, or some time went by."""

    def note(self, text: str) -> None:
        """Something the user should read."""

    def __enter__(self) -> "Reporter": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Silent:
    """Tells nothing; keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def phase(self, text: str) -> None:
        """Ignored."""

    def start(self, tally: Tally, doing: str = "processing") -> None:
        """Ignored."""

    def update(self, tally: Tally) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Kept in :attr:`notes`."""
        self.notes.append(text)

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class Lines(Silent):
    """A line every 30 seconds, for logs."""

    def __init__(self, stream: TextIO | None = None, every_s: float = LINE_EVERY_S) -> None:
        super().__init__()
        self._stream, self._every_s, self._last, self._ended = stream, every_s, 0.0, False

    def phase(self, text: str) -> None:
        """One line."""
        self._write(text)

    def start(self, tally: Tally, doing: str = "processing") -> None:
        """The first line of it."""
        self._last, self._ended = time.monotonic(), False
        self._write(f"{doing} {tally.total:,} {tally.what}")

    def update(self, tally: Tally) -> None:
        """A line, if the last one is long ago or all is done."""
        now = time.monotonic()
        ended = tally.done >= tally.total and not self._ended
        if now - self._last >= self._every_s or ended:
            self._last, self._ended = now, self._ended or ended
            self._write(line(tally))

    def note(self, text: str) -> None:
        """One line."""
        super().note(text)
        self._write(text)

    def _write(self, text: str) -> None:
        stream = self._stream or sys.stderr  # asked for anew: while Ray runs, another one stands there
        stream.write(f"artray: {safe(text)}\n")
        stream.flush()


class Bar(Silent):
    """A live bar, for terminals."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True, emoji=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[failures]}"),
            console=self._console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, text: str) -> None:
        """The bar's words."""
        if self._task is None:
            self._task = self._progress.add_task(text, total=None, rate="", failures="")
        self._progress.update(self._task, description=text)

    def start(self, tally: Tally, doing: str = "processing") -> None:
        """From here on the bar has an end."""
        self.phase(doing)
        if self._task is not None:
            self._progress.reset(self._task, total=tally.total, rate="", failures="")

    def update(self, tally: Tally) -> None:
        """Move the bar."""
        if self._task is not None:
            failures = f"[red]failed: {tally.failures()}[/red]" if tally.failed else ""
            rate = f"{tally.images_per_s:.1f} {tally.what}/s" if tally.seconds >= RATE_AFTER_S else ""
            self._progress.update(self._task, completed=tally.done, rate=rate, failures=failures)

    def note(self, text: str) -> None:
        """A line above the bar."""
        super().note(text)
        self._console.print(safe(text), markup=False, highlight=False, soft_wrap=True)


def counting(reporter: Reporter, doing: str, what: str = "images") -> Callable[[int, int], None]:
    """A callback (done, total) that tells a reporter what is done with what; it starts with the first call."""
    tally: Tally | None = None

    def told(done: int, total: int) -> None:
        nonlocal tally
        if tally is None:
            tally = Tally(total, what)
            reporter.start(tally, doing)
        tally.add(done - tally.done, {})
        reporter.update(tally)

    return told


def phases(reporter: Reporter) -> Callable[[str, int, int], None]:
    """A callback ("reading images", done, total) that tells a reporter of one thing after the other."""
    doing, told = "", counting(reporter, "")

    def changed(now: str, done: int, total: int) -> None:
        nonlocal doing, told
        if now != doing:
            doing, told = now, counting(reporter, *now.rsplit(" ", 1))
        told(done, total)

    return changed


def line(tally: Tally) -> str:
    """A tally as one line.

    >>> tally = Tally(10); tally.add(0, {}); line(tally)
    '0 of 10 images'
    """
    text = f"{tally.done:,} of {tally.total:,} {tally.what}"
    if tally.done and tally.seconds >= RATE_AFTER_S:
        text += f", {tally.images_per_s:.1f} {tally.what}/s"
        text += f", {duration(tally.left_s or 0)} left" if tally.done < tally.total else ""
    return f"{text}, failed: {tally.failures()}" if tally.failed else text


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(5), duration(65), duration(7300)
    ('5 s', '1 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def reporter(stream: TextIO | None = None) -> Reporter:
    """A bar where a person watches, lines elsewhere."""
    return Bar() if (stream or sys.stderr).isatty() else Lines(stream)
