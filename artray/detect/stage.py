"""Detect objects: decoded rows -> rows with ``objects``.

Importing this module registers every architecture that detects.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.config import DetectConfig, ViewsConfig
from artray.detect import (  # noqa: F401 - they register their architectures
    darknet_engine,
    detectron2_engine,
    onnx_engine,
    torchvision_engine,
    yolox_engine,
)
from artray.detect.detector import Detector, Image
from artray.detect.ensemble import CLASSES, Ensemble, Member
from artray.detect.found import Found
from artray.detect.mtcnn import Mtcnn
from artray.detect.views import SeveralViews
from artray.errors import ConfigError, RowError
from artray.models import attempt as attempts
from artray.models import cards, registry, weights
from artray.models.cards import Card
from artray.schema import Batch
from artray.taxonomy import CATEGORY

Object: TypeAlias = dict[str, Any]
"""A value of :data:`artray.schema.OBJECT`."""


class Detect:
    """One worker's detectors; knows nothing of Ray.

    Raises:
        ConfigError: an unknown card, a device that is not there, or weights that do not fit.
        TransientError: weights cannot be reached.
    """

    def __init__(self, cfg: DetectConfig) -> None:
        self.cfg = cfg
        described = [cards.load(name) for name in cfg.cards]
        cards.check_detectors(described)
        self.detectors: list[tuple[str, Detector]] = [
            (card.name, self._looking(registry.build(card, cfg.device))) for card in described
        ]
        self.ensemble = Ensemble(cfg.fuse, [Member(name, detector.class_names) for name, detector in self.detectors])

    def _looking(self, detector: Detector) -> Detector:
        return detector if self.cfg.views == ViewsConfig() else SeveralViews(detector, self.cfg.views)

    def __call__(self, batch: Batch) -> Batch:
        """Add ``objects``: a list per good row, in the order of :class:`artray.detect.ensemble.Merged`.

        A row that a model raises on becomes an error, ``model_failed``, without pixels; rows with an error get None.

        Args:
            batch: ``pixels`` (uint8[H, W, 3] RGB), ``width_px`` and ``height_px`` of the original, ``error`` and
                ``error_detail``.

        Returns:
            The batch with :data:`artray.schema.DETECTED`; coordinates are pixels of the original image, within it. An
            object's ``source`` is the card that was surest of it.
        """
        errors, details, pixels = list(batch["error"]), list(batch["error_detail"]), list(batch["pixels"])
        answers: list[dict[int, Found]] = [{} for _ in self.detectors]
        for (source, detector), answer in zip(self.detectors, answers, strict=True):
            good = [row for row, error in enumerate(errors) if error == ""]
            for start in range(0, len(good), self.cfg.batch_size):
                rows = good[start : start + self.cfg.batch_size]
                for row, found in zip(rows, attempt(detector, [pixels[row] for row in rows]), strict=True):
                    if isinstance(found, RowError):
                        errors[row], details[row] = found.kind, f"{source}: {found.detail}"
                        pixels[row] = None
                        continue
                    original_wh = (batch["width_px"][row], batch["height_px"][row])
                    answer[row] = place(found, pixels[row].shape[:2], original_wh)
        good = [row for row, error in enumerate(errors) if error == ""]
        sizes = [(batch["width_px"][row], batch["height_px"][row]) for row in good]
        merged = self.ensemble([[answer[row] for row in good] for answer in answers], sizes)
        objects: list[list[Object] | None] = [None] * len(errors)
        for row, one in zip(good, merged, strict=True):
            objects[row] = as_objects(one.found, CLASSES, [self.detectors[at][0] for at in one.sources.tolist()])
        return batch | {"pixels": pixels, "error": errors, "error_detail": details, "objects": objects}


def attempt(detector: Detector, images: Sequence[Image]) -> list[Found | RowError]:
    """What a detector finds in each image, or why nothing; a score that is no number is a failure, too.

    Raises:
        TransientError: the device is lost.
        InvariantError: it did not answer for every image.
    """
    return [found if isinstance(found, RowError) else _numbers(found) for found in attempts.attempt(detector, images)]


def _numbers(found: Found) -> Found | RowError:
    """The answer, unless a score of it is no number."""
    wrong = int(np.isnan(found.scores).sum())
    return RowError("model_failed", f"{wrong} of {len(found.scores)} scores are no numbers") if wrong else found


def place(found: Found, decoded_hw: tuple[int, int], original_wh: tuple[int, int]) -> Found:
    """Boxes in pixels of the original image, clipped to it, by falling score.

    Boxes that have no area within the image, or numbers that are none, are left out.

    Args:
        found: boxes in pixels of the decoded image.
        decoded_hw: its height and width.
        original_wh: the original's width and height.

    >>> found = Found(np.array([[-2, 1, 4, 3]], np.float32), np.array([0.5], np.float32), np.zeros(1, np.int64))
    >>> place(found, (4, 8), (80, 40)).boxes_xyxy.tolist()
    [[0.0, 10.0, 40.0, 30.0]]
    """
    width, height = original_wh
    scale = np.array([width / decoded_hw[1], height / decoded_hw[0]] * 2, np.float32)
    boxes: NDArray[np.float32] = np.clip(found.boxes_xyxy * scale, 0, np.array([width, height] * 2, np.float32))
    placed = found._replace(boxes_xyxy=boxes)
    placed = placed._replace(scores=np.clip(found.scores, 0, 1))
    # comparisons with NaN are false
    placed = placed.at((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (placed.scores >= 0))
    return placed.at(np.argsort(-placed.scores, kind="stable"))


def as_objects(found: Found, class_names: Sequence[str], sources: Sequence[str]) -> list[Object]:
    """The boxes as values of :data:`artray.schema.OBJECT`; float32 numbers stay exactly what they are."""
    return [
        {
            "class_name": (name := class_names[class_id]),
            "category": CATEGORY[name],
            "score": score,
            **dict(zip(("x1_px", "y1_px", "x2_px", "y2_px"), box, strict=True)),
            "source": source,
        }
        for box, score, class_id, source in zip(*(column.tolist() for column in found), sources, strict=True)
    ]


@registry.register("mtcnn")
def build_mtcnn(card: Card, device: str) -> Mtcnn:
    """The face detector that a card describes; its weights have the roles ``pnet``, ``rnet`` and ``onet``.

    Raises:
        ConfigError: the card lacks weights, has a setting that is none, or they do not fit.
        TransientError: its weights cannot be reached.
    """
    owner, roles = f"card {card.name}", ("pnet", "rnet", "onet")
    if set(card.weights) != set(roles):
        raise ConfigError(
            f"{owner}: weights: expected the roles {', '.join(roles)}, got {', '.join(card.weights) or 'none'}"
        )
    pnet, rnet, onet = (weights.fetch(card.weights[role], owner) for role in roles)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in card.settings.items()
    }
    try:
        return Mtcnn(pnet, rnet, onet, device=device, **values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{owner}: settings: {error}") from error
