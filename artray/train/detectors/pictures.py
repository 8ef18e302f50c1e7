"""Batches of a detector's pictures on their canvases, with what they show."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from artray.detect.assign import BatchTruth, Truth, together
from artray.detect.detector import Image
from artray.train.detectors import augment
from artray.train.detectors.augment import Scene
from artray.train.detectors.cutouts import CutOuts
from artray.train.detectors.labels import Labels
from artray.train.detectors.profile import DetectorProfile
from artray.train.loading import Ahead, Place, loaded, places
from artray.train.sampling import Share, in_order
from artray.train.works import Ints

Item: TypeAlias = tuple[Tensor, Truth, tuple[int, int]]
"""A canvas, what it shows, and the width and height of the part in its upper left that is no ground."""


class Batch(NamedTuple):
    """Some pictures."""

    canvases: Tensor  # uint8[n, S, S, 3] RGB
    truth: BatchTruth  # of n images
    drawn_wh: tuple[tuple[int, int], ...]  # n; as an :data:`Item` has it


class Pictures:
    """Batches of a profile's pictures.

    Args:
        profile: what is done to pictures, and the processes that do it.
        labels: of all N pictures.
        size_px: side of the canvas.
        read: a picture's pixels uint8[H, W, 3] by its row, of any size; it is sent to the processes.
    """

    def __init__(self, profile: DetectorProfile, labels: Labels, size_px: int, read: Callable[[int], Image]) -> None:
        self.profile, self.labels, self.size_px, self.read = profile, labels, size_px, read
        paste = profile.augment.paste
        self.draw = None if paste is None or not paste.p else CutOuts(paste, labels.class_names)
        self._ahead = Ahead(_Shown(self), profile.workers, profile.training.epochs, _together)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_ahead": None}  # which is of this process alone

    def training(self, number: int, first: int, planned: Callable[[int], Sequence[Share]]) -> Iterator[Batch]:
        """A batch per share of an epoch, from the ``first`` on; augmented."""
        return self._ahead.batches(
            number, first, len(planned(number)) - first, lambda later: places(later, planned(later))
        )

    def validation(self, rows: Ints, batch_size: int) -> Iterator[Batch]:
        """Pictures as the detector shows them to its network, in order."""
        return loaded(_Plain(self, rows), in_order(len(rows), batch_size), self.profile.workers, _together)

    def close(self) -> None:
        """End the processes that prepare what would be learned from next."""
        self._ahead.close()

    def scene(self, row: int) -> Scene:
        """A picture and its objects, in the cache's resolution."""
        image, boxed = self.read(row), self.labels.boxed[row]
        scale = np.tile([image.shape[1], image.shape[0]] / self.labels.sizes_wh[row], 2)
        return Scene(image, boxed.boxes_xyxy * scale, boxed.class_ids, boxed.ignored)

    def item(self, scene: Scene, row: int, drawn_wh: tuple[int, int] | None = None) -> Item:
        """A scene on its canvas, as tensors; ``drawn_wh`` is the part that is no ground, None all of it."""
        boxes, ignored = torch.from_numpy(scene.boxes_xyxy.astype(np.float32)), torch.from_numpy(scene.ignored)
        truth = Truth(
            boxes[~ignored],
            torch.from_numpy(scene.class_ids)[~ignored],
            torch.from_numpy(self.labels.labelled[row]),
            torch.from_numpy(self.labels.told[row]),
            boxes[ignored],
        )
        return torch.from_numpy(scene.image), truth, drawn_wh or (self.size_px, self.size_px)


class _Shown(Dataset[Item]):
    """Pictures as an epoch shows them."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def __getitem__(self, place: Place) -> Item:
        pictures, (number, position, row) = self.pictures, place
        random = np.random.default_rng([pictures.profile.training.seed, number, position])
        cfg, draw = pictures.profile.augment, pictures.draw
        return pictures.item(augment.shown(pictures.scene(row), pictures.size_px, cfg, random, draw), row)


class _Plain(Dataset[Item]):
    """Pictures as they are judged."""

    def __init__(self, pictures: Pictures, rows: Ints) -> None:
        self.pictures, self.rows = pictures, rows

    def __getitem__(self, index: int) -> Item:
        pictures, row = self.pictures, int(self.rows[index])
        scene, drawn_wh = augment.plain(pictures.scene(row), pictures.size_px)
        return pictures.item(scene, row, drawn_wh)


def _together(items: list[Item]) -> Batch:
    canvases, truths, drawn = zip(*items, strict=True)
    return Batch(torch.stack(canvases), together(truths), drawn)
