"""A retrieval method's training's folder: that of any training, but for what comes out of it.

RUN/works.parquet         every picture with its part; no labels
RUN/reconstructions.png   of an autoencoder: some pictures of validation, and what it makes of them
RUN/walk.png              of an autoencoder: what becomes of a picture while its latent grows
"""

from collections.abc import Sequence

import pyarrow as pa

from artray.config import parse
from artray.train.methods.profile import MethodProfile
from artray.train.rundir import MADE, RunFolder, digest
from artray.train.works import PARTS, WORKS, Ints, rows_of

KIND = "method"
"""What such a folder holds; see :attr:`RunFolder.kind`."""


class MethodFolder(RunFolder):
    """The folder or S3 prefix of one training of a retrieval method."""

    def begin_pictures(self, profile: MethodProfile, works: pa.Table, left_out: Sequence[str]) -> None:
        """Write down what it is made of; the last file written says that all are."""
        self.location.make()
        self.keep("works.parquet", works.cast(WORKS))
        self._write(profile, None, digest(works), left_out, kind=KIND)

    @property
    def method_profile(self) -> MethodProfile:
        """Its profile."""
        return parse(MethodProfile, self.made["profile"], where=str(self.location / MADE))

    def rows(self) -> dict[str, Ints]:
        """int64: the rows of each part."""
        return {part: rows_of(self.works, part) for part in PARTS}
