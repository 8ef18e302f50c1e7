"""A detector's training's folder: that of any training, but for what it is made of.

RUN/images.parquet      every picture with its part, its size and the classes that are labelled in it
RUN/boxes.parquet       their boxes
RUN/predictions.parquet what the best epoch, or a detector as it is, finds in those of validation and test
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from artray.config import parse
from artray.detect.datasets.tables import BOXES, CORNERS, IMAGES
from artray.detect.found import Found, joined, parted
from artray.errors import ConfigError
from artray.models.cards import Card
from artray.train.detectors import labels
from artray.train.detectors.labels import Labels
from artray.train.detectors.profile import DetectorProfile
from artray.train.rundir import MADE, RunFolder
from artray.train.works import PARTS, Ints, rows_of


class DetectorFolder(RunFolder):
    """The folder or S3 prefix of one training of a detector."""

    def begin_boxes(
        self,
        profile: DetectorProfile,
        card: Card,
        images: pa.Table,
        boxes: pa.Table,
        used: Mapping[str, Sequence[str]],
        left_out: Sequence[str],
        kind: str = "detector",
    ) -> None:
        """Write down what it is made of; the last file written says that all are.

        Args:
            profile: the training's.
            card: the detector that it starts from.
            images: of schema IMAGES, with parts.
            boxes: of schema BOXES.
            used: per set, the classes that its labels become.
            left_out: a line for everything that cannot be used.
            kind: see :attr:`RunFolder.kind`.
        """
        self.location.make()
        self.keep("images.parquet", images.cast(IMAGES))
        self.keep("boxes.parquet", boxes.cast(BOXES))
        told = {name: list(names) for name, names in used.items()}
        self._write(profile, card, digest(images, boxes), left_out, kind=kind, told=told)

    @property
    def detector_profile(self) -> DetectorProfile:
        """Its profile."""
        return parse(DetectorProfile, self.made["profile"], where=str(self.location / MADE))

    @cached_property
    def images(self) -> pa.Table:
        """Its pictures, of schema IMAGES."""
        return pq.read_table(io.BytesIO((self.location / "images.parquet").read_bytes()), schema=IMAGES)

    @cached_property
    def boxes(self) -> pa.Table:
        """Their boxes, of schema BOXES."""
        return pq.read_table(io.BytesIO((self.location / "boxes.parquet").read_bytes()), schema=BOXES)

    def labels(self, names: Sequence[str] | None = None) -> Labels:
        """What is known of its pictures, of its own classes or of these."""
        own = labels.class_names(self.boxes, self.detector_profile.classes if names is None else names)
        return labels.arrays(self.images, self.boxes, own, self.made["told"])

    def rows(self) -> dict[str, Ints]:
        """int64: the rows of each part."""
        return parts_of(self.images)

    def keep_predictions(self, found: Mapping[str, Sequence[Found]], names: Sequence[str]) -> None:
        """Write down what is found in the pictures of some parts, in their order.

        Args:
            found: per part an answer for each of its pictures, pixels of the upright originals.
            names: what class ids mean.
        """
        image_ids, rows, tables = self.images["image_id"].to_pylist(), self.rows(), []
        for part, answers in found.items():
            places, (boxes, scores, class_ids) = joined(answers)
            columns = {
                "image_id": pa.array([image_ids[row] for row in rows[part][places].tolist()], pa.string()),
                "part": pa.array([part] * len(places), pa.string()),
                "class_name": pa.array([names[class_id] for class_id in class_ids.tolist()], pa.string()),
                "score": pa.array(scores, pa.float32()),
            }
            sides = {side: pa.array(boxes[:, at], pa.float32()) for at, side in enumerate(CORNERS)}
            tables.append(pa.table(columns | sides))
        self.keep("predictions.parquet", pa.concat_tables(tables))

    @property
    def class_names(self) -> tuple[str, ...]:
        """What its detector can find, in the order of its outputs.

        Raises:
            ConfigError: it is not done.
        """
        if self.result is None:
            raise ConfigError(f"{self.location}: expected a training that is done, found no result.json")
        return tuple(self.result["classes"])

    def predictions(self, part: str, names: Sequence[str]) -> list[Found]:
        """What was found in each picture of a part, in their order; of these classes, whose ids index ``names``."""
        stored = pq.read_table(io.BytesIO((self.location / "predictions.parquet").read_bytes()))
        there = pc.and_(pc.equal(stored["part"], part), pc.is_in(stored["class_name"], pa.array(names, pa.string())))
        table, images = stored.filter(there), self.images["image_id"].take(pa.array(self.rows()[part]))
        places = pc.index_in(table["image_id"], value_set=images.combine_chunks()).to_numpy()
        class_ids = pc.index_in(table["class_name"], value_set=pa.array(names, pa.string())).to_numpy()
        boxes = np.stack([table[side].to_numpy() for side in CORNERS], axis=1)
        found = Found(boxes, table["score"].to_numpy(), class_ids.astype(np.int64))
        return parted(places.astype(np.int64), found, len(images))


def parts_of(images: pa.Table) -> dict[str, Ints]:
    """int64: the rows of each part."""
    return {part: rows_of(images, part) for part in PARTS}


def digest(images: pa.Table, boxes: pa.Table) -> str:
    """SHA-256 over which pictures there are, in which part, with which boxes; of a copy it is the same."""
    columns = ["image_id", "class_name", *CORNERS, "crowd", "difficult"]
    content = [
        images.select(["image_id", "part", "labelled"]).sort_by("image_id").to_pylist(),
        boxes.select(columns).sort_by([(name, "ascending") for name in columns]).to_pylist(),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
