"""What the outputs of exported detectors mean: pure NumPy, from a model's raw numbers to boxes, by kind of head.

A head is registered under the name that a card's architecture has after ``onnx/``. Decoding looks at all boxes of an
image at once and drops none for its score: which are kept is the engine's concern, and the same for all heads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artray.detect.found import Found
from artray.errors import ConfigError

Floats: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int | str, ...]
"""Of one output; a name stands for any size, everywhere the same."""

BINS: Final = 8
"""Numbers in which NanoDet says how far away a side is; ``reg_max`` 7 in its own configurations."""

ENDLESS: Final = 2**16
"""An exponent's result, in cells, that is as good as infinite; only an untrained network says more."""


class Layout(NamedTuple):
    """What the outputs' sizes follow from."""

    size_wh: tuple[int, int]  # of the network's input, pixels
    classes: int  # that the network tells apart
    strides: tuple[int, ...] = (8, 16, 32)  # pixels per cell of its grids, in the order of its outputs
    extras: int = 0  # numbers per box that are neither corners nor scores: landmarks, key points, mask coefficients


Decode: TypeAlias = Callable[[Sequence[Floats], Layout], Found]
"""From the outputs for one image, without the dimension of the batch, to N boxes in pixels of the network's input."""


class Head(NamedTuple):
    """One kind of output."""

    decode: Decode
    shapes: Callable[[Layout], tuple[Shape, ...]]  # of the outputs, with the dimension of the batch
    usual: Mapping[str, Any]  # the engine's settings that such models are made for
    overlapping: bool  # whether it finds an object several times, so that boxes must be suppressed


_HEADS: Final[dict[str, Head]] = {}


def register(
    name: str,
    shapes: Callable[[Layout], tuple[Shape, ...]],
    usual: Mapping[str, Any] = MappingProxyType({}),
    overlapping: bool = True,
) -> Callable[[Decode], Decode]:
    """Decorate the function that decodes a kind of head.

    Raises:
        ValueError: the name is taken.
    """

    def keep(decode: Decode) -> Decode:
        if name in _HEADS:
            raise ValueError(f"head: expected a name that is not registered, got {name!r}")
        _HEADS[name] = Head(decode, shapes, usual, overlapping)
        return decode

    return keep


def names() -> tuple[str, ...]:
    """The heads that are registered, sorted."""
    return tuple(sorted(_HEADS))


def get(name: str) -> Head:
    """A head by its name.

    Raises:
        ConfigError: no such head; names those that there are.
    """
    if name not in _HEADS:
        known = ", ".join(f"onnx/{known}" for known in names())
        raise ConfigError(f"architecture: expected one of {known}, got {f'onnx/{name}'!r}")
    return _HEADS[name]


def decode(head: Head, outputs: Sequence[Floats], layout: Layout) -> Found:
    """What a model's outputs for one image say.

    Args:
        head: of :func:`get`.
        outputs: float32, in the head's order; the first dimension, that of a batch of one, may lack.
        layout: what their shapes must follow from.

    Returns:
        All boxes, in pixels of the network's input, perhaps beyond it; scores as the model gave them, NaN too.

    Raises:
        ConfigError: the number of outputs or a shape is another; says which were expected and which found.
    """
    expected = head.shapes(layout)
    whole = [
        array[None] if array.ndim + 1 == len(shape) else array for array, shape in zip(outputs, expected, strict=False)
    ]
    if len(outputs) != len(expected) or not _fit(whole, expected):
        raise ConfigError(
            f"outputs: expected {len(expected)} of shape {_listed(expected)}, "
            f"got {len(outputs)} of shape {_listed([array.shape for array in outputs])}; "
            f"do architecture, classes, size_wh and extras agree with the model? settings.outputs chooses and sorts"
        )
    return head.decode([array[0] for array in whole], layout)


def _fit(outputs: Sequence[Floats], shapes: Sequence[Shape]) -> bool:
    """Whether the shapes are these; a name stands for the same size wherever it stands."""
    named: dict[str, int] = {}
    return [array.ndim for array in outputs] == [len(shape) for shape in shapes] and all(
        got == (named.setdefault(size, got) if isinstance(size, str) else size)
        for array, shape in zip(outputs, shapes, strict=True)
        for got, size in zip(array.shape, shape, strict=True)
    )


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes)


