"""The error tree: who is told, and errors that cross processes."""

import pickle

import pytest

from artray import errors
from artray.errors import (
    ArtrayError,
    ConfigError,
    Interrupted,
    InvariantError,
    RowError,
    StoreBusyError,
    TransientError,
)


def test_every_error_is_one_of_ours() -> None:
    for kind in (ConfigError, RowError, Interrupted, TransientError, StoreBusyError, InvariantError):
        assert issubclass(kind, ArtrayError)
    assert issubclass(StoreBusyError, TransientError)  # running again, later, helps


def test_kinds_are_a_closed_set_without_doubles() -> None:
    assert len(set(errors.ERROR_KINDS)) == len(errors.ERROR_KINDS)
    assert "" not in errors.ERROR_KINDS
    with pytest.raises(ValueError, match="kind: expected one of"):
        RowError("bad", "x")


def test_errors_survive_the_way_between_processes() -> None:
    found = pickle.loads(pickle.dumps(RowError("truncated", "ends after 12 bytes")))
    assert (found.kind, found.detail, str(found)) == (
        "truncated",
        "ends after 12 bytes",
        "truncated: ends after 12 bytes",
    )
    for error in (ConfigError("a"), Interrupted("b"), StoreBusyError("c"), InvariantError("d")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
