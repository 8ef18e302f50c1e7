"""Faces by MTCNN: three small networks, each looking closer at what the one before proposed.

Equal, box for box, to the package ``mtcnn`` 1.0.0, which runs on TensorFlow and whose weights these are. Where it
differs from the paper it is followed: a box removed by suppression still removes others, crops end in the last pixel's
centre and are grey beyond the picture, boxes count as a pixel wider when they are refined.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from artray.detect import mtcnn_pictures as pictures
from artray.detect.boxes import pairwise_iomin, pairwise_iou, suppress_any
from artray.detect.detector import Image
from artray.detect.found import Found
from artray.detect.mtcnn_networks import OutputNet, ProposalNet, RefineNet
from artray.detect.mtcnn_weights import load_weights

WINDOW_PX: Final = 12
"""The side of the proposal network's window, and so of the smallest picture that it can look at."""

LANDMARKS: Final = slice(17, 19)
"""Where the output network's file holds the layer for landmarks."""

CHUNK: Final = 64
"""Crops that go through a network at a time: of 128 each takes longer, as a core's cache is too small for them."""

CHUNK_TOGETHER: Final = 2048
"""The same where images go through the networks together."""

Overlap: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
"""One of the measures in :mod:`artray.detect.boxes`."""


class Candidates(NamedTuple):
    """Boxes of one image on their way through the networks."""

    boxes_xyxy: NDArray[np.float64]
    """float64[N, 4], pixels; may reach beyond the image."""
    scores: NDArray[np.float32]
    """float32[N] in [0, 1]."""

    def at(self, index: NDArray[np.bool_] | NDArray[np.integer]) -> "Candidates":
        """Those that a mask or positions select."""
        return Candidates(self.boxes_xyxy[index], self.scores[index])


