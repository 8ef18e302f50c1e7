"""Whether a picture is the whole or a part of another, whichever way up: pairs of pictures in, their best fit out.

A part of a picture is a window. The spectra of a picture's windows are compared with that of the whole other picture,
its frequencies weighted so that the coarse ones, in which most pictures of a kind are alike, do not outweigh the
others. A copy in a frame is a picture of which the original is a part.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.retrieve.hashing import FREQUENCIES, SIDE_PX, TURNS, Spectra, Thumbnails, Turn, cosines, turned

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]

NOISE: Final = 1.0
"""Grey levels: structure of so little contrast counts half."""

CHUNK: Final = 32
"""So many pictures' windows are in memory at a time, per thread."""


class Pictures(NamedTuple):
    """N pictures as far as they are kept."""

    thumbnails: Thumbnails  # uint8[N, 32, 32]; may be a file (numpy.memmap)
    spectra: Spectra  # float32[N, 8, 8]
    aspects: Floats  # float32[N]: the logarithm of width / height of the originals


class Pairs(NamedTuple):
    """P pairs of pictures to compare."""

    first: Ints  # int64[P]
    second: Ints  # int64[P]
    turn: Ints  # int64[P]: the first looks like the second laid down in this way, of hashing.TURNS

    def at(self, rows: Any) -> "Pairs":
        """Some of them."""
        return Pairs(self.first[rows], self.second[rows], self.turn[rows])


class Fit(NamedTuple):
    """How well P pairs fit."""

    structure: Floats  # float32[P] in [-1, 1]: 1 for the same structure
    inner: Ints  # int64[P]: which one is a part of the other: 0 for neither, 1 the first, 2 the second
    window: Floats  # float32[P, 4]: which part of the outer one, or of the first: left, top, right, bottom in [0, 1]

    def at(self, rows: Any) -> "Fit":
        """Those of some pairs."""
        return Fit(self.structure[rows], self.inner[rows], self.window[rows])


class Windows:
    """The windows of a picture, the whole picture first.

    Args:
        steps: they begin and end at so many parts of a side.
        cut_max: of which a window lacks at most so many, at both ends together.
        slack: how many more of them they lack of one side than of the other, at most.
        tolerance: how far a window's ratio of sides may be off from that of a picture that is held to be this part, as
            a logarithm; whole pictures may be stretched.
    """

    def __init__(self, steps: int, cut_max: int, slack: int, tolerance: float) -> None:
        self.tolerance = tolerance
        cuts = [(a, b) for a in range(cut_max + 1) for b in range(cut_max + 1 - a)]
        cuts.sort(key=sum)
        self.spans = [(a / steps, 1 - b / steps) for a, b in cuts]
        lacking = np.array([a + b for a, b in cuts])
        # which span of the height, and which of the width
        self.rows, self.columns = np.nonzero(np.abs(lacking[:, None] - lacking) <= slack)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def rectangles(self) -> Floats:
        """float32[W, 4]: left, top, right and bottom in [0, 1]."""
        spans = np.array(self.spans, np.float32)
        found: Floats = np.concatenate([spans[self.columns], spans[self.rows]], axis=1)[:, [0, 2, 1, 3]]
        return found

    @cached_property
    def aspects(self) -> Floats:
        """float32[W]: the logarithm of their width / height in a square picture."""
        left, top, right, bottom = self.rectangles.T
        found: Floats = np.log((right - left) / (bottom - top))
        return found

    @cached_property
    def _bands(self) -> Floats:
        return np.concatenate([band(*span) for span in self.spans])

    def directions(self, thumbnails: Thumbnails) -> Floats:
        """float32[N, W, 64]: the directions of every window of thumbnails uint8[N, 32, 32]."""
        found = self._bands @ thumbnails.astype(np.float32) @ self._bands.T
        count = len(self.spans)
        found = found.reshape(-1, count, FREQUENCIES, count, FREQUENCIES).transpose(0, 1, 3, 2, 4)
        return directions(found[:, self.rows, self.columns])


def fine() -> Windows:
    """364 windows, down to 8/14 of both sides, of which one is near enough to any part to be laid over it exactly."""
    return Windows(14, 6, slack=1, tolerance=0.12)


def coarse() -> Windows:
    """30 windows, down to 7/10 of both sides, of which one is near enough to any part to tell it from most others."""
    return Windows(10, 3, slack=0, tolerance=0.25)


