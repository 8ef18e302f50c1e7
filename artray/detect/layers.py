"""What a detector's layers make of a picture, before it decides what is where.

A layer's output has a cell for each place of the picture, or a row for each region of it that the detector looks at
closer. What of the network's canvas the picture does not cover is left out.
"""

import contextlib
import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from artray.detect.detector import Image
from artray.errors import ConfigError

Floats: TypeAlias = NDArray[np.float32]

Part: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right and lower edge of the picture on the canvas, of whose width and height they are parts."""

WHOLE: Final[Part] = (0.0, 0.0, 1.0, 1.0)

Told: TypeAlias = Mapping[str, Floats]
"""Layer to float32[K, C]: K cells or regions, at least 1 of a map, with C channels each."""

Look: TypeAlias = Callable[[Sequence[Image]], list[Told]]
"""Images of any sizes to what the layers make of each; on a CPU none depends on the others, bit for bit."""


@runtime_checkable
class Layered(Protocol):
    """A detector whose layers can be read."""

    def look(self, layers: Sequence[str]) -> Look:
        """What some of its layers make of images.

        Args:
            layers: their names, as its library has them.

        Raises:
            ConfigError: it has no such layer; names near ones.
        """


def known(name: str, names: Sequence[str]) -> str:
    """The name of a layer, if it is one.

    Raises:
        ConfigError: it is none; names near ones.
    """
    if name not in names:
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.3)
        raise ConfigError(f"layers: expected names of the model's {len(names)}, got {name!r}; near: {', '.join(near)}")
    return name


def modules(network: nn.Module, layers: Sequence[str]) -> Mapping[str, nn.Module]:
    """A network's modules of these names.

    Raises:
        ConfigError: it has none of a name.
    """
    named = {name: module for name, module in network.named_modules() if name}
    return MappingProxyType({name: named[known(name, [*named])] for name in layers})


@contextlib.contextmanager
def watched(layers: Mapping[str, nn.Module]) -> Iterator[Mapping[str, list[Tensor]]]:
    """Takes down what modules put out within the context: a list for each, as one may run on several levels.

    Raises:
        ConfigError: an output is no tensor.
    """
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise ConfigError(f"layers: {name}: expected one tensor, got {type(output).__name__}; name one within")
            outputs[name].append(output.detach().clone())  # what follows may write into it

        return keep

    with contextlib.ExitStack() as stack:
        for name, module in layers.items():
            stack.callback(module.register_forward_hook(hook(name)).remove)
        yield outputs


def cells(output: NDArray[Any], index: int, count: int, part: Part = WHOLE) -> Floats:
    """One image's cells of a layer's output, float32[K, C].

    Args:
        output: [N, C, H, W], a map; [N, K, C], regions of each image; [K, C], of one image where N is 1, else [N, C].
        index: which image.
        count: N.
        part: of the map that the picture covers; cells that it covers in part are taken.

    Raises:
        ConfigError: another shape.

    >>> cells(np.arange(8.0).reshape(1, 2, 1, 4), 0, 1, part=(0, 0, 0.3, 1)).tolist()
    [[0.0, 4.0], [1.0, 5.0]]
    """
    if output.ndim == 4 and len(output) == count:
        height, width = output.shape[2:]
        rows, columns = (_covered(part[at], part[at + 2], size) for at, size in ((1, height), (0, width)))
        shown = output[index, :, rows, columns]
        return np.ascontiguousarray(shown.reshape(len(shown), -1).T, np.float32)
    if output.ndim == 3 and len(output) == count:
        return np.asarray(output[index], np.float32)
    if output.ndim == 2 and (count == 1 or len(output) == count):
        return np.asarray(output if count == 1 else output[index : index + 1], np.float32)
    raise ConfigError(f"layers: expected an output with a row or a map for each of {count} images, got {output.shape}")


def _covered(low: float, high: float, size: int) -> slice:
    """The cells of an axis that are covered from one part of it to another, at least one."""
    first = min(math.floor(low * size), size - 1)
    return slice(first, max(math.ceil(high * size), first + 1))


def told(outputs: Mapping[str, Sequence[Tensor]], index: int, count: int, part: Part = WHOLE) -> Told:
    """What :func:`watched` took down, for one of the images that went through together.

    Raises:
        ConfigError: a layer did not run, or has an output of another shape.
    """
    found = {}
    for name, tensors in outputs.items():
        if not tensors:
            raise ConfigError(f"layers: expected some that run on an image, got {name!r}, which does not")
        parts = [cells(tensor.float().cpu().numpy(), index, count, part) for tensor in tensors]
        if len({cell.shape[1] for cell in parts}) > 1:
            raise ConfigError(f"layers: {name}: expected as many channels on every level; name one of a level")
        found[name] = np.concatenate(parts)
    return MappingProxyType(found)