class Mtcnn:
    """A face detector.

    On a CPU each image is looked at by itself, so that what is found in it cannot depend, not by one bit, on the
    images beside it. Elsewhere the images of a call go through the networks together.

    Args:
        pnet: weights of the proposal network: the package's ``pnet.lz4``, which the caller has checked.
        rnet: weights of the refining network, likewise.
        onet: weights of the output network, likewise.
        device: where the networks run.
        min_face_px: smallest side of a face that is looked for, 12 at least.
        scale_factor: each level of the pyramid of sizes is this times the one before.
        scores_min: a box stays if it scores more: in the proposal, the refining and the output network.
        overlaps_max: a box goes if it overlaps a better one more: IoU within a level, across levels and after refining,
            intersection over the smaller area at the end.
        together: whether images go through the networks together; unless given, they do where that is faster.

    Raises:
        ConfigError: a weight file does not fit its network.
        ValueError: ``min_face_px`` is less than 12, or ``scale_factor`` is not between 0 and 1.

    Source: the package ``mtcnn`` 1.0.0, whose defaults these are; Zhang et al. 2016, https://arxiv.org/abs/1604.02878.
    """

    class_names: Final = ("face",)

    def __init__(
        self,
        pnet: Path,
        rnet: Path,
        onet: Path,
        *,
        device: str | torch.device = "cpu",
        min_face_px: int = 20,
        scale_factor: float = 0.709,
        scores_min: tuple[float, float, float] = (0.6, 0.7, 0.8),
        overlaps_max: tuple[float, float, float, float] = (0.5, 0.7, 0.7, 0.7),
        together: bool | None = None,
    ) -> None:
        if min_face_px < WINDOW_PX:
            raise ValueError(f"min_face_px: expected at least {WINDOW_PX}, got {min_face_px}")
        if not 0 < scale_factor < 1:
            raise ValueError(f"scale_factor: expected more than 0 and less than 1, got {scale_factor}")
        self.device = torch.device(device)
        self.min_face_px, self.scale_factor = min_face_px, scale_factor
        self.scores_min, self.overlaps_max = scores_min, overlaps_max
        self.together = self.device.type != "cpu" if together is None else together
        self.pnet, self.rnet, self.onet = ProposalNet(), RefineNet(), OutputNet()
        load_weights(self.pnet, pnet)
        load_weights(self.rnet, rnet)
        load_weights(self.onet, onet, unused=LANDMARKS)
        for network in (self.pnet, self.rnet, self.onet):
            network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """Faces of uint8[H, W, 3] RGB images of any sizes, the surest first; boxes lie within their image.

        An image whose shorter side is 20 px or less shows none: its pyramid of sizes has no level.
        """
        groups = [images] if self.together else [[image] for image in images]
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            return [found for group in groups if len(group) for found in self._detect(group)]

    def _detect(self, images: Sequence[Image]) -> list[Found]:
        """Faces of images that go through the networks together."""
        pixels = [pictures.normalised(image, self.device) for image in images]
        _, refined_max, final_max = self.overlaps_max[1:]
        proposed = [squared(found) for found in self._propose(pixels)]
        refined = self._look_closer(self.rnet, pixels, proposed, self.scores_min[1])
        refined = [squared(best(found, refined_max, pairwise_iou)) for found in refined]
        final = self._look_closer(self.onet, pixels, refined, self.scores_min[2])
        final = [best(found, final_max, pairwise_iomin) for found in final]
        return [_within(found, image) for found, image in zip(final, images, strict=True)]

    def _propose(self, pixels: Sequence[Tensor]) -> list[Candidates]:
        """Candidates of all levels of every image, the best first."""
        sizes = [(picture.shape[0], picture.shape[1]) for picture in pixels]
        scales = [pyramid(size, self.min_face_px, self.scale_factor) for size in sizes]
        found: list[list[Candidates]] = [[] for _ in pixels]
        for level in range(max(map(len, scales))):
            members = [n for n, image_scales in enumerate(scales) if level < len(image_scales)]
            level_scales = [scales[n][level] for n in members]
            level_sizes = [_level_size(sizes[n], scale) for n, scale in zip(members, level_scales, strict=True)]
            shown = [pictures.shrink(pixels[n], size) for n, size in zip(members, level_sizes, strict=True)]
            windows = self._windows(pictures.stack(shown), level_sizes)
            for n, scale, candidates in zip(members, level_scales, windows, strict=True):
                boxes_xyxy = candidates.boxes_xyxy / scale
                found[n].append(best(Candidates(boxes_xyxy, candidates.scores), self.overlaps_max[0], pairwise_iou))
        return [best(_joined(levels), self.overlaps_max[1], pairwise_iou) for levels in found]

    def _windows(self, shown: Tensor, sizes_hw: Sequence[pictures.Size]) -> Iterator[Candidates]:
        """Windows of float32[N, 3, h, w] that look like faces, in pixels of these pictures, one picture's at a time."""
        all_offsets, all_scores = self.pnet(shown, sizes_hw)
        at = (all_scores > self.scores_min[0]).nonzero(as_tuple=True)
        offsets, scores = all_offsets[at].cpu().numpy(), all_scores[at].cpu().numpy()
        picture, row, column = (index.cpu().numpy() for index in at)
        first = 2 * np.stack([column, row, column, row], axis=1) + 1  # a step is 2 px
        side = WINDOW_PX - 1
        boxes_xyxy = first + np.array([0, 0, side, side]) + offsets.astype(np.float64) * side
        for n in range(len(sizes_hw)):
            yield Candidates(boxes_xyxy, scores).at(picture == n)

    def _look_closer(
        self, network: RefineNet | OutputNet, pixels: Sequence[Tensor], found: Sequence[Candidates], score_min: float
    ) -> list[Candidates]:
        """Candidates as a network moves and scores them, less those that score no more than ``score_min``."""
        crops = torch.cat([pictures.crop(p, f.boxes_xyxy, network.crop_px) for p, f in zip(pixels, found, strict=True)])
        chunks = torch.split(crops, CHUNK_TOGETHER if self.together else CHUNK)
        looks = [network(chunk) for chunk in chunks]
        offsets, scores = (torch.cat(parts).cpu().numpy() for parts in zip(*looks, strict=True))
        ends = np.cumsum([len(f.scores) for f in found])[:-1]
        moved = [
            Candidates(_moved(f.boxes_xyxy, image_offsets), image_scores)
            for f, image_offsets, image_scores in zip(
                found, np.split(offsets, ends), np.split(scores, ends), strict=True
            )
        ]
        return [candidates.at(candidates.scores > score_min) for candidates in moved]


