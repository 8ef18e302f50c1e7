"""Checkpoints of a training: the last state and the best weights, each replaced as a whole or not at all."""

import io
import pickle
from typing import Any, Final, TypeAlias

import torch

from artray.errors import ConfigError
from artray.location import Location

State: TypeAlias = dict[str, Any]

LAST: Final = "last.pt"
BEST: Final = "best.pt"


class Checkpoints:
    """A folder or an S3 prefix of them.

    Args:
        folder: where they are.
        key: of the training that they are of; those of another one are refused.
    """

    def __init__(self, folder: Location, key: str) -> None:
        self.folder, self.key = folder, key

    def save(self, state: State, name: str = LAST) -> None:
        """Replace a checkpoint. Where that fails, be the disk full, the one before it is still there.

        Raises:
            ConfigError: it may not be written.
            TransientError: the storage failed.
        """
        buffer = io.BytesIO()
        torch.save({"key": self.key, "state": state}, buffer)
        (self.folder / name).write_bytes(buffer.getvalue())

    def load(self, name: str = LAST) -> State | None:
        """A checkpoint's state, on the CPU; None where there is none. It is loaded as tensors only, never as code.

        Raises:
            ConfigError: it is damaged, or of another training.
            TransientError: the storage failed.
        """
        file = self.folder / name
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            key, state = content["key"], content["state"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{file}: expected a checkpoint, got a damaged file; remove it to start anew") from error
        if key != self.key:
            raise ConfigError(
                f"{file}: is of another profile or other data; name another folder with --out, or remove this one"
            )
        loaded: State = state
        return loaded
