"""One answer from several detectors: their boxes fused, then the report's rules; faces are appended as they are.

Pure NumPy, any number of images at once; knows nothing of how boxes were found.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artray.config import FuseConfig
from artray.detect import rules
from artray.detect.found import Found
from artray.detect.fusion import Options, fuse
from artray.detect.proposals import Fused, Proposals, proposals
from artray.errors import ConfigError
from artray.taxonomy import CATEGORY

CLASSES: Final = tuple(CATEGORY)
"""What class ids mean here, whichever detector found a box."""

CATEGORY_IDS: Final = np.array([list(dict.fromkeys(CATEGORY.values())).index(name) for name in CATEGORY.values()])


class Member(NamedTuple):
    """One detector of an ensemble."""

    name: str  # its card's
    class_names: tuple[str, ...]

    @property
    def finds_faces_alone(self) -> bool:
        """Whether it takes no part in fusing. Source: report, Object Detection, section 4.1: faces are added last."""
        return {CATEGORY[name] for name in self.class_names} == {"faces"}


class Merged(NamedTuple):
    """What all detectors say of one image, by falling score: one after the other if boxes were appended, else fused
    ones and then the faces of face detectors.
    """

    found: Found  # class ids index CLASSES
    sources: NDArray[np.int64]  # int64[N]: the member that was surest of it


class Ensemble:
    """How some detectors' boxes become one answer.

    Args:
        cfg: how.
        members: the detectors, in the order of their answers.

    Raises:
        ConfigError: a setting names a card that is no member, or a class that is none.
    """

    def __init__(self, cfg: FuseConfig, members: Sequence[Member]) -> None:
        self.cfg, self.members = cfg, tuple(members)
        names = [member.name for member in members]
        for key, given in (("weights", cfg.weights), ("score_min", cfg.score_min)):
            if strangers := [name for name in given if name not in names]:
                raise ConfigError(
                    f"detect.fuse.{key}: expected cards of detect.cards ({', '.join(names)}), got {strangers[0]}"
                )
        self._voters = [at for at, member in enumerate(members) if not member.finds_faces_alone]
        self._ids = [np.array([CLASSES.index(name) for name in member.class_names], np.int64) for member in members]
        self._score_min = np.array([cfg.score_min.get(name, 0.0) for name in names])
        self._class_min = np.array([cfg.class_score_min.get(name, 0.0) for name in CLASSES])

    def __call__(self, answers: Sequence[Sequence[Found]], sizes_wh: Sequence[tuple[int, int]]) -> list[Merged]:
        """Fuse.

        Args:
            answers: per member, and in it per image, boxes in pixels of the image and within it.
            sizes_wh: of every image, pixels.
        """
        found = self._all(answers)
        votes = np.isin(found.members, self._voters)
        fused = self._fused(found.at(votes), np.array(sizes_wh, np.float64).reshape(-1, 2))
        faces = found.at(~votes)
        image_ids = np.concatenate([fused.image_ids, faces.image_ids])
        boxes = np.concatenate([fused.boxes_xyxy, faces.boxes_xyxy]).astype(np.float32)
        scores = np.concatenate([fused.scores, faces.scores]).astype(np.float32)
        class_ids = np.concatenate([fused.class_ids, faces.class_ids])
        sources = np.concatenate([found.members[votes][fused.best], faces.members])
        kept = np.flatnonzero(scores >= self._class_min[class_ids])
        after = sources if self.cfg.method == "append" else ~np.isin(sources, self._voters)
        order = kept[np.lexsort((-scores[kept], after[kept], image_ids[kept]))]
        cuts = np.searchsorted(image_ids[order], np.arange(1, len(sizes_wh)))
        return [
            Merged(Found(boxes[rows], scores[rows], class_ids[rows]), sources[rows]) for rows in np.split(order, cuts)
        ][: len(sizes_wh)]

    def _all(self, answers: Sequence[Sequence[Found]]) -> Proposals:
        """Everybody's boxes that score enough, in one table, in artray's classes."""
        image_ids, members, boxes, scores, class_ids = [], [], [np.zeros((0, 4))], [], []
        for member, (ids, images) in enumerate(zip(self._ids, answers, strict=True)):
            for image, found in enumerate(images):
                image_ids.append(np.full(len(found.scores), image))
                members.append(np.full(len(found.scores), member))
                boxes.append(found.boxes_xyxy.astype(np.float64))
                scores.append(found.scores.astype(np.float64))
                class_ids.append(ids[found.class_ids])
        ids_ = np.concatenate([*class_ids, np.zeros(0, np.int64)])
        groups = CATEGORY_IDS[ids_] if self.cfg.by == "category" else ids_
        table = proposals(
            np.concatenate([*image_ids, np.zeros(0, np.int64)]),
            np.concatenate([*members, np.zeros(0, np.int64)]),
            np.concatenate(boxes),
            np.concatenate([*scores, np.zeros(0)]),
            ids_,
            groups,
        )
        return table.at(table.scores >= self._score_min[table.members])

    def _fused(self, found: Proposals, sizes_wh: NDArray[np.float64]) -> Fused:
        """The voters' boxes, fused; what the rules leave of them."""
        cfg, places = self.cfg, {member: place for place, member in enumerate(self._voters)}
        found = found._replace(members=np.array([places[member] for member in found.members.tolist()], np.int64))
        count = max(1, len(self._voters))
        if cfg.method == "append":
            each = (np.arange(len(found.scores)), np.ones(len(found.scores), np.int64))
            fused = Fused(found.image_ids, found.boxes_xyxy, found.scores, found.class_ids, found.groups, *each)
        elif cfg.method == "each_then_all":
            fused = rules.each_then_all(found, count, cfg.iou_match)
        else:
            weights = tuple(cfg.weights.get(self.members[at].name, 1.0) for at in self._voters) or (1.0,)
            options = Options(
                members=count,
                weights=weights if cfg.weights else None,
                iou_match=cfg.iou_match,
                scoring=cfg.scoring,
                found_by_min=cfg.found_by_min,
                sigma=cfg.sigma,
                lowered=True,
            )
            fused = fuse(cfg.method, found, options)
        return self._ruled(fused, sizes_wh)

    def _ruled(self, fused: Fused, sizes_wh: NDArray[np.float64]) -> Fused:
        """What the rules leave."""
        cfg = self.cfg
        if cfg.nested:
            fused = _at(
                fused,
                rules.outermost(
                    fused.image_ids, fused.boxes_xyxy, fused.class_ids, CLASSES, cfg.nested, cfg.nested_share_min
                ),
            )
        if cfg.oversized:
            sizes = sizes_wh[fused.image_ids]
            fused = _at(
                fused,
                rules.not_oversized(
                    fused.boxes_xyxy, sizes, fused.class_ids, CLASSES, cfg.oversized, cfg.oversized_share_max
                ),
            )
        if cfg.specific_iou is not None:
            fused = _at(
                fused,
                rules.most_specific(fused.image_ids, fused.boxes_xyxy, fused.class_ids, CLASSES, cfg.specific_iou),
            )
        return fused


def _at(fused: Fused, stays: NDArray[np.bool_]) -> Fused:
    return Fused._make(column[stays] for column in fused)
