"""Repeat factor sampling: images with rare classes are shown more often in an epoch.

Source: Gupta et al., LVIS (CVPR 2019), https://arxiv.org/abs/1908.03195, section 4.2, as Detectron2's
RepeatFactorTrainingSampler does it; the report, Object Detection, section 4.1 and Table 4.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def factors(images: int, image_ids: Ints, class_ids: Ints, threshold: float) -> Floats:
    """How often each image is to be shown in an epoch, on average: float64[images], 1 or more.

    A class that a share f of the images shows has the factor ``max(1, sqrt(threshold / f))``; an image has the greatest
    of its classes' factors, and 1 without any.

    Args:
        images: how many there are, those without a box too.
        image_ids: int64[N] in [0, images), of N boxes.
        class_ids: int64[N] >= 0.
        threshold: classes that fewer than this share of the images show are repeated. Table 4: 0.06, 0.2 and 0.4.

    Raises:
        ValueError: columns of two lengths, an image out of range, or a negative threshold.

    One of four images shows the rare class:

    >>> factors(4, np.array([0, 1, 2, 3, 3]), np.array([0, 0, 0, 0, 1]), threshold=0.49).tolist()
    [1.0, 1.0, 1.0, 1.4]
    """
    if image_ids.shape != class_ids.shape or threshold < 0:
        shapes = f"{image_ids.shape} and {class_ids.shape}"
        raise ValueError(f"expected columns of one length and a threshold >= 0, got {shapes} and {threshold}")
    if len(image_ids) and not 0 <= image_ids.min() <= image_ids.max() < images:
        raise ValueError(f"image_ids: expected numbers in [0, {images}), got {image_ids.min()} to {image_ids.max()}")
    result = np.ones(images)
    if not len(image_ids):
        return result
    shown = np.unique(np.stack([image_ids, class_ids]), axis=1)
    share = np.bincount(shown[1]) / images
    of_class = np.maximum(1.0, np.sqrt(threshold / np.maximum(share, 1 / images)))
    np.maximum.at(result, shown[0], of_class[shown[1]])
    return result


def epoch(repeats: Floats, random: np.random.Generator) -> Ints:
    """An epoch's images int64[M] in random order: each as often as the whole part of its factor says, and once more by
    the chance that the rest is.

    Args:
        repeats: float64[N] of :func:`factors`.
        random: draws N times and shuffles.
    """
    whole = np.floor(repeats)
    times = whole.astype(np.int64) + (random.random(len(repeats)) < repeats - whole)
    return random.permutation(np.repeat(np.arange(len(repeats)), times))


def shares(images: int, image_ids: Sequence[int], class_ids: Sequence[int], classes: int, repeats: Floats) -> Floats:
    """The share of an epoch's images that show each class, on average: float64[classes], to be told to the user."""
    shown = np.unique(np.array([list(image_ids), list(class_ids)], np.int64).reshape(2, -1), axis=1)
    counted = np.bincount(shown[1], weights=repeats[shown[0]], minlength=classes)
    return counted / repeats.sum() if images else np.zeros(classes)
