"""Labelled boxes of any number of sets, as immutable tables, and what was published but is not in them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from artray.errors import ConfigError
from artray.taxonomy import CATEGORY

NO_CLASS: Final = "no class of artray's"

IMAGES: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # SOURCE/FILE, unique
        pa.field("source", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),  # upright
        pa.field("height_px", pa.int32(), nullable=False),
        pa.field("part", pa.string()),  # train, val or test; null until it is split
        pa.field("group", pa.string(), nullable=False),  # what intervals resample together: artist, or the image
        pa.field("duplicates", pa.string()),  # images with the same value are reproductions of one work
        pa.field("labelled", pa.list_(pa.string()), nullable=False),  # classes of which every object has a box
    ]
)

BOXES: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # as published
        pa.field("class_name", pa.string()),  # of artray.taxonomy; null: no class of artray's
        pa.field("x1_px", pa.float64(), nullable=False),  # of the upright picture, 0 <= x1 < x2 <= width
        pa.field("y1_px", pa.float64(), nullable=False),
        pa.field("x2_px", pa.float64(), nullable=False),  # exclusive
        pa.field("y2_px", pa.float64(), nullable=False),
        pa.field("crowd", pa.bool_(), nullable=False),  # a region of many objects
        pa.field("difficult", pa.bool_(), nullable=False),  # its publisher's evaluation does not count it
    ]
)
CORNERS: Final = ("x1_px", "y1_px", "x2_px", "y2_px")

PUBLISHED: Final = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("class_name", pa.string()),
        pa.field("boxes", pa.int64(), nullable=False),
    ]
)


class Labelled(NamedTuple):
    """Images with their boxes, and what is wrong with what was published."""

    images: pa.Table  # of schema IMAGES
    boxes: pa.Table  # of schema BOXES, by image in their order
    published: pa.Table  # of schema PUBLISHED: every label that the sets have boxes of
    listed: tuple[tuple[str, int], ...]  # per set, how many images it lists
    left_out: tuple[str, ...]  # a line for every image and box that is not in the tables
    mended: tuple[str, ...]  # a line for every one that is there otherwise than it was published

    def without(self, left_out: dict[str, str]) -> "Labelled":
        """Leave images out, with their boxes: image_id to why."""
        if not left_out:
            return self
        gone = pa.array(list(left_out), pa.string())
        images, boxes = (
            table.filter(pc.invert(pc.is_in(table["image_id"], value_set=gone))) for table in (self.images, self.boxes)
        )
        counts = Counter(self.boxes["image_id"].to_pylist())
        lines = (f"{image_id}: {why}{with_boxes(counts[image_id])}" for image_id, why in left_out.items())
        return self._replace(images=images, boxes=boxes, left_out=(*self.left_out, *lines))


def with_boxes(count: int) -> str:
    """What is left out beside an image.

    >>> with_boxes(0), with_boxes(1), with_boxes(7)
    ('', '; its box with it', '; its 7 boxes with it')
    """
    return "" if not count else "; its box with it" if count == 1 else f"; its {count:,} boxes with it"


def merged(sets: Sequence[Labelled]) -> Labelled:
    """Several sets as one; of a picture in several of them, the first set's boxes count.

    Raises:
        ConfigError: two sets of one name.
    """
    titles = [title for found in sets for title, _ in found.listed]
    if twice := next((title for title in titles if titles.count(title) > 1), None):
        raise ConfigError(f"sources: {twice}: expected each name once; give them names of their own")
    seen: dict[str, str] = {}
    kept = list[Labelled]()
    for found in sets:
        rows = list(zip(found.images["uri"].to_pylist(), found.images["image_id"].to_pylist(), strict=True))
        again = {image_id: f"is {seen[uri]}, too, whose boxes count" for uri, image_id in rows if uri in seen}
        seen |= {uri: image_id for uri, image_id in rows if uri not in seen}
        kept.append(found.without(again))
    return Labelled(
        pa.concat_tables([IMAGES.empty_table(), *(found.images for found in kept)]),
        pa.concat_tables([BOXES.empty_table(), *(found.boxes for found in kept)]),
        pa.concat_tables([PUBLISHED.empty_table(), *(found.published for found in kept)]),
        tuple(pair for found in kept for pair in found.listed),
        tuple(line for found in kept for line in found.left_out),
        tuple(line for found in kept for line in found.mended),
    )


class Count(NamedTuple):
    """How many boxes of a class were published, and how many of these are in the tables."""

    published: int
    kept: int


def counts(found: Labelled, source: str) -> dict[str, Count]:
    """Per class of a set its boxes before and after, in the taxonomy's order, :data:`NO_CLASS` last."""
    before, after = Counter[str](), Counter[str]()
    for row in found.published.to_pylist():
        if row["source"] == source:
            before[row["class_name"] or NO_CLASS] += row["boxes"]
    own = found.images.filter(pc.equal(found.images["source"], source))["image_id"]
    boxes = found.boxes.filter(pc.is_in(found.boxes["image_id"], value_set=own.combine_chunks()))
    after.update(name or NO_CLASS for name in boxes["class_name"].to_pylist())
    return {name: Count(before[name], after[name]) for name in (*CATEGORY, NO_CLASS) if before[name]}


def per_part(found: Labelled) -> dict[str, dict[str, int]]:
    """Per class and part how many boxes; "" is the part of images that are not split."""
    parts = dict(zip(found.images["image_id"].to_pylist(), found.images["part"].to_pylist(), strict=True))
    told: dict[str, dict[str, int]] = {}
    for image_id, name in zip(found.boxes["image_id"].to_pylist(), found.boxes["class_name"].to_pylist(), strict=True):
        entry = told.setdefault(name or NO_CLASS, {})
        part = parts[image_id] or ""
        entry[part] = entry.get(part, 0) + 1
    return {name: told[name] for name in (*CATEGORY, NO_CLASS) if name in told}


def told(found: Labelled) -> Iterator[str]:
    """A line per set: its images, and its boxes by class, before and after."""
    kept = Counter(found.images["source"].to_pylist())
    for source, listed in found.listed:
        classes = (
            f"{name}: {count.kept:,} of {count.published:,} boxes" for name, count in counts(found, source).items()
        )
        yield f"{source}: {'; '.join([f'{kept[source]:,} of {listed:,} images', *classes])}"