def grid(layout: Layout) -> tuple[Floats, Floats]:
    """The cells of all grids, one after the other, each row by row.

    Returns:
        float32[N, 2]: column and row of every cell within its grid; float32[N, 1]: its side in pixels.

    >>> cells, strides = grid(Layout((16, 8), 1, (8, 16)))
    >>> cells.tolist(), strides.ravel().tolist()
    ([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [8.0, 8.0, 16.0])
    """
    columns, rows, sides = [], [], []
    for stride, (width, height) in zip(layout.strides, _grids(layout), strict=True):
        columns.append(np.tile(np.arange(width), height))
        rows.append(np.repeat(np.arange(height), width))
        sides.append(np.full(width * height, stride))
    cells = np.stack([np.concatenate(columns), np.concatenate(rows)], axis=1)
    return cells.astype(np.float32), np.concatenate(sides).astype(np.float32)[:, None]


def _grids(layout: Layout) -> Iterator[tuple[int, int]]:
    """Columns and rows of every grid; an edge's last cell may reach beyond the input."""
    return ((-(-layout.size_wh[0] // stride), -(-layout.size_wh[1] // stride)) for stride in layout.strides)


def _cells(layout: Layout) -> list[int]:
    return [width * height for width, height in _grids(layout)]


def corners(centres: Floats, sizes_wh: Floats) -> Floats:
    """float32[N, 4] x1, y1, x2, y2 from centres and sizes, float32[N, 2] each.

    >>> corners(np.array([[5, 4]], np.float32), np.array([[6, 2]], np.float32)).tolist()
    [[2.0, 3.0, 8.0, 5.0]]
    """
    return np.concatenate([centres - sizes_wh / 2, centres + sizes_wh / 2], axis=1)


def best_class(boxes_xyxy: Floats, scores: Floats) -> Found:
    """Each of N boxes with the class that it scores highest in, of float32[N, C]; NaN counts as the highest."""
    class_ids = scores.argmax(axis=1)
    return Found(boxes_xyxy, scores[np.arange(len(scores)), class_ids], class_ids)


def _lengths(exponents: Floats) -> Floats:
    """Sides of boxes from their logarithms, in cells."""
    lengths: Floats = np.exp(np.minimum(exponents, np.float32(np.log(ENDLESS))))
    return lengths


@register("yolov5", lambda to: ((1, "N", 5 + to.extras + to.classes),))
def yolov5(outputs: Sequence[Floats], layout: Layout) -> Found:
    """Exports of YOLOv5, v6 and v7 (and of v3, and of YOLOX with its decoding inside).

    Args:
        outputs: float32[N, 5 + extras + C]: centre x and y, width and height in pixels of the input, how sure it is of
            an object, extras (YOLOv5-face's landmarks), how sure of each class; probabilities, not logits.
        layout: of C classes.

    Source: ultralytics/yolov5, the format of its exports; deepcam-cn/yolov5-face.
    """
    (rows,) = outputs
    return best_class(corners(rows[:, :2], rows[:, 2:4]), rows[:, 4:5] * rows[:, 5 + layout.extras :])


@register("yolov8", lambda to: ((1, 4 + to.classes + to.extras, "N"),))
def yolov8(outputs: Sequence[Floats], layout: Layout) -> Found:
    """Exports of YOLOv8, v9, 11 and 12, which tell no object apart from its class; NudeNet is one.

    Args:
        outputs: float32[4 + C + extras, N]: centre x and y, width and height in pixels of the input, how sure it is of
            each class, extras (key points, mask coefficients).
        layout: of C classes.

    Source: ultralytics/ultralytics, the format of its exports.
    """
    (columns,) = outputs
    return best_class(corners(columns[:2].T, columns[2:4].T), columns[4 : 4 + layout.classes].T)


@register("end2end", lambda _: ((1, "N", 6),), overlapping=False)
def end2end(outputs: Sequence[Floats], layout: Layout) -> Found:
    """Heads that find each object once (YOLOv10, YOLO26), and exports that suppress within the model.

    Args:
        outputs: float32[N, 6]: x1, y1, x2, y2 in pixels of the input, score, class id. Rows without a score, or with
            -1 for a class, fill the output up.
        layout: of C classes.

    Raises:
        ConfigError: a class that the card does not name.

    Source: THU-MIG/yolov10, ultralytics/ultralytics, the format of their exports.
    """
    (rows,) = outputs
    rows = rows[~(rows[:, 4] <= 0) & ~(rows[:, 5] < 0)]  # NaN stays, to be seen
    class_ids = np.nan_to_num(rows[:, 5]).astype(np.int64)
    if (class_ids >= layout.classes).any():
        raise ConfigError(
            f"classes: expected one for each id of the model, got {layout.classes} and id {max(class_ids)}"
        )
    return Found(rows[:, :4], rows[:, 4], class_ids)


@register(
    "yolox",
    lambda to: ((1, sum(_cells(to)), 5 + to.classes),),
    usual={"channels": "bgr", "std": (1, 1, 1), "place": "corner"},
)
def yolox(outputs: Sequence[Floats], layout: Layout) -> Found:
    """YOLOX as its authors export it: positions and sizes relative to cells.

    Args:
        outputs: float32[N, 5 + C], a row per cell of all grids: centre relative to the cell's upper left corner and
            logarithms of width and height, in cells; how sure it is of an object, and of each class.
        layout: of C classes.

    Source: Megvii-BaseDetection/YOLOX, ``demo_postprocess``; Ge et al. 2021, https://arxiv.org/abs/2107.08430.
    """
    (rows,) = outputs
    cells, strides = grid(layout)
    boxes_xyxy = corners((rows[:, :2] + cells) * strides, _lengths(rows[:, 2:4]) * strides)
    return best_class(boxes_xyxy, rows[:, 4:5] * rows[:, 5:])


@register(
    "nanodet",
    lambda to: (*((1, count, to.classes) for count in _cells(to)), *((1, count, 4 * BINS) for count in _cells(to))),
    usual={
        "channels": "bgr",
        "mean": (103.53, 116.28, 123.675),
        "std": (57.375, 57.12, 58.395),
        "pad": 0,
        "iou_max": 0.6,
    },
)
def nanodet(outputs: Sequence[Floats], layout: Layout) -> Found:
    """NanoDet's first generation (-m, -g, -t), with an output per grid.

    Args:
        outputs: for every grid float32[n, C], how sure it is of each class; then for every grid float32[n, 32], for
            each side of the box logits of its distance from the cell's centre, 0 to 7 cells.
        layout: of C classes.

    Source: RangiLyu/nanodet, ``GFLHead``; Li et al. 2020, https://arxiv.org/abs/2006.04388.
    """
    grids = len(layout.strides)
    scores, logits = np.concatenate(outputs[:grids]), np.concatenate(outputs[grids:]).reshape(-1, 4, BINS)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    distances = weights @ np.arange(BINS, dtype=np.float32) / weights.sum(axis=2)
    cells, strides = grid(layout)
    centres = cells + np.float32(0.5)
    boxes = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1) * strides
    return best_class(boxes, scores)


@register(
    "yunet",
    lambda to: tuple((1, count, size) for size in (to.classes, 1, 4, 10) for count in _cells(to)),
    usual={"channels": "bgr", "std": (1, 1, 1), "place": "corner", "pad": 0, "iou_max": 0.3},
)
def yunet(outputs: Sequence[Floats], layout: Layout) -> Found:
    """YuNet, a detector of faces.

    Args:
        outputs: for every grid float32[n, 1], how sure it is of a face; then likewise how sure of an object; then
            float32[n, 4], centre relative to the cell and logarithms of the size, in cells; then ten for landmarks.
        layout: of one class.

    Returns:
        Faces; the score is the geometric mean of both.

    Source: ShiqiYu/libfacedetection.train; OpenCV's ``FaceDetectorYN``; Wu et al. 2023,
        https://doi.org/10.1007/s11633-023-1423-y.
    """
    faces, objects, places = (np.concatenate(group) for group in _groups(outputs, len(layout.strides))[:3])
    cells, strides = grid(layout)
    boxes_xyxy = corners((places[:, :2] + cells) * strides, _lengths(places[:, 2:]) * strides)
    return best_class(boxes_xyxy, np.sqrt(np.clip(faces, 0, 1) * np.clip(objects, 0, 1)))


def _groups(outputs: Sequence[Floats], size: int) -> list[Sequence[Floats]]:
    return [outputs[start : start + size] for start in range(0, len(outputs), size)]


@register(
    "ultraface",
    lambda to: ((1, "N", 1 + to.classes), (1, "N", 4)),
    usual={"mean": (127, 127, 127), "std": (128, 128, 128), "resize": "squash", "iou_max": 0.3},
)
def ultraface(outputs: Sequence[Floats], layout: Layout) -> Found:
    """Ultra-Light-Fast-Generic-Face-Detector, and other SSDs that decode their boxes themselves.

    Args:
        outputs: float32[N, 1 + C], probabilities of the background and of each class; float32[N, 4], x1, y1, x2, y2
            as shares of the input's width and height.
        layout: of C classes.

    Source: Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB, ``run_video_face_detect_onnx.py``.
    """
    scores, shares = outputs
    return best_class(shares * np.array(layout.size_wh * 2, np.float32), scores[:, 1:])
