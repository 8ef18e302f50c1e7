"""Which images are learned from and which judge, where near-duplicates, mirrored ones too, never straddle.

Parts are chosen as in artray.train.splits. Publishers' own parts are kept, so a published test set stays what it is: an
image is left out, not moved, where a reproduction of the same work is in a stricter part.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from artray.detect.datasets.tables import Labelled
from artray.train import splits
from artray.train.works import WORKS

Hashes: TypeAlias = npt.NDArray[np.uint64]


class Looks(NamedTuple):
    """How N images look: perceptual hashes, 0 where there is no structure."""

    plain: Hashes  # uint64[N]
    mirrored: Hashes  # uint64[N], of mirror images; 0 in sets that are not said to hold any


class Split(NamedTuple):
    """Images with a part each."""

    found: Labelled
    groups: int  # of more than one image of the same work


def look(found: Labelled, prepared: pa.Table, mirrored: Collection[str] = ()) -> tuple[Labelled, Looks]:
    """How images look; what could not be decoded is left out.

    Args:
        found: N images.
        prepared: what became of them, of schema artray.train.prepare.PREPARED, in any order.
        mirrored: sets that hold mirrored copies, as IconArt-299 does; elsewhere chance resemblances would double.
    """
    seen = {row["work_id"]: row for row in prepared.to_pylist()}
    left = found.without({name: f"{row['error']}: {row['error_detail']}" for name, row in seen.items() if row["error"]})
    rows = [seen[name] for name in left.images["image_id"].to_pylist()]
    sources = left.images["source"].to_pylist()
    turned = [row["mirrored_hash"] if name in mirrored else 0 for row, name in zip(rows, sources, strict=True)]
    return left, Looks(np.array([row["near_hash"] for row in rows], np.uint64), np.array(turned, np.uint64))


def split(found: Labelled, looks: Looks | None, val: float, test: float, near_bits: int = 8) -> Split:
    """Give every image a part: its own if it has one, else by the hash of its name.

    Args:
        found: N images.
        looks: of these; None trusts what the sets say of duplicates.
        val: the part of validation among images without a part of their own, in [0, 1].
        test: likewise.
        near_bits: images whose hashes differ in at most so many of 64 bits show one work.

    Raises:
        ValueError: the hashes are those of other images.
    """
    images = found.images
    if looks is not None and len(looks.plain) != images.num_rows:
        raise ValueError(f"looks: expected {images.num_rows} hashes, one per image, got {len(looks.plain)}")
    pairs = [*_told(images), *(() if looks is None else near(looks, near_bits))]
    groups = [rows for rows in splits.components(images.num_rows, pairs) if len(rows) > 1]
    done = splits.split(_works(images, groups), np.zeros(images.num_rows, np.uint64), val, test, None)
    given, parts = images["part"].to_pylist(), done.works["part"].to_pylist()
    straddling = {
        image_id: f"is in {given[row]}, and another picture of the same work in {parts[row]}"
        for row, image_id in enumerate(images["image_id"].to_pylist())
        if given[row] not in (None, parts[row])
    }
    at = images.schema.get_field_index("part")
    table = images.set_column(at, images.schema.field(at), pa.array(parts, pa.string()))
    return Split(found._replace(images=table).without(straddling), len(groups))


def near(looks: Looks, bits: int) -> list[tuple[int, int]]:
    """Pairs of rows, the lesser first, that look alike, or of which one looks like the other's mirror image."""
    count = len(looks.plain)
    found = splits.near(np.concatenate([looks.plain, looks.mirrored]), bits)
    same = {(a, b) for a, b in found if b < count}
    turned = {(min(a, b - count), max(a, b - count)) for a, b in found if a < count <= b and a != b - count}
    return sorted(same | turned)


def _told(images: pa.Table) -> Iterator[tuple[int, int]]:
    """Pairs that the sets themselves call reproductions of one work."""
    first: dict[str, int] = {}
    for row, key in enumerate(images["duplicates"].to_pylist()):
        if key and first.setdefault(key, row) != row:
            yield first[key], row


def _works(images: pa.Table, groups: list[list[int]]) -> pa.Table:
    """Images as works, each group of them with a key of its own."""
    key: dict[int, str] = {row: str(rows[0]) for rows in groups for row in rows}
    columns = {name: images[name] for name in ("source", "uri", "version", "part", "group")}
    columns |= {
        "work_id": images["image_id"],
        "duplicates": pa.array([key.get(row) for row in range(images.num_rows)], pa.string()),
    }
    nothing = {name: pa.nulls(images.num_rows, WORKS.field(name).type) for name in WORKS.names if name not in columns}
    return pa.table(columns | nothing).select(WORKS.names).cast(WORKS)


def part(found: Labelled, name: str) -> Labelled:
    """The images of a part, with their boxes."""
    images = found.images.filter(pc.equal(found.images["part"], name))
    boxes = found.boxes.filter(pc.is_in(found.boxes["image_id"], value_set=images["image_id"].combine_chunks()))
    return found._replace(images=images, boxes=boxes)
