"""What a detector's training shows of a picture, and where its objects are then. Pure: numpy and OpenCV."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from artray.classify.inputs import resize
from artray.detect import artify
from artray.detect.boxes import areas, pairwise_covered
from artray.detect.composite import CutOut, composite
from artray.detect.detector import Image
from artray.detect.letterbox import GROUND, letterbox
from artray.train.detectors.profile import AugmentBoxes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GAIN = 0.25
"""Each channel's gain differs from 1 by at most so much where a picture is toned, and brightness by twice that."""

GAMMA = 1.6
"""Its gamma lies between 1 over this and this."""


class Scene(NamedTuple):
    """A picture and where its T objects are."""

    image: Image  # uint8[H, W, 3] RGB
    boxes_xyxy: Floats  # float64[T, 4] px, within the picture
    class_ids: Ints  # int64[T]
    ignored: Bools  # bool[T]: neither learned nor denied


Draw = Callable[[np.random.Generator], Sequence[CutOut]]
"""Cut-outs, by lot."""


def shown(
    scene: Scene, size_px: int, cfg: AugmentBoxes, random: np.random.Generator, draw: Draw | None = None
) -> Scene:
    """A scene on the network's canvas, otherwise every time.

    Args:
        scene: with a picture of any size.
        size_px: side of the canvas.
        cfg: what is done, and how often.
        random: all that is random.
        draw: the cut-outs; None pastes none.
    """
    if draw is not None and cfg.paste is not None and random.random() < cfg.paste.p:
        scene = pasted(scene, draw(random), random, cfg)
    if random.random() < cfg.cropped:
        scene = cropped(scene, random, cfg)
    scene = resized(scene, size_px * random.uniform(*cfg.canvas_share))
    image = artify.augmented(scene.image, random, artify=cfg.artify, greyscale=cfg.greyscale)
    if random.random() < cfg.toned:
        image = toned(image, random)
    scene = scene._replace(image=image)
    if random.random() < cfg.mirrored:
        scene = mirrored(scene)
    return placed(scene, size_px, random)


def plain(scene: Scene, size_px: int) -> tuple[Scene, tuple[int, int]]:
    """A scene as the detector shows it to its network, and the width and height of what is no ground there."""
    letter, (height, width) = letterbox(scene.image, (size_px, size_px)), scene.image.shape[:2]
    boxes = letter.to_canvas(scene.boxes_xyxy).astype(np.float64)
    return scene._replace(image=letter.canvas, boxes_xyxy=boxes), letter.drawn_wh((width, height))


def pasted(scene: Scene, objects: Sequence[CutOut], random: np.random.Generator, cfg: AugmentBoxes) -> Scene:
    """With cut-outs on it; objects of which these hide too much are ignored from then on."""
    assert cfg.paste is not None
    made = composite(scene.image, objects, random, cfg.paste.pasting())
    visible = 1 - hidden(scene.boxes_xyxy, made.boxes_xyxy)
    return Scene(
        made.image,
        np.concatenate([scene.boxes_xyxy, made.boxes_xyxy]),
        np.concatenate([scene.class_ids, made.class_ids]),
        np.concatenate([scene.ignored | (visible < cfg.seen_min), made.seen < cfg.seen_min]),
    )


def hidden(boxes_xyxy: Floats, others_xyxy: Floats) -> Floats:
    """The part of each box that the other box that hides most of it covers: float64[T] in [0, 1].

    >>> hidden(np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 0, 2, 4], [3, 3, 9, 9]])).tolist()
    [0.5]
    """
    return np.asarray(pairwise_covered(boxes_xyxy, others_xyxy).max(axis=1, initial=0.0), np.float64)


def cropped(scene: Scene, random: np.random.Generator, cfg: AugmentBoxes) -> Scene:
    """A part of a scene; objects of which it shows too little are ignored, those of which it shows nothing are gone."""
    height, width = scene.image.shape[:2]
    shares = random.uniform(*cfg.crop_share, size=2)
    new_width, new_height = max(1, round(width * shares[0])), max(1, round(height * shares[1]))
    x, y = (int(random.integers(room + 1)) for room in (width - new_width, height - new_height))
    boxes = np.clip(scene.boxes_xyxy - [x, y, x, y], 0, [new_width, new_height] * 2)
    seen = areas(boxes) / np.maximum(areas(scene.boxes_xyxy), 1e-9)
    there = seen > 0
    ignored = scene.ignored | (seen < cfg.seen_min)
    image = np.ascontiguousarray(scene.image[y : y + new_height, x : x + new_width])
    return Scene(image, boxes[there], scene.class_ids[there], ignored[there])


def resized(scene: Scene, longer_px: float) -> Scene:
    """A scene whose longer side has so many pixels, rounded."""
    height, width = scene.image.shape[:2]
    scale = longer_px / max(height, width)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    factor = [new_width / width, new_height / height] * 2
    return scene._replace(image=resize(scene.image, new_width, new_height), boxes_xyxy=scene.boxes_xyxy * factor)


def mirrored(scene: Scene) -> Scene:
    """Left to right.

    >>> scene = Scene(np.zeros((2, 10, 3), np.uint8), np.array([[1.0, 0, 4, 2]]), np.zeros(1, int), np.zeros(1, bool))
    >>> mirrored(scene).boxes_xyxy.tolist()
    [[6.0, 0.0, 9.0, 2.0]]
    """
    width = scene.image.shape[1]
    boxes = scene.boxes_xyxy.copy()
    boxes[:, [0, 2]] = width - scene.boxes_xyxy[:, [2, 0]]
    return scene._replace(image=np.ascontiguousarray(scene.image[:, ::-1]), boxes_xyxy=boxes)


def toned(image: Image, random: np.random.Generator) -> Image:
    """In another light: each channel's gain, the brightness and the gamma change."""
    gains = (1 + random.uniform(-GAIN, GAIN, 3)) * (1 + random.uniform(-2 * GAIN, 2 * GAIN))
    gamma = GAMMA ** random.uniform(-1, 1)
    levels = 255 * (np.arange(256) / 255)[:, None] ** gamma * gains
    table = np.clip(levels, 0, 255).round().astype(np.uint8)
    changed: Image = np.asarray(cv2.LUT(image, table[None]), np.uint8)
    return changed


def placed(scene: Scene, size_px: int, random: np.random.Generator) -> Scene:
    """Anywhere on the canvas."""
    height, width = scene.image.shape[:2]
    x, y = (int(random.integers(size_px - side + 1)) for side in (width, height))
    canvas: Image = np.full((size_px, size_px, 3), GROUND, np.uint8)
    canvas[y : y + height, x : x + width] = scene.image
    return scene._replace(image=canvas, boxes_xyxy=scene.boxes_xyxy + np.array([x, y, x, y]))
