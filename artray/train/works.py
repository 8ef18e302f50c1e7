"""The works of a training: where their pictures are, what they are, and which of them are learned from."""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artray.train.profile import Task, TrainProfile

Ints: TypeAlias = npt.NDArray[np.int64]

PARTS: Final = ("train", "val", "test")
UNKNOWN: Final = -1
"""The class id of a work that has no label of a head."""

WORKS: Final = pa.schema(
    [
        pa.field("work_id", pa.string(), nullable=False),  # SOURCE/NAME, unique
        pa.field("source", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("part", pa.string()),  # of PARTS; null until it is split
        pa.field("group", pa.string(), nullable=False),  # what intervals resample together: artist, book, or the work
        pa.field("duplicates", pa.string()),  # works with the same value are reproductions of one work
        pa.field("type", pa.string()),
        pa.field("genre", pa.string()),
        pa.field("colour", pa.string()),  # grey or colour, where it is known
        pa.field("near_hash", pa.uint64()),  # how it looks, see artray.train.prepare; null until it is prepared
    ]
)


def class_ids(works: pa.Table, profile: TrainProfile) -> dict[Task, Ints]:
    """Per head int64[N]: each work's class among the head's outputs, :data:`UNKNOWN` where it has no label."""
    return {task: _ids(works[task].to_pylist(), profile, task) for task in profile.heads}


def _ids(labels: Sequence[str | None], profile: TrainProfile, task: Any) -> Ints:
    names, only = profile.known(task), profile.heads[task].only
    ids = {name: names.index(name) if only is None else int(name == only) for name in names}
    return np.array([UNKNOWN if label is None else ids.get(label, UNKNOWN) for label in labels], np.int64)


def rows_of(works: pa.Table, part: str) -> Ints:
    """int64[M]: the rows of a part."""
    return np.flatnonzero(np.array(works["part"].to_pylist(), object) == part).astype(np.int64)
