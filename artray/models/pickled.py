"""Weights in a pickle, read without running anything of it: detectron2's model zoo has them so.

A pickle is a program, and NumPy trusts what one tells of its arrays. Here what it says of an array is only taken down,
and the array is made of it when everything about it is known to be sound.
"""

import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from artray.errors import ConfigError

KINDS: Final = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8"})
"""What an array may consist of: truth values, integers and floating-point numbers that torch has, too."""


class _Kind:
    """What an array consists of: stands for ``numpy.dtype``."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in KINDS:
            raise pickle.UnpicklingError(f"expected arrays of numbers, got some of {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"expected an order of bytes, got {state[1]!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array: stands for what ``numpy`` makes when a pickle is read."""

    def __init__(self, *_: Any) -> None:
        self.values: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, data = state
        self.values = _values(data.encode("latin1") if isinstance(data, str) else data, kind, shape, is_fortran)


def _from_buffer(data: Any, kind: _Kind, shape: tuple[int, ...], order: str) -> _Array:
    """Stands for ``numpy.core.numeric._frombuffer``."""
    array = _Array()
    array.values = _values(data, kind, shape, order == "F")
    return array


def _values(data: Any, kind: _Kind, shape: tuple[int, ...], is_fortran: bool) -> NDArray[Any]:
    if type(kind) is not _Kind or not all(type(side) is int and side >= 0 for side in shape):
        raise pickle.UnpicklingError(f"expected an array's kind and shape, got {shape!r}")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"expected the numbers of an array of shape {shape!r}, got {len(data)} bytes")
    own: NDArray[Any] = np.frombuffer(bytes(data), kind.dtype).reshape(shape, order="F" if is_fortran else "C")
    return own.astype(own.dtype.newbyteorder("="))  # a copy, which may be written to


def _bytes(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, by which Python 3 puts bytes into a pickle that Python 2 could read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"expected bytes as latin1, got them as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for ``bytes``, by which Python 3 says that there are none."""
    return b""


ADMITTED: Final = MappingProxyType(
    {
        ("__builtin__", "bytes"): _no_bytes,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _bytes,
        ("numpy", "dtype"): _Kind,
        ("numpy", "ndarray"): None,  # only ever named to those below
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy.core.numeric", "_frombuffer"): _from_buffer,
        ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    }
)
"""The names that a pickle of arrays asks for, whatever the versions of Python and NumPy, and what stands for each."""


class _ArraysOnly(pickle.Unpickler):
    """Knows the names of :data:`ADMITTED` only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array of numbers needs")
        return ADMITTED[module, name]


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of numbers in a ``.pkl`` file, by name; those below the key ``model`` if there is one.

    Raises:
        ConfigError: a damaged file, or one that holds anything but arrays of numbers by name.

    Source: detectron2.checkpoint.DetectionCheckpointer, which trusts its files.
    """
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"weights {path}: expected arrays of numbers only, and a whole file: {reason}") from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping):
        raise ConfigError(f"weights {path}: expected a mapping of names to arrays")
    return {str(name): _finished(array, f"weights {path}: {name}") for name, array in content.items()}


def _finished(array: Any, where: str) -> NDArray[Any]:
    if not isinstance(array, _Array) or array.values is None:
        raise ConfigError(f"{where}: expected an array of numbers, got {type(array).__name__}")
    return array.values
