"""Fuse what several members of an ensemble found: one call for any number of images, pure NumPy.

Every method is behind :func:`fuse`, and says what ensemble-boxes 1.0.9 says of each image; in pixels, and in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from artray.detect import rounds
from artray.detect.proposals import Fused, Proposals, check, each
from artray.detect.rounds import Floats, Ints, Runs

Method: TypeAlias = Literal["wbf", "consensus", "nmw", "nms", "soft_nms_linear", "soft_nms_gaussian"]
Scoring: TypeAlias = Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]

FAINT: Final = 1e-100
"""What a score of 0 weighs in a mean: nothing beside any other, yet boxes of no score have a mean too."""


@dataclass(frozen=True)
class Options:
    """How boxes are fused. Names in brackets: those of ensemble-boxes.

    Args:
        members: how many members there are, be it that one found nothing.
        weights: of the members, positive [weights]; None is 1 each for clusters. Suppression divides scores by the
            weights' sum; with None it leaves them as they are.
        iou_match: boxes that overlap by more than this show the same, in [0, 1] [iou_thr]. The reference's 0.4.
        score_min: a box with a lower score is left out, before anything is weighted [skip_box_thr].
        scoring: of a fused box, for ``wbf`` and ``consensus`` [conf_type]; source: Solovyev et al., section 3.
        allows_overflow: for ``avg``: whether many boxes of one member can raise a score above 1 [allows_overflow].
            Else it is at most 1: a member of great weight could still raise it in ensemble-boxes, not here.
        found_by_min: members that must have found a box, for ``consensus``.
        sigma: of ``soft_nms_gaussian``, positive [sigma].
        lowered_min: Soft-NMS leaves out boxes whose score it lowers to this or less [thresh].
        lowered: whether Soft-NMS gives the lowered scores, as its paper does; ensemble-boxes gives the former ones.

    Raises:
        ValueError: a value out of its range, or not one weight per member.

    Source: report, Object Detection, section 4.1: an IoU of 0.4, no weights, each member with a score_min of its own.
    """

    members: int
    weights: tuple[float, ...] | None = None
    iou_match: float = 0.4
    score_min: float = 0.0
    scoring: Scoring = "avg"
    allows_overflow: bool = False
    found_by_min: int = 2
    sigma: float = 0.5
    lowered_min: float = 0.001
    lowered: bool = False

    def __post_init__(self) -> None:
        _require(self.members >= 1, "members: expected at least 1", self.members)
        given = self.member_weights
        _require(len(given) == self.members, f"weights: expected {self.members}, one per member", given)
        _require(all(0 < weight < np.inf for weight in given), "weights: expected positive numbers", given)
        for name in ("iou_match", "score_min", "lowered_min"):
            _require(0 <= getattr(self, name) <= 1, f"{name}: expected a number in [0, 1]", getattr(self, name))
        _require(self.scoring in SCORINGS, f"scoring: expected one of {', '.join(SCORINGS)}", self.scoring)
        _require(0 < self.sigma < np.inf, "sigma: expected a positive number", self.sigma)
        _require(self.found_by_min >= 1, "found_by_min: expected at least 1", self.found_by_min)

    @property
    def member_weights(self) -> tuple[float, ...]:
        """One per member."""
        return (1.0,) * self.members if self.weights is None else tuple(self.weights)


def fuse(method: Method, found: Proposals, options: Options) -> Fused:
    """Make one box of those that show the same, in every image.

    ``wbf``: weighted boxes fusion: a mean of the boxes, weighted by score. ``consensus``: the same, and it stays only
    if ``found_by_min`` members found it. ``nmw``: a mean weighted by score and by the overlap with the best one, whose
    score it has. ``nms``: the best one. ``soft_nms_linear`` and ``soft_nms_gaussian``: all whose score stays up though
    better ones that they overlap lower it.

    Boxes of equal score are taken in their order. A box without area is left out; ensemble-boxes does that too.

    Args:
        method: one of these.
        found: N boxes, of any images.
        options: how.

    Returns:
        At most N boxes, none if there was none; a mean lies within the hull of what it is made of.

    Raises:
        ValueError: an unknown method, a member that is not below ``options.members``, or what :func:`check` refuses.

    Source: Solovyev et al., Weighted boxes fusion (2021); Zhou et al., CAD (ICCVW 2017), for ``nmw``; Bodla et al.,
    Soft-NMS (ICCV 2017). Section 4.1 of the report, Object Detection, has boxes matched at an IoU of 0.4 and more; the
    implementation that it used matches above 0.4, and so does this.

    Two members agree on a box, and one says more of what it is:

    >>> from artray.detect.proposals import proposals
    >>> found = proposals([5, 5], [0, 1], [[0, 0, 10, 10], [0, 0, 10, 14]], [0.9, 0.3], class_ids=[2, 7], groups=[0, 0])
    >>> fused = fuse("wbf", found, Options(members=2))
    >>> fused.boxes_xyxy.round(6).tolist(), fused.scores.round(6).tolist(), fused.class_ids.tolist()
    ([[0.0, 0.0, 10.0, 11.0]], [0.6], [2])
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    check(found)
    each(f"members: expected numbers below {options.members}", found.members < options.members, found.members)
    return METHODS[method](_sorted(found, options, divisor=DIVISORS[method]), options)


