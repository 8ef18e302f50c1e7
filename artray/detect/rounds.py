"""Greedy choice among boxes of many images at once: pure NumPy, one round per rank of score.

Boxes of different images or groups never meet. So the boxes are sorted into runs, one per image and group, the best
first, and round ``k`` takes the k-th box of every run at once.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

CHUNK: Final = 1 << 15
"""Boxes whose rounds are done together: what a core's cache holds, whatever the number of images."""

PAIRS: Final = 1 << 20
"""Pairs of boxes at a time: bounds their memory."""

KEY_BITS: Final = 63
"""Bits of the numbers that are sorted: a run's number, then what of the score fits in."""

SLACK: Final = 1 - 1e-9
"""The quick test for an overlap lets through a little more than the exact one: it rounds otherwise."""

NOWHERE: Final = np.array([np.inf, np.inf, -np.inf, -np.inf, 1])
"""A box of an area that shares none with any other."""

NEVER: Final = -1.0
"""A score below all others, of a box that is NOWHERE and so keeps it."""


class Runs(NamedTuple):
    """N boxes in S runs, one per image and group.

    >>> sort_runs(np.array([7, 7, 3]), np.array([0, 0, 0]), np.array([0.1, 0.2, 0.3]))
    Runs(order=array([2, 1, 0]), starts=array([0, 1]), lengths=array([1, 2]))
    """

    order: Ints
    """int64[N], the positions of the boxes, run after run by rising image and group, each by falling score."""
    starts: Ints
    """int64[S], where in ``order`` a run begins."""
    lengths: Ints
    """int64[S], at least 1."""