def pyramid(size_hw: pictures.Size, min_face_px: int, scale_factor: float) -> list[float]:
    """The scales at which a picture is looked at: the first makes the smallest face as large as the window.

    None is so small that the window does not fit. (The reference has such scales where ``min_face_px`` is more than
    20, and then finds nothing at all.)

    >>> [round(scale, 3) for scale in pyramid((100, 80), min_face_px=20, scale_factor=0.709)]
    [0.6, 0.425, 0.302, 0.214, 0.152]

    Source: ``mtcnn.utils.images.build_scale_pyramid``.
    """
    shorter = min(size_hw)
    count = round(-(math.log(shorter / WINDOW_PX) / math.log(scale_factor) + 1))
    scales = [WINDOW_PX / min_face_px * scale_factor**level for level in range(count)]
    return [scale for scale in scales if min(_level_size(size_hw, scale)) >= WINDOW_PX]


def _level_size(size_hw: pictures.Size, scale: float) -> pictures.Size:
    """The size of a level of the pyramid, cut to whole pixels."""
    return int(size_hw[0] * scale), int(size_hw[1] * scale)


def best(found: Candidates, overlap_max: float, overlap: Overlap) -> Candidates:
    """The best first; less those that overlap any better one more than ``overlap_max``.

    Scores of exactly 1 are common, and which of them counts as better decides which stays: they are sorted by the very
    call that the reference sorts them by, unstable as it is.
    """
    found = found.at(np.argsort(found.scores.astype(np.float64))[::-1])
    return found.at(suppress_any(found.boxes_xyxy, overlap_max, overlap))


def squared(found: Candidates) -> Candidates:
    """Boxes made square about their centres, as large as their longer sides.

    >>> squared(Candidates(np.array([[0.0, 0.0, 4.0, 2.0]]), np.ones(1, np.float32))).boxes_xyxy.tolist()
    [[0.0, -1.0, 4.0, 3.0]]
    """
    low, sides = found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
    side = sides.max(axis=1, keepdims=True)
    low = low + sides * 0.5 - side * 0.5
    return Candidates(np.hstack([low, low + side]), found.scores)


def _moved(boxes_xyxy: NDArray[np.float64], offsets: NDArray[np.float32]) -> NDArray[np.float64]:
    """Boxes moved by offsets in units of their sides plus a pixel."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + 1
    return boxes_xyxy + offsets * np.tile(sides, 2).astype(np.float32)


def _joined(levels: Sequence[Candidates]) -> Candidates:
    """All levels' candidates of one image."""
    none = Candidates(np.empty((0, 4)), np.empty(0, np.float32))
    boxes_xyxy, scores = zip(none, *levels, strict=True)
    return Candidates(np.concatenate(boxes_xyxy), np.concatenate(scores))


def _within(found: Candidates, image: Image) -> Found:
    """Candidates as faces, cut to the image: x in [0, W - 1], y in [0, H - 1]."""
    height, width, _ = image.shape
    last = np.array([width - 1, height - 1] * 2, np.float32)
    boxes_xyxy = found.boxes_xyxy.astype(np.float32).clip(0, last)
    return Found(boxes_xyxy, found.scores, np.zeros(len(boxes_xyxy), np.int64))