class _Sorted(NamedTuple):
    """Boxes in the order of their runs."""

    found: Proposals
    positions: Ints
    """int64[N], in what was given."""
    boxes: Floats
    """float64[5, N]: x1, y1, x2, y2 and the area, which is positive."""
    scores: Floats
    """float64[N], times the member's weight."""
    runs: Runs


def _sorted(found: Proposals, options: Options, divisor: Callable[[Options], float]) -> _Sorted:
    """The boxes that take part, weighted."""
    columns = found.boxes_xyxy.T
    area = (columns[2] - columns[0]) * (columns[3] - columns[1])
    takes_part = np.flatnonzero((area > 0) & (found.scores >= options.score_min))
    if len(takes_part) < len(area):
        found, area = found.at(takes_part), area[takes_part]
    scores = found.scores
    if options.weights is not None:
        scores = scores * (np.asarray(options.member_weights)[found.members] / divisor(options))
    runs = rounds.sort_runs(found.image_ids, found.groups, scores)
    boxes = np.empty((5, len(area)))
    boxes[:4], boxes[4] = found.boxes_xyxy.take(runs.order, axis=0).T, area[runs.order]
    return _Sorted(found, takes_part[runs.order], boxes, scores[runs.order], runs)


def _wbf(given: _Sorted, options: Options, found_by_min: int = 1) -> Fused:
    """Clusters that move as boxes join them."""
    weights = np.maximum(given.scores, FAINT)
    heads = rounds.cluster(given.boxes, weights, given.runs, options.iou_match, moves=True)
    first, number = _numbered(heads)
    boxes, members = _means(given, first, number, weights), given.found.members[given.runs.order]
    found_by, present = _presence(number, members, len(first), options)
    scores = _score(given, (first, number), members, present, options)
    stays = found_by >= found_by_min
    return _fused(given, first[stays], boxes[:, stays], scores[stays], found_by[stays])


def _consensus(given: _Sorted, options: Options) -> Fused:
    """Clusters of enough members."""
    return _wbf(given, options, options.found_by_min)


def _nmw(given: _Sorted, options: Options) -> Fused:
    """Clusters that stay where their best box is."""
    weights = np.maximum(given.scores, FAINT)
    heads = rounds.cluster(given.boxes, weights, given.runs, options.iou_match, moves=False)
    first, number = _numbered(heads)
    weights = weights * rounds.overlaps(given.boxes, given.boxes[:, heads])
    found_by, _ = _presence(number, given.found.members[given.runs.order], len(first), options)
    return _fused(given, first, _means(given, first, number, weights), given.scores[first], found_by)


def _nms(given: _Sorted, options: Options) -> Fused:
    """The best boxes of clusters that stay where these are."""
    heads = rounds.cluster(given.boxes, given.scores, given.runs, options.iou_match, moves=False)
    return _kept(given, _numbered(heads)[0], given.scores)


def _soft_nms(given: _Sorted, options: Options, iou_match: float | None) -> Fused:
    """All boxes whose score stays up."""
    lowered = rounds.decay(given.boxes, given.scores, given.runs, iou_match, options.sigma, options.lowered_min)
    return _kept(given, np.flatnonzero(lowered > options.lowered_min), lowered if options.lowered else given.scores)


def _soft_nms_linear(given: _Sorted, options: Options) -> Fused:
    return _soft_nms(given, options, options.iou_match)


def _soft_nms_gaussian(given: _Sorted, options: Options) -> Fused:
    return _soft_nms(given, options, None)


METHODS: Final = MappingProxyType[str, Callable[[_Sorted, Options], Fused]](
    {
        "wbf": _wbf,
        "consensus": _consensus,
        "nmw": _nmw,
        "nms": _nms,
        "soft_nms_linear": _soft_nms_linear,
        "soft_nms_gaussian": _soft_nms_gaussian,
    }
)
"""Name to what does it."""