def sort_runs(image_ids: NDArray[np.integer[Any]], groups: NDArray[np.integer[Any]], scores: Floats) -> Runs:
    """Sort boxes by image, group and falling score; ties stay in their order.

    Args:
        image_ids: integer[N], any numbers.
        groups: integer[N], likewise.
        scores: float64[N], at least 0, no NaN.

    Returns:
        As many runs as there are images and groups; none if there is no box.
    """
    codes = _codes(image_ids, groups)
    order = _by_code_and_score(codes, scores)
    codes = codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return Runs(order, starts, np.diff(starts, append=len(codes)))


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes side by side.

    Args:
        a: float64[5, ...]: x1, y1, x2, y2 and the area, which is positive.
        b: float64[5, ...], likewise; the other axes as broadcasting has them.

    Returns:
        float64[...] in [0, 1].
    """
    shared = shared_areas(a, b)
    union = a[4] + b[4]
    union -= shared
    shared /= union
    return shared


def cluster(boxes: Floats, weights: Floats, runs: Runs, iou_match: float, *, moves: bool) -> Ints:
    """Put every box into the cluster of its run that it overlaps most, or let it begin one.

    Args:
        boxes: float64[5, N] x1, y1, x2, y2 and the area, in the order of the runs; every area is positive.
        weights: float64[N], positive.
        runs: of these boxes.
        iou_match: a box joins a cluster that it overlaps by more than this, in [0, 1]; the earlier one of equals.
        moves: whether a cluster is where the weighted mean of its boxes is; else it stays where its first box is.

    Returns:
        int64[N]: for every box where its cluster's first, and so best, box is; that one's own place for itself.

    Source: the loops of ``weighted_boxes_fusion`` (moves) and ``non_maximum_weighted`` (does not) of ensemble-boxes
    1.0.9. The first boxes of clusters that do not move are what greedy non-maximum suppression keeps.
    """
    heads = np.arange(boxes.shape[1])
    sums = np.concatenate([boxes[:4] * weights, weights[None]]) if moves else None
    for starts, lengths in _chunks(runs):
        _cluster_chunk(boxes, sums, starts, lengths, iou_match, heads)
    return heads


def decay(boxes: Floats, scores: Floats, runs: Runs, iou_match: float | None, sigma: float, score_min: float) -> Floats:
    """Lower the score of every box by its overlaps with better ones of its run, over and over (Soft-NMS).

    In every round the best box left of a run is taken, and lowers those that are left; the earlier one of equals,
    unless their scores were lowered until they were equal.

    Args:
        boxes: float64[5, N] x1, y1, x2, y2 and the area, in the order of the runs; every area is positive.
        scores: float64[N], at least 0.
        runs: of these boxes.
        iou_match: a score is multiplied by ``1 - IoU`` where the IoU is more than this; with None by
            ``exp(-IoU ** 2 / sigma)`` everywhere.
        sigma: of the latter; positive.
        score_min: a run ends when no score left is more than this.

    Returns:
        float64[N], the score at which a box was taken, 0 for those that were not: no score is higher than before.

    Source: Bodla et al., Soft-NMS (ICCV 2017); ``soft_nms`` of ensemble-boxes 1.0.9.
    """
    taken = np.zeros(len(scores))
    taken[runs.starts[runs.lengths == 1]] = scores[runs.starts[runs.lengths == 1]]
    for starts, lengths in _chunks(runs):
        _decay_chunk(boxes, scores, starts, lengths, (iou_match, sigma, score_min), taken)
    return taken


def pairs(runs: Runs) -> Iterator[tuple[Ints, Ints]]:
    """Every two boxes of a run, the better one first, some at a time.

    Yields:
        Places in the order of the runs, int64[P] and int64[P].

    >>> runs = Runs(np.arange(4), starts=np.array([0, 3]), lengths=np.array([3, 1]))
    >>> [(first.tolist(), second.tolist()) for first, second in pairs(runs)]
    [([0, 0, 1], [1, 2, 2])]
    """
    after = np.repeat(runs.starts + runs.lengths, runs.lengths) - np.arange(len(runs.order)) - 1  # in its run
    ends = np.cumsum(after)
    begin = 0
    while begin < len(after):
        done = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + PAIRS, side="right")))
        counts = after[begin:end]
        first = np.repeat(np.arange(begin, end), counts)
        nth = np.arange(len(first)) - np.repeat(ends[begin:end] - counts - done, counts)  # after the first
        if len(first):
            yield first, first + 1 + nth
        begin = end


def _codes(image_ids: NDArray[np.integer[Any]], groups: NDArray[np.integer[Any]]) -> Ints:
    """One number per image and group, rising with both, int64[N] from 0."""
    if not len(image_ids):
        return np.zeros(0, np.int64)
    images, within = _from_zero(image_ids), _from_zero(groups)
    codes: Ints = images * (int(within.max()) + 1) + within
    return codes


def _from_zero(values: NDArray[np.integer[Any]]) -> Ints:
    """Numbers in the same order, the lowest 0 and all below 2 ** 20, or else as few as there are different ones."""
    lowest, highest = int(values.min()), int(values.max())
    if highest - lowest < 1 << 20:
        near: Ints = values.astype(np.int64) - lowest
        return near
    dense: Ints = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return dense


def _by_code_and_score(codes: Ints, scores: Floats) -> Ints:
    """Positions by rising code, falling score, and order: one sort of whole numbers, several times as fast as three.

    Such a number has the code, then the leading bits of the score: those of a float that is not negative rise with it.
    Where these are equal, and few are, the rest is sorted by the whole score.
    """
    bits = KEY_BITS - int(codes.max(initial=0)).bit_length()
    leading = (scores + 0.0).view(np.int64) >> (KEY_BITS - bits)  # + 0.0: no -0.0, whose bits are those of -2 ** 63
    keys = (codes << bits) | (((1 << bits) - 1) - leading)
    order: Ints = np.argsort(keys)
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(tied):
        doubtful = order[tied]
        order[tied] = doubtful[np.lexsort((doubtful, -scores[doubtful], keys[tied]))]
    return order


def _chunks(runs: Runs) -> Iterator[tuple[Ints, Ints]]:
    """Starts and lengths of runs of two boxes and more, the longest first, a cache's worth at a time."""
    ranked = np.argsort(-runs.lengths, kind="stable")[: np.count_nonzero(runs.lengths > 1)]
    first = 0
    while first < len(ranked):
        after = first + max(1, CHUNK // int(runs.lengths[ranked[first]]))
        some = ranked[first:after]
        yield runs.starts[some], runs.lengths[some]
        first = after


def _active(lengths: Ints) -> list[int]:
    """How many runs, of falling length, have a box in round 0, 1, ..."""
    counts: list[int] = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left").tolist()
    return counts


def _cluster_chunk(
    boxes: Floats, sums: Floats | None, starts: Ints, lengths: Ints, iou_match: float, heads: Ints
) -> None:
    """Write ``heads`` of some runs, the longest first."""
    width, slots = len(starts), _Slots(sums, int(lengths[0]), len(starts))
    begun = np.zeros(width, np.int64)  # clusters of each run
    for turn, count in enumerate(_active(lengths)):
        at = starts[:count] + turn
        box, most = boxes.take(at, axis=1), int(begun[:count].max())
        column, slot = _closest(slots.now[:, :most, :count], box, iou_match)
        joined = slot * width + column
        heads[at[column]] = slots.head[joined]
        slots.join(joined, at[column])
        fresh = np.ones(count, bool)
        fresh[column] = False
        new = np.flatnonzero(fresh)
        slots.begin(begun[new] * width + new, at[new], box.take(new, axis=1))
        begun[new] += 1


class _Slots:
    """The clusters of some runs, one column per run; a cluster that is not begun is a box that overlaps nothing."""

    def __init__(self, sums: Floats | None, deep: int, width: int) -> None:
        self.sums = sums
        """float64[5, N]: corners times weight, and the weight, of every box; None if clusters stay where they are."""
        self.now = np.empty((5, deep, width))
        """float64[5, C, S], where the clusters are, and their areas."""
        self.now[:] = NOWHERE[:, None, None]
        self.flat = self.now.reshape(5, -1)
        self.sum = np.empty((5, deep * width)) if sums is not None else None
        self.head = np.empty(deep * width, np.int64)

    def begin(self, slots: Ints, at: Ints, box: Floats) -> None:
        """New clusters, of one box each."""
        self.flat[:, slots] = box
        self.head[slots] = at
        if self.sum is not None and self.sums is not None:
            self.sum[:, slots] = self.sums[:, at]

    def join(self, slots: Ints, at: Ints) -> None:
        """Boxes join clusters, no two the same one."""
        if self.sum is None or self.sums is None:
            return
        total = self.sum.take(slots, axis=1) + self.sums.take(at, axis=1)
        self.sum[:, slots] = total
        x1, y1, x2, y2 = corners = total[:4] / total[4]
        self.flat[:4, slots] = corners
        self.flat[4, slots] = (x2 - x1) * (y2 - y1)


def _closest(clusters: Floats, box: Floats, iou_match: float) -> tuple[Ints, Ints]:
    """The boxes that match a cluster of their column, and which.

    Args:
        clusters: float64[5, C, n].
        box: float64[5, n].
        iou_match: as in :func:`cluster`.

    Returns:
        Columns, int64[m], each at most once, and clusters, int64[m].
    """
    shared = shared_areas(clusters, box[:, None])
    least = clusters[4] + box[4]
    least *= iou_match / (1 + iou_match) * SLACK  # IoU > t where shared > t / (1 + t) of both areas together
    near = np.flatnonzero(shared > least)
    slot, column = np.divmod(near, box.shape[1])
    inside = shared.take(near)
    iou = inside / (clusters[4][slot, column] + box[4].take(column) - inside)
    matches = np.flatnonzero(iou > iou_match)
    column, slot = column[matches], slot[matches]
    best = np.full(box.shape[1], -1)
    best[column] = slot
    several = np.flatnonzero(np.bincount(column)[column] > 1)[::-1]
    ranked = several[np.argsort(iou[matches[several]], kind="stable")]
    best[column[ranked]] = slot[ranked]  # of several the last one stays: the greatest IoU, the earliest of equals
    matched = np.flatnonzero(best >= 0)
    return matched, best[matched]


def shared_areas(a: Floats, b: Floats) -> Floats:
    """The area that boxes share; x1, y1, x2, y2 along the first axis, the others as broadcasting has them."""
    width: Floats = np.minimum(a[2], b[2])
    width -= np.maximum(a[0], b[0])
    height: Floats = np.minimum(a[3], b[3])
    height -= np.maximum(a[1], b[1])
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    return width


def _decay_chunk(
    boxes: Floats,
    scores: Floats,
    starts: Ints,
    lengths: Ints,
    how: tuple[float | None, float, float],
    taken: Floats,
) -> None:
    """Write ``taken`` of some runs, the longest first."""
    iou_match, sigma, score_min = how
    rows = np.arange(lengths[0])[:, None]
    at = np.where(rows < lengths, starts + rows, starts)
    left = np.where(rows < lengths, scores[at], NEVER)
    padded = np.where(rows < lengths, boxes[:, at], NOWHERE[:, None, None])
    for turn, count in enumerate(_active(lengths)):
        some, others, places = left[turn:, :count], padded[:, turn:, :count], at[turn:, :count]
        best, columns = some.argmax(axis=0), np.arange(count)
        score, chosen = some[best, columns], others[:, best, columns]
        if score.max() <= score_min:
            break
        taken[places[best, columns]] = score
        for column in (some, places, *others):  # what stood first stands where the best one did
            column[best, columns] = column[0]
        some[1:] *= _factors(overlaps(others[:, 1:], chosen[:, None]), iou_match, sigma)


def _factors(iou: Floats, iou_match: float | None, sigma: float) -> Floats:
    """What scores are multiplied by, in place of the overlaps."""
    if iou_match is not None:
        iou *= iou > iou_match
        return np.subtract(1, iou, out=iou)
    iou *= iou
    iou /= -sigma
    return np.exp(iou, out=iou)
