"""What is known of a training's pictures, as arrays: their boxes, and what is no object because nobody said that it is.

Sets name different things. Where a set boxes persons and nothing else, its pictures' cows are no background, and its
angels are persons: see :class:`artray.detect.assign.Truth`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artray.detect.datasets.tables import CORNERS
from artray.taxonomy import CATEGORY, coarse, fallback
from artray.train.works import Ints

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Boxed(NamedTuple):
    """The boxes of one picture: T objects."""

    boxes_xyxy: Floats  # float64[T, 4], pixels of the upright original
    class_ids: Ints  # int64[T]
    ignored: Bools  # bool[T]: neither learned nor denied


class Labels(NamedTuple):
    """What is known of N pictures."""

    class_names: tuple[str, ...]  # C
    boxed: tuple[Boxed, ...]  # N
    sizes_wh: Ints  # int64[N, 2] px, of the upright originals
    labelled: Bools  # bool[N, C]: classes whose every object has a box, by whatever name
    told: Bools  # bool[N, C]: classes by whose name the picture's set would have called a box
    judged: Bools  # bool[N, C]: classes that are labelled by that very name, so that predictions of them can be judged
    counts_as: Ints  # int64[N, C]: what a prediction of a class is called in the picture's set; -1: nothing
    sources: tuple[str, ...]  # N
    groups: tuple[str, ...]  # N: what intervals resample together

    def ids(self, rows: Sequence[int] | Ints) -> tuple[Ints, Ints]:
        """Of some pictures' objects: int64[P] positions in ``rows``, int64[P] classes; ignored ones are left out."""
        found = [self.boxed[row].class_ids[~self.boxed[row].ignored] for row in rows]
        places = np.repeat(np.arange(len(found)), [len(ids) for ids in found])
        return places, np.concatenate([np.empty(0, np.int64), *found])


def boxed_classes(labelled: Sequence[str], class_names: Sequence[str]) -> list[bool]:
    """Which classes have a box wherever there is one, by whatever name, in a picture with these classes labelled.

    An "others" that is labelled stands for its whole category.

    >>> boxed_classes(["persons (others)", "dog"], ["angel", "persons (others)", "dog", "cat"])
    [True, True, True, False]
    """
    named = {*labelled}
    return [name in named or fallback(coarse(name)) in named for name in class_names]


def told_classes(used: Sequence[str], class_names: Sequence[str]) -> list[bool]:
    """Which classes a box of another name is not, in a set that uses these names.

    All that it uses, and every class of categories of which it uses none.

    >>> told_classes(["persons (others)", "angel"], ["angel", "mary", "persons (others)", "dog"])
    [True, False, True, True]
    """
    named, categories = {*used}, {coarse(name) for name in used}
    return [name in named or coarse(name) not in categories for name in class_names]


def counted_as(used: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """What a prediction of each class is called in a set that uses these names: itself, its "others", or nothing (-1).

    >>> counted_as(["persons (others)", "angel"], ["angel", "mary", "persons (others)", "dog"])
    [0, 2, 2, -1]
    """
    ids = {name: at for at, name in enumerate(class_names)}
    names = [next((each for each in (name, fallback(coarse(name))) if each in used), "") for name in class_names]
    return [ids.get(name, -1) for name in names]


def class_names(boxes: pa.Table, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The classes that are learned: those that are wanted, or all that there are boxes of, in the taxonomy's order."""
    if wanted is not None:
        return tuple(wanted)
    there = set(boxes["class_name"].to_pylist())
    return tuple(name for name in CATEGORY if name in there)


def judged_classes(boxes: pa.Table, wanted: Sequence[Sequence[str] | None], found: Iterable[str]) -> tuple[str, ...]:
    """What detectors, alone or fused, are judged on: one rule, so that one can be compared with what it is fused to.

    Args:
        boxes: of schema BOXES.
        wanted: the classes that each detector's profile names; None stands for all that there are boxes of.
        found: the classes that they can find, which may be wrong, or right under the name that a set has for them.

    Returns:
        In the taxonomy's order.
    """
    known = {name for classes in wanted for name in class_names(boxes, classes)} | set(found)
    return tuple(name for name in CATEGORY if name in known)


def arrays(images: pa.Table, boxes: pa.Table, names: Sequence[str], used: Mapping[str, Sequence[str]]) -> Labels:
    """What is known of N pictures.

    Args:
        images: N of schema artray.detect.datasets.tables.IMAGES.
        boxes: of schema BOXES, theirs; boxes of no class among the names, nor of a category's "others" that one of
            them could be, are left out.
        names: of the C classes.
        used: per set, the classes that its labels become.
    """
    ids = {name: at for at, name in enumerate(names)}
    sources, labelled = images["source"].to_pylist(), images["labelled"].to_pylist()
    rows = _by_image(boxes)
    per_set = {name: (told_classes(each, names), counted_as(each, names)) for name, each in used.items()}
    shape = (len(sources), len(names))
    return Labels(
        tuple(names),
        tuple(_boxed(rows.get(image_id, []), ids) for image_id in images["image_id"].to_pylist()),
        np.array([images["width_px"].to_pylist(), images["height_px"].to_pylist()], np.int64).reshape(2, -1).T,
        np.array([boxed_classes(each, names) for each in labelled], bool).reshape(shape),
        np.array([per_set[source][0] for source in sources], bool).reshape(shape),
        np.array([[name in each for name in names] for each in labelled], bool).reshape(shape),
        np.array([per_set[source][1] for source in sources], np.int64).reshape(shape),
        tuple(sources),
        tuple(images["group"].to_pylist()),
    )


def _by_image(boxes: pa.Table) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in boxes.to_pylist():
        rows.setdefault(row["image_id"], []).append(row)
    return rows


def _boxed(rows: Sequence[Mapping[str, Any]], ids: Mapping[str, int]) -> Boxed:
    """The boxes of classes that are learned; those of an "others" that is not may be of any: they are ignored."""
    maybe = {fallback(coarse(name)): at for name, at in ids.items()} | dict(ids)
    kept = [row for row in rows if row["class_name"] in maybe]
    return Boxed(
        np.array([[row[name] for name in CORNERS] for row in kept], np.float64).reshape(-1, 4),
        np.array([maybe[row["class_name"]] for row in kept], np.int64),
        np.array([row["crowd"] or row["difficult"] or row["class_name"] not in ids for row in kept], bool),
    )
