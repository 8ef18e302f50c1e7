"""Keep how images look, in a kilobyte each: DecodedRow -> rows with perceptual_hash, thumbnail, chroma."""

from typing import Any

from artray import schema
from artray.retrieve.hashing import Image, look, stored
from artray.schema import Batch

NOTHING = dict.fromkeys(schema.LOOK.names)


class Look:
    """What duplicates are found by, of every picture; knows nothing of Ray and needs no model."""

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the columns of :data:`artray.schema.LOOK`, None in rows that hold an error."""
        pairs = zip(batch["pixels"], batch["error"], strict=True)
        rows = [NOTHING if error else _row(pixels) for pixels, error in pairs]
        return batch | {name: [row[name] for row in rows] for name in NOTHING}


def _row(pixels: Image) -> dict[str, Any]:
    found = look(pixels)
    return {
        "perceptual_hash": stored(found.perceptual_hash),
        "thumbnail": found.thumbnail.tobytes(),
        "chroma": found.chroma,
    }
