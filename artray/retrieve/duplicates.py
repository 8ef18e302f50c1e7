"""Groups of pictures that show the same: equal files, edited copies, parts, mirror images, other reproductions.

    candidates -> the best fit of each pair -> laid over each other exactly -> copies -> groups

Arithmetic only; artray.store.duplicates does it over a store.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.retrieve import alignment, registration
from artray.retrieve.alignment import Fit, Pairs, Pictures
from artray.retrieve.candidates import candidates, project, unique
from artray.retrieve.hashing import TURNS, laid

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Tell: TypeAlias = Callable[[str, int, int], None]
"""Is told what is being done, and how many of how many are done."""

SCORE_MIN: Final = 0.9
"""Copies score at least this; tests/benchmarks/duplicates.py measures what that is worth."""

ROUGH_STRUCTURE_MIN: Final = 0.45
STRUCTURE_MIN: Final = 0.55
"""Pairs whose best windows, coarse ones and then fine ones, have less structure in common are not looked at further."""

ROUGH_STEPS: Final = 2
EXACT_STEPS: Final = 4
ROUGH_BELOW: Final = 0.2
"""Where pairs score less than copies by more than this after the first steps, it is left at these."""

BLOCK: Final = 64
"""So many pairs are laid over each other at a time: what they need stays in a processor's cache."""

ROUNDS: Final = 4


class Works(NamedTuple):
    """N pictures, and what is known of each."""

    pictures: Pictures
    chroma: Floats  # float32[N]: mean CIELAB chroma
    pixels: Ints  # int64[N]: of the original
    files: Ints  # int64[N]: the same number for the same content
    embeddings: NDArray[Any]  # floating[N, D] of unit norm; may be a file (numpy.memmap)
    embedded: NDArray[np.bool_]  # bool[N]: which rows of it there are


class Copies(NamedTuple):
    """P pairs of copies, each once."""

    first: Ints  # int64[P]
    second: Ints  # int64[P], > first
    turn: Ints  # int64[P]: the first looks like the second laid down in this way, of hashing.TURNS
    score: Floats  # float32[P] in [-1, 1]: correlation of their details where they show the same; 1 of equal files
    inner: Ints  # int64[P]: the first (1) or the second (2) is a part of the other; 0 for neither
    maps: Floats  # float32[P, 2, 3]: where the inner one, or the second, lies in the other: see registration

    def at(self, rows: Any) -> "Copies":
        """Some of them."""
        return Copies(*(column[rows] for column in self))


def find(works: Works, score_min: float = SCORE_MIN, threads: int = 1, tell: Tell = lambda *_: None) -> Copies:
    """Pairs of copies among works, with those that their groups are to be judged by (see :func:`groups`).

    Args:
        works: N; N may be 0.
        score_min: what copies score at least.
        threads: that work on it, beside those of faiss.
        tell: is told how far it is.
    """
    projected = project(works.embeddings)
    projected[~works.embedded] = 0
    pairs = candidates(works.pictures, projected, works.embedded, lambda done, of: tell("comparing images", done, of))
    found = _merged([equal_files(works.files), judged(works.pictures, pairs, score_min, threads, tell)])
    return _completed(works, found, score_min, threads, tell)


def equal_files(files: Ints) -> Copies:
    """Each picture whose file there was before, with the first of these."""
    _, first, which = np.unique(files, return_index=True, return_inverse=True)
    second = np.flatnonzero(first[which] != np.arange(len(files)))
    maps = np.tile(np.eye(2, 3, dtype=np.float32), (len(second), 1, 1))
    nothing = np.zeros(len(second), np.int64)
    return Copies(first[which][second], second, nothing, np.ones(len(second), np.float32), nothing, maps)


def judged(pictures: Pictures, pairs: Pairs, score_min: float, threads: int, tell: Tell) -> Copies:
    """Those of the pairs that are copies; of several turns of a pair the best."""
    rough = alignment.fit(pictures, pairs, alignment.coarse(), threads)
    pairs = pairs.at(np.flatnonzero(rough.structure >= ROUGH_STRUCTURE_MIN))
    fit = alignment.fit(pictures, pairs, alignment.fine(), threads)
    best = _best(pairs, fit.structure)
    best = best[fit.structure[best] >= STRUCTURE_MIN]
    pairs, fit = pairs.at(best), fit.at(best)
    score, maps = np.empty(len(best), np.float32), np.empty((len(best), 2, 3), np.float32)

    def work(start: int) -> None:
        here = slice(start, start + BLOCK)
        score[here], maps[here] = _laid_over(pictures, pairs.at(here), fit.at(here), score_min)

    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(work, range(0, len(best), BLOCK)), 1):
            tell("laying over pairs", min(done * BLOCK, len(best)), len(best))
    return Copies(*pairs, score, fit.inner, maps).at(np.flatnonzero(score >= score_min))


def _laid_over(pictures: Pictures, pairs: Pairs, fit: Fit, score_min: float) -> registration.Registered:
    """Pairs laid over each other: all of them roughly, those exactly that may be copies yet."""
    outer, inner = _sides(pictures, pairs, fit.inner)
    found = registration.register(outer, inner, registration.into_windows(fit.window), ROUGH_STEPS)
    rows = np.flatnonzero(found.score >= score_min - ROUGH_BELOW)
    exact = registration.register(outer[rows], inner[rows], found.maps[rows], EXACT_STEPS)
    found.score[rows], found.maps[rows] = exact
    return found


