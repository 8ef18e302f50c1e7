"""What goes to a worker, and what comes back of every part: both small."""

import json
from typing import NamedTuple

import pyarrow as pa

from artray.config import Profile
from artray.store.records import Part


class Spec(NamedTuple):
    """What a worker is made from; the same for all."""

    profile: Profile
    run_id: str
    models: str  # fingerprint of the cards and settings


class Done(NamedTuple):
    """What the job is told of a part that a worker has written."""

    part: Part
    recorded: bool  # its rows replace others
    errors: dict[str, int]  # kind to count
    seconds: float  # of the worker's time

    def row(self) -> pa.Table:
        """As one row of the graph."""
        text = json.dumps([self.part.__dict__, self.recorded, self.errors, self.seconds])
        return pa.table({"done": [text]})

    @classmethod
    def of(cls, text: str) -> "Done":
        """From such a row's value."""
        part, recorded, errors, seconds = json.loads(text)
        return cls(Part(**part), recorded, errors, seconds)
