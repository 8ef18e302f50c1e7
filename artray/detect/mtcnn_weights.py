"""MTCNN's weights as the package ``mtcnn`` ships them: joblib pickles, read without running anything they name."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import lz4.frame
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from artray.errors import ConfigError


def load_weights(network: nn.Module, path: Path, unused: slice = slice(0)) -> None:
    """Put a file's arrays into a network, in the order in which both list them.

    Args:
        network: its parameters are written in place.
        path: one of the weight files of the package ``mtcnn`` 1.0.0, checked by the caller to be just that.
        unused: arrays of the file that the network has no use for.

    Raises:
        ConfigError: the file does not fit the network.
    """
    arrays = read_weights(path)
    del arrays[unused]
    parameters = list(network.parameters())
    tensors = [_as_torch(array) for array in arrays]
    expected, got = [tuple(p.shape) for p in parameters], [tuple(t.shape) for t in tensors]
    if expected != got:
        raise ConfigError(f"weights {path}: expected arrays of shapes {expected}, got {got}; install mtcnn==1.0.0 anew")
    with torch.no_grad():
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.copy_(tensor)


def _as_torch(array: NDArray[np.float32]) -> Tensor:
    """Kernels H, W, in, out to out, in, H, W; matrices in, out to out, in; slopes 1, 1, C to C."""
    orders = {4: (3, 2, 0, 1), 2: (1, 0)}
    return torch.from_numpy(array.transpose(orders[array.ndim]) if array.ndim in orders else array.ravel())


def read_weights(path: Path) -> list[NDArray[np.float32]]:
    """The arrays of a joblib pickle (LZ4), read without running anything that it names.

    Only the three names that a list of arrays needs can be looked up; any other stops the reading. The caller has
    checked the file's SHA-256 all the same.

    Raises:
        ConfigError: it is not such a file.
    """
    try:
        arrays = _ArrayReader(io.BytesIO(lz4.frame.decompress(path.read_bytes()))).load()
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise ConfigError(f"weights {path}: cannot be read: {error}; install mtcnn==1.0.0 anew") from error
    if not isinstance(arrays, list) or not all(isinstance(a, np.ndarray) and a.dtype == np.float32 for a in arrays):
        raise ConfigError(f"weights {path}: expected a list of float32 arrays; install mtcnn==1.0.0 anew")
    return arrays


class _PickledArray:
    """What joblib pickles in place of an array, whose bytes follow its state in the stream."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype[Any]

    def read(self, stream: io.BytesIO) -> NDArray[Any]:
        """The array itself: one byte that counts padding, the padding, then the values."""
        stream.seek(stream.read(1)[0], io.SEEK_CUR)
        values = stream.read(int(np.prod(self.shape)) * self.dtype.itemsize)
        array = np.frombuffer(values, self.dtype).reshape(self.shape, order="F" if self.order == "F" else "C")
        return np.array(array)  # writable


class _ArrayReader(pickle._Unpickler):
    """An unpickler that knows arrays and nothing else. ``Source: joblib.numpy_pickle.NumpyUnpickler``."""

    names: Final = MappingProxyType(
        {
            ("joblib.numpy_pickle", "NumpyArrayWrapper"): _PickledArray,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
    )
    dispatch = pickle._Unpickler.dispatch.copy()

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.stream = stream

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"expected arrays only, got {module}.{name}")
        return self.names[module, name]

    def load_build(self) -> None:
        super().load_build()  # type: ignore[misc] # not in its published types
        stack = cast("list[Any]", self.stack)  # type: ignore[attr-defined] # likewise
        if isinstance(stack[-1], _PickledArray):
            stack[-1] = stack[-1].read(self.stream)

    dispatch[pickle.BUILD[0]] = cast("Callable[[pickle.Unpickler], None]", load_build)