def _best(pairs: Pairs, structure: Floats) -> Ints:
    """One row for each pair: that of the turn with most structure in common."""
    order = np.lexsort((pairs.turn, -structure, pairs.second, pairs.first))
    first, second = pairs.first[order], pairs.second[order]
    new = np.ones(len(order), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return order[new]


def _sides(pictures: Pictures, pairs: Pairs, inner: Ints) -> tuple[Floats, Floats]:
    """float32[P, 32, 32] each: the outer pictures, or the first ones, and the inner ones laid down like these."""
    swapped = inner == 1
    outer = np.where(swapped, pairs.second, pairs.first)
    inside = np.where(swapped, pairs.first, pairs.second)
    turn = np.where(swapped, alignment.inverse(pairs.turn), pairs.turn)
    turned = np.empty((len(inner), *pictures.thumbnails.shape[1:]), np.float32)
    for kind in np.unique(turn).tolist():
        turned[turn == kind] = laid(pictures.thumbnails[inside[turn == kind]], TURNS[kind])
    return pictures.thumbnails[outer].astype(np.float32), turned


def _merged(parts: list[Copies]) -> Copies:
    """All of them, each pair once: as it scores most."""
    every = Copies(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return every.at(_best(Pairs(every.first, every.second, every.turn), every.score))


class Groups(NamedTuple):
    """M pictures in groups, the representative of each first."""

    member: Ints  # int64[M]: the picture
    group: Ints  # int64[M], from 0
    pair: Ints  # int64[M]: which of the copies makes it a member; -1 of the representative


def groups(count: int, copies: Copies, pixels: Ints) -> Groups:
    """Stars: the picture with most copies represents a group, whose members are its copies.

    A picture whose copies all are in others' groups joins the copy that it is most like. So no chain of likenesses is
    longer than two, however many there are.

    Args:
        count: N.
        copies: pairs among them.
        pixels: int64[N]; of pictures with as many copies the larger one represents, then the first.
    """
    bounds, others, pairs = _neighbours(count, copies)
    degrees = np.diff(bounds)
    ranked = np.lexsort((-pixels, -degrees))
    ranked = ranked[degrees[ranked] > 0]
    centre, link = np.full(count, -1), np.full(count, -1)
    for one in ranked.tolist():
        free = np.arange(bounds[one], bounds[one + 1])[centre[others[bounds[one] : bounds[one + 1]]] < 0]
        if centre[one] < 0 and len(free):
            centre[one] = one
            centre[others[free]], link[others[free]] = one, pairs[free]
    for one in ranked[centre[ranked] < 0].tolist():
        centre[one], link[one] = centre[others[bounds[one]]], pairs[bounds[one]]
    rows = np.flatnonzero(centre >= 0)
    group = np.unique(centre[rows], return_inverse=True)[1]
    order = np.lexsort((rows, rows != centre[rows], group))
    return Groups(rows[order], group[order], link[rows[order]])


def _neighbours(count: int, copies: Copies) -> tuple[Ints, Ints, Ints]:
    """Where each picture's copies begin, int64[N + 1]; which they are and by which pair, the most alike first."""
    ends = np.concatenate([copies.first, copies.second])
    others = np.concatenate([copies.second, copies.first])
    order = np.lexsort((others, -np.tile(copies.score, 2), ends))
    pairs = np.tile(np.arange(len(copies.first)), 2)
    return np.searchsorted(ends[order], np.arange(count + 1)), others[order], pairs[order]


def _completed(works: Works, copies: Copies, score_min: float, threads: int, tell: Tell) -> Copies:
    """The copies with those among them that no candidate was: of pictures that are connected by copies, and of the one
    of them with most copies. What is no copy of that one is then connected anew, and so on for some rounds.
    """
    count = len(works.files)
    left = np.ones(count, bool)
    for _ in range(ROUNDS):
        among = copies.at(np.flatnonzero(left[copies.first] & left[copies.second]))
        if not len(among.first):
            break
        rows, centre = _representatives(count, among, works.pixels)
        missing = ~_known(copies, rows, centre, count)
        turns = np.tile(np.arange(len(TURNS)), int(missing.sum()))
        first, second = (np.repeat(each[missing], len(TURNS)) for each in (rows, centre))
        asked = unique(first, second, turns)
        copies = _merged([copies, judged(works.pictures, asked, score_min, threads, tell)])
        left[centre] = False
        left[rows[_known(copies, rows, centre, count)]] = False
    return copies


def _representatives(count: int, copies: Copies, pixels: Ints) -> tuple[Ints, Ints]:
    """The pictures that are connected with others, and for each the one with most copies; not that one itself."""
    label = components(count, copies)
    degrees = np.bincount(np.concatenate([copies.first, copies.second]), minlength=count)
    rows = np.flatnonzero(degrees)
    order = rows[np.lexsort((rows, -pixels[rows], -degrees[rows], label[rows]))]
    names, first = np.unique(label[order], return_index=True)
    centre = np.zeros(count, np.int64)
    centre[names] = order[first]
    centre = centre[label[rows]]
    return rows[rows != centre], centre[rows != centre]


def _known(copies: Copies, a: Ints, b: Ints, count: int) -> NDArray[np.bool_]:
    """bool[P]: which of P pairs are copies."""
    keys = np.minimum(a, b) * count + np.maximum(a, b)
    return np.isin(keys, copies.first * count + copies.second)


def components(count: int, copies: Copies) -> Ints:
    """int64[N]: the least picture that each is connected with by pairs; itself where it is in none."""
    label = np.arange(count)
    while True:
        least = np.minimum(label[copies.first], label[copies.second])
        new = label.copy()
        np.minimum.at(new, label[copies.first], least)
        np.minimum.at(new, label[copies.second], least)
        new = new[new]
        if np.array_equal(new, label):
            return label
        label = new