def band(start: float, stop: float) -> Floats:
    """float32[8, 32]: from the samples of a side to the low frequencies of a span of it, in [0, 1].

    The span is sampled anew at 32 places, between samples linearly.
    """
    places = np.clip((start + (stop - start) * (np.arange(SIDE_PX) + 0.5) / SIDE_PX) * SIDE_PX - 0.5, 0, SIDE_PX - 1)
    left = np.minimum(places.astype(int), SIDE_PX - 2)
    sampling = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    sampling[np.arange(SIDE_PX), left] = 1 - (places - left)
    sampling[np.arange(SIDE_PX), left + 1] = places - left
    return cosines(FREQUENCIES, SIDE_PX) @ sampling


def weights() -> Floats:
    """float32[64]: a frequency's weight is its height, for pictures have less of it the higher it is; 0 of the mean."""
    across = np.arange(FREQUENCIES)
    return np.hypot(across[:, None], across).astype(np.float32).ravel()


def directions(spectrum: Spectra) -> Floats:
    """float32[..., 64]: weighted spectra float32[..., 8, 8] as directions; shorter than 1 where there is no contrast.

    The inner product of two is how much two pictures have the same structure, in [-1, 1].
    """
    values = spectrum.reshape(*spectrum.shape[:-2], FREQUENCIES**2) * weights()
    noise = NOISE * SIDE_PX * np.sqrt(np.square(weights()).mean())
    found: Floats = values / np.sqrt(np.square(values).sum(axis=-1, keepdims=True) + np.float32(noise**2))
    return found


def inverse(turn: Ints) -> Ints:
    """int64[P]: how to lay the second picture down as the first, for pairs whose first lies like the second turned."""
    back = [TURNS.index(_back(each)) for each in TURNS]
    found: Ints = np.array(back, np.int64)[turn]
    return found


def _back(turn: Turn) -> Turn:
    """What undoes a turn: of those that swap sides, mirroring and flipping change their roles."""
    return Turn(True, turn.flipped, turn.mirrored) if turn.transposed else turn


def fit(pictures: Pictures, pairs: Pairs, windows: Windows, threads: int = 1) -> Fit:
    """Which part of one picture of each pair looks most like the whole of the other.

    Args:
        pictures: N.
        pairs: P of them, in any order; P may be 0.
        windows: the parts that are looked at.
        threads: that work on it.
    """
    part = _within(pictures, windows, Pairs(pairs.second, pairs.first, inverse(pairs.turn)), threads)
    holder = _within(pictures, windows, pairs, threads)
    first_is_part = part.score > holder.score
    best = np.where(first_is_part, part.window, holder.window)
    inner = np.where(best == 0, 0, np.where(first_is_part, 1, 2))
    return Fit(np.maximum(part.score, holder.score), inner, windows.rectangles[best])


class _Best(NamedTuple):
    """The best of the windows of the first pictures of P pairs."""

    score: Floats  # float32[P]
    window: Ints  # int64[P]


def _within(pictures: Pictures, windows: Windows, pairs: Pairs, threads: int) -> _Best:
    """The window of each pair's first picture that looks most like its second one, turned."""
    best = _Best(np.zeros(len(pairs.first), np.float32), np.zeros(len(pairs.first), np.int64))
    order = np.argsort(pairs.first, kind="stable")
    names, starts = np.unique(pairs.first[order], return_index=True)
    bounds = np.append(starts, len(order))

    def work(at: int) -> None:
        stop = min(at + CHUNK, len(names))
        rows = order[bounds[at] : bounds[stop]]
        parts, aspects = _laid(pictures, pairs.second[rows], pairs.turn[rows])
        for place, view in enumerate(windows.directions(pictures.thumbnails[names[at:stop]]), at):
            here = slice(bounds[place] - bounds[at], bounds[place + 1] - bounds[at])
            scores = view @ parts[here].T
            shapes = windows.aspects[1:, None] + (pictures.aspects[names[place]] - aspects[here])
            scores[1:][np.abs(shapes) > windows.tolerance] = -1
            chosen = scores.argmax(axis=0)
            best.window[rows[here]], best.score[rows[here]] = chosen, scores[chosen, np.arange(len(chosen))]

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(0, len(names), CHUNK)):
            pass
    return best


def _laid(pictures: Pictures, rows: Ints, turn: Ints) -> tuple[Floats, Floats]:
    """float32[P, 64] and float32[P]: directions and aspects of pictures that are turned."""
    parts = np.empty((len(rows), FREQUENCIES**2), np.float32)
    aspects = np.empty(len(rows), np.float32)
    for kind in np.unique(turn).tolist():
        here = turn == kind
        parts[here] = directions(turned(pictures.spectra[rows[here]], TURNS[kind]))
        aspects[here] = pictures.aspects[rows[here]] * (-1 if TURNS[kind].transposed else 1)
    return parts, aspects