def _undivided(_: Options) -> float:
    return 1.0


def _greatest(options: Options) -> float:
    return max(options.member_weights)


def _total(options: Options) -> float:
    return sum(options.member_weights)


DIVISORS: Final = MappingProxyType[str, Callable[[Options], float]](
    dict.fromkeys(METHODS, _total) | {"wbf": _undivided, "consensus": _undivided, "nmw": _greatest}
)
"""What given weights are divided by before scores are multiplied by them."""


def _numbered(heads: Ints) -> tuple[Ints, Ints]:
    """Where the K clusters' first boxes are, and every box's cluster, from 0 to K - 1."""
    is_first = heads == np.arange(len(heads))
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[heads]


def _means(given: _Sorted, first: Ints, number: Ints, weights: Floats) -> Floats:
    """Weighted means of the clusters' boxes, float64[4, K]."""
    total, best = _sums(number, weights, len(first)), given.boxes[:4, first]
    # from the best box on, so that where all agree nothing is rounded
    moves = [weights * (corner - start[number]) for corner, start in zip(given.boxes[:4], best, strict=True)]
    means: Floats = best + np.stack([_sums(number, move, len(first)) for move in moves]) / total
    return means


def _presence(number: Ints, members: Ints, count: int, options: Options) -> tuple[Ints, Floats]:
    """How many members each of ``count`` clusters has, and the sum of their weights."""
    found_by, present = np.zeros(count, np.int64), np.zeros(count)
    for member, weight in enumerate(options.member_weights):
        has = np.zeros(count, bool)
        has[number[members == member]] = True
        found_by += has
        present += has * weight
    return found_by, present


def _score(given: _Sorted, clusters: tuple[Ints, Ints], members: Ints, present: Floats, options: Options) -> Floats:
    """The fused boxes' scores, float64[K]."""
    first, number = clusters
    weights = np.asarray(options.member_weights)
    sums, size = _sums(number, given.scores, len(first)), np.bincount(number, minlength=len(first))
    scores = SCORINGS[options.scoring](
        _Clusters(sums, given.scores[first], size, _sums(number, weights[members], len(first)), present, weights)
    )
    if options.allows_overflow:
        return sums / weights.sum() if options.scoring == "avg" else scores
    return np.minimum(scores, 1)


class _Clusters(NamedTuple):
    """K clusters, as far as their scores go."""

    sums: Floats
    """float64[K], of weighted scores."""
    greatest: Floats
    """float64[K], the best weighted score."""
    size: Ints
    """int64[K], boxes."""
    weight: Floats
    """float64[K], of all boxes' members."""
    present: Floats
    """float64[K], of its members, each once."""
    weights: Floats
    """float64[M], of all members."""


SCORINGS: Final = MappingProxyType[str, Callable[[_Clusters], Floats]](
    {
        "avg": lambda of: of.sums / of.size * np.minimum(len(of.weights), of.size) / of.weights.sum(),
        "max": lambda of: of.greatest / of.weights.max(),
        "box_and_model_avg": lambda of: of.sums / of.weight * of.present / of.weights.sum(),
        "absent_model_aware_avg": lambda of: of.sums / (of.weight + of.weights.sum() - of.present),
    }
)
"""How a cluster's score comes from its boxes'."""


def _sums(number: Ints, values: Floats, count: int) -> Floats:
    """The sum of the values of every cluster, float64[count]."""
    return np.bincount(number, weights=values, minlength=count).astype(np.float64, copy=False)


def _kept(given: _Sorted, kept: Ints, scores: Floats) -> Fused:
    """Boxes as they were found."""
    return _fused(given, kept, given.boxes[:4, kept], scores[kept], np.ones(len(kept), np.int64))


def _fused(given: _Sorted, first: Ints, boxes: Floats, scores: Floats, found_by: Ints) -> Fused:
    """The result, in its order: ``first`` is where the best box of each is."""
    source = given.runs.order[first]
    image_ids = given.found.image_ids[source]
    order = rounds.sort_runs(image_ids, np.zeros_like(image_ids), scores).order
    source = source[order]
    return Fused(
        image_ids[order],
        np.ascontiguousarray(boxes[:, order].T),
        scores[order],
        given.found.class_ids[source],
        given.found.groups[source],
        given.positions[first][order],
        found_by[order],
    )


def _require(good: bool, what: str, value: object) -> None:
    if not good:
        raise ValueError(f"{what}, got {value!r}")
