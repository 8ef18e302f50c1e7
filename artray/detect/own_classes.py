"""What engines share: a model's own classes, called as artray calls them, and which images go through it together."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from artray.detect.detector import Image
from artray.detect.found import Found
from artray.errors import ConfigError
from artray.taxonomy import CATEGORY

Labels: TypeAlias = Mapping[str, str | None]
"""The model's own label to a class of artray's taxonomy, or None where it has none."""

NO_OBJECT: Final = ("__background__", "N/A")
"""Names of ids that stand for no object: the background, and the gaps in COCO's numbering."""


def label_table(classes: Sequence[str], labels: Labels) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The classes of artray that a model can find, and which of them each of its own ids is.

    Args:
        classes: what the model's ids mean, from 0 on.
        labels: a class of the taxonomy, or None, for each of them; those in :data:`NO_OBJECT` need none.

    Returns:
        Names, each once, and int64[len(classes)] of indices into them; -1 where an id maps to nothing.

    Raises:
        ConfigError: an id without label, a label of no id, or one that is not of the taxonomy.

    >>> label_table(["__background__", "person", "bus", "sheep"],
    ...             {"person": "persons (others)", "bus": None, "sheep": "animals (others)"})
    (('persons (others)', 'animals (others)'), array([-1,  0, -1,  1]))
    """
    forgotten = [name for name in classes if name not in labels and name not in NO_OBJECT]
    if forgotten:
        raise ConfigError(f"labels: expected an entry for every class, got none for {forgotten[0]!r}; null drops it")
    for source, target in labels.items():
        if source not in classes:
            raise ConfigError(f"labels: expected names of the card's classes, got {source!r}")
        if target is not None and target not in CATEGORY:
            raise ConfigError(f"labels.{source}: expected a class of the taxonomy or null, got {target!r}")
    targets = [labels.get(name) for name in classes]
    names = tuple(dict.fromkeys(target for target in targets if target is not None))
    return names, np.array([-1 if target is None else names.index(target) for target in targets], dtype=np.int64)


class OwnClasses:
    """A model whose classes are called as artray calls them.

    Args:
        classes: what the model's ids mean, from 0 on.
        labels: what each of ``classes`` is called in artray; several may be called the same.

    Raises:
        ConfigError: a class is not in ``labels``, or a label not in the taxonomy.
    """

    def __init__(self, classes: Sequence[str], labels: Labels) -> None:
        self._class_names, self._class_ids = label_table(classes, labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the taxonomy that it can find, in the order in which ``classes`` first names them."""
        return self._class_names

    def called(self, boxes_xyxy: NDArray[Any], scores: NDArray[Any], own_ids: NDArray[Any]) -> Found:
        """What it says of an image, in artray's classes; labels that map to nothing are left out."""
        class_ids = self._class_ids[own_ids]
        known = class_ids >= 0
        return Found(boxes_xyxy[known], scores[known], class_ids[known])


def together(images: Sequence[Image], device: torch.device, count: int) -> Iterator[Sequence[Image]]:
    """The images that go through a network of one canvas together: so many on an accelerator, on a CPU each by itself.

    So what is found in an image on a CPU cannot depend, not by one bit, on the images beside it.
    """
    step = 1 if device.type == "cpu" else count
    return (images[start : start + step] for start in range(0, len(images), step))


class BySize(OwnClasses, abc.ABC):
    """A model that pads images which go through it together to the largest of them.

    Args:
        classes: what the model's ids mean, from 0 on.
        labels: what each of ``classes`` is called in artray.
        device: where it runs, "cpu" or "cuda".
    """

    def __init__(self, classes: Sequence[str], labels: Labels, device: str) -> None:
        super().__init__(classes, labels)
        self._device = torch.device(device)

    @abc.abstractmethod
    def _padded_hw(self, image: Image) -> tuple[int, int]:
        """The height and width to which an image by itself is padded."""

    @abc.abstractmethod
    def _together(self, images: Sequence[Image]) -> list[Found]:
        """What images show that go through the model together."""

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """What each image shows, in descending order of score.

        Args:
            images: uint8[H, W, 3] RGB, of any sizes.

        Returns:
            boxes_xyxy in pixels of each image, within it; labels that map to nothing are left out.
        """
        found: dict[int, Found] = {}
        for group in self._groups(images):
            with torch.inference_mode():
                found.update(zip(group, self._together([images[index] for index in group]), strict=True))
        return [found[index] for index in range(len(images))]

    def _groups(self, images: Sequence[Image]) -> list[list[int]]:
        """Which images share a forward pass: none on a CPU, elsewhere those of one padded size.

        A CPU gains nothing from batching networks of this size, and its kernels round differently with the number of
        images; padding to a larger neighbour would move boxes on any device.
        """
        if self._device.type == "cpu":
            return [[index] for index in range(len(images))]
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(self._padded_hw(image), []).append(index)
        return list(groups.values())
