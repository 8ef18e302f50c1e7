"""The error tree: who is told, and whether trying again helps.

    ArtrayError
    ├── ConfigError       the user's file or argument is wrong      one line, exit 2, before Ray starts
    ├── RowError(kind)    one image is bad                          written into its row; the rest goes on
    ├── Interrupted       the user ended it                         exit 3: run again to resume
    ├── TransientError    a store or the network is down            retried, then exit 3: run again to resume
    └── InvariantError    rows lost, doubled or mistyped            the job fails loudly, exit 1

Foreign errors are turned into these where they enter (``raise ... from``), so a user never meets a traceback.
"""

from typing import Final

ERROR_KINDS: Final = (
    "missing",  # listed, but gone when it was read
    "denied",  # no permission to read it
    "unreadable",  # the storage failed to deliver its bytes
    "changed",  # it changed while it was read: the next run takes the new version
    "empty",  # zero bytes
    "too_large",  # over the byte or the pixel limit, or needs more memory than allowed
    "unsupported",  # not an image, or a kind of image that is not decoded (EPS, SVG, ...)
    "truncated",  # the file ends before the picture does
    "corrupt",  # the picture's data make no sense
    "decoder_crashed",  # the decoding process died on it
    "decoder_hung",  # the decoding process did not answer in time
    "model_failed",  # it was decoded, but a model raised on it
)
"""The closed set of kinds that a record's ``error`` can hold; "" means none."""


class ArtrayError(Exception):
    """Every error that artray raises on purpose."""

    def plain(self) -> "ArtrayError":
        r"""As it was raised: Ray Data adds lines of its own to what its workers raise; ours have one.

        >>> ConfigError("card: expected a, got b\nFailed to apply UDF transform after 1/1 attempts").plain()
        ConfigError('card: expected a, got b')
        """
        return type(self)(str(self).partition("\n")[0])


class ConfigError(ArtrayError):
    """The user's profile, card, path or argument is wrong. Wording: ``name: expected X, got Y``, then what to do."""


class RowError(ArtrayError):
    """One image cannot be processed; ``kind`` is one of :data:`ERROR_KINDS`."""

    def __init__(self, kind: str, detail: str) -> None:
        if kind not in ERROR_KINDS:
            raise ValueError(f"kind: expected one of {ERROR_KINDS}, got {kind!r}")
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail

    def __reduce__(self) -> tuple[type["RowError"], tuple[str, str]]:
        return RowError, (self.kind, self.detail)

    def plain(self) -> "RowError":
        """As it was raised."""
        return RowError(self.kind, self.detail.partition("\n")[0])


class TransientError(ArtrayError):
    """Something outside failed (storage, network, a lost cluster). Running again resumes."""


class Interrupted(ArtrayError):  # noqa: N818 (not an error, but the way out)
    """The user ended the run; what was committed stays, and running again resumes."""


class StoreBusyError(TransientError):
    """Another run is writing to the same store."""


class InvariantError(ArtrayError):
    """A promise of artray is broken: rows lost, doubled or mistyped."""
