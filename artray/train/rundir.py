"""A training's folder: what it is made of, and what comes out of it.

A detector's (artray.train.detectors.folder) has images.parquet and boxes.parquet in place of works.parquet, a retrieval
method's (artray.train.methods.folder) pictures to be looked at in place of predictions.parquet.

RUN/training.json       profile, card and data that it is made from
RUN/works.parquet       every work with its part, labels and where its picture is
RUN/left_out.txt        what of the sets could not be used, a line each
RUN/checkpoints/        the last state and the best weights
RUN/metrics.jsonl       a line per epoch
RUN/tensorboard/        the same for TensorBoard
RUN/curves.png          the same as a picture
RUN/predictions.parquet what the best epoch says of validation and test
RUN/result.json         how it is judged
RUN/card/               the model card with its two files of weights
"""

import hashlib
import io
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from artray.config import parse
from artray.errors import ConfigError
from artray.location import Location
from artray.models.cards import Card
from artray.train.checkpoints import Checkpoints
from artray.train.loop import Result
from artray.train.profile import TrainProfile
from artray.train.works import WORKS

MADE: Final = "training.json"


class RunFolder:
    """The folder or S3 prefix of one training."""

    def __init__(self, location: Location) -> None:
        self.location = location

    def exists(self) -> bool:
        """Whether a training was begun here."""
        return (self.location / MADE).exists()

    def begin(self, profile: TrainProfile, card: Card, works: pa.Table, left_out: list[str]) -> None:
        """Write down what it is made of; the last file written says that all are."""
        self.location.make()
        self.keep("works.parquet", works.cast(WORKS))
        self._write(profile, card, digest(works), left_out)

    def _write(
        self, profile: BaseModel, card: Card | None, data_sha256: str, left_out: Sequence[str], **more: Any
    ) -> None:
        (self.location / "left_out.txt").write_bytes("".join(f"{line}\n" for line in left_out).encode())
        made = {
            "profile": profile.model_dump(mode="json"),
            "card": None if card is None else card.model_dump(mode="json"),
            "data_sha256": data_sha256,
        }
        text = json.dumps(made | more, indent=2)  # unsorted: the first head has a say
        (self.location / MADE).write_bytes(text.encode())

    @cached_property
    def made(self) -> dict[str, Any]:
        """What it was begun with.

        Raises:
            ConfigError: nothing was begun here.
        """
        made = (self.location / MADE).read_json()
        if made is None:
            raise ConfigError(f"{self.location}: expected the folder of a training, found no {MADE}")
        return made

    def keep(self, name: str, table: pa.Table) -> None:
        """Write a table as a Parquet file."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        (self.location / name).write_bytes(buffer.getvalue())

    @property
    def kind(self) -> str:
        """What is trained: a ``classifier``, ``detector`` or ``method``; or ``given``, a detector judged as it is."""
        return str(self.made.get("kind", "classifier"))

    @property
    def profile(self) -> TrainProfile:
        """Its profile."""
        return parse(TrainProfile, self.made["profile"], where=str(self.location / MADE))

    @property
    def card(self) -> Card:
        """The card that it starts from, where it starts from one."""
        return parse(Card, self.made["card"], where=str(self.location / MADE))

    @cached_property
    def works(self) -> pa.Table:
        """Its works, of schema artray.train.works.WORKS."""
        return pq.read_table(io.BytesIO((self.location / "works.parquet").read_bytes()), schema=WORKS)

    @property
    def checkpoints(self) -> Checkpoints:
        """Its checkpoints; those of other data or another profile are refused, whoever the workers are."""
        kept = {name: value for name, value in self.made["profile"].items() if name not in ("workers", "test")}
        text = json.dumps([kept, self.made["card"], self.made["data_sha256"]], sort_keys=True)
        return Checkpoints(self.location / "checkpoints", hashlib.sha256(text.encode()).hexdigest())

    def history(self) -> list[Result]:
        """The epochs so far."""
        try:
            text = (self.location / "metrics.jsonl").read_bytes().decode()
        except FileNotFoundError:
            return []
        return [Result(**json.loads(line)) for line in text.splitlines()]

    @property
    def failure(self) -> str | None:
        """Why the workers gave up, where that is the user's to mend."""
        told = (self.location / "failure.json").read_json()
        return None if told is None else str(told["error"])

    def fail(self, error: str | None) -> None:
        """Write down why the workers give up; None removes it."""
        if error is None:
            (self.location / "failure.json").remove()
        else:
            (self.location / "failure.json").write_json({"error": error})

    @property
    def result(self) -> dict[str, Any] | None:
        """How it was judged; None while it is not done."""
        return (self.location / "result.json").read_json()


def digest(works: pa.Table) -> str:
    """SHA-256 over which works there are, how they look, and what they are told to be; of a copy it is the same."""
    rows = works.select(["work_id", "near_hash", "part", "type", "genre"]).sort_by("work_id").to_pylist()
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
