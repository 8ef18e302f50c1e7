"""Run a model on images of which one may be its undoing: the others are not to blame."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from artray.errors import ArtrayError, InvariantError, RowError, TransientError

R = TypeVar("R")

DETAIL_CHARACTERS: Final = 200
"""Of a model's message, how much a row keeps."""


def attempt(
    model: Callable[[list[NDArray[np.uint8]]], Sequence[R]], images: Sequence[NDArray[np.uint8]]
) -> list[R | RowError]:
    """What a model says of each image; if it raises, the images are tried one by one to find the guilty.

    Args:
        model: N images uint8[H, W, 3] in, N answers out.
        images: of any sizes; none at all is no work.

    Returns:
        An answer per image, or why there is none.

    Raises:
        ArtrayError: the model raised one that is not about an image.
        TransientError: the device is lost, and with it every image after this one.
        InvariantError: it did not answer for every image.
    """
    if not images:
        return []
    try:
        return _one_each(model(list(images)), len(images))
    except RowError as error:
        failure = error
    except ArtrayError:
        raise
    except torch.AcceleratorError as error:
        raise TransientError(f"model: the device is lost ({told(error)}); run again to resume") from error
    except Exception as error:  # noqa: BLE001 - whatever it is, the other images are not to blame
        failure = RowError("model_failed", told(error))
    if len(images) == 1:
        return [failure]
    return [answer for image in images for answer in attempt(model, [image])]


def _one_each(answers: Sequence[R], images: int) -> list[R | RowError]:
    if len(answers) != images:
        raise InvariantError(f"model: expected {images} answers, got {len(answers)}")
    return list(answers)


def told(error: Exception) -> str:
    r"""An error's type and the first line of its message, short enough for a column.

    >>> told(ValueError("no number\nand much advice"))
    'ValueError: no number'
    """
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}"[:DETAIL_CHARACTERS].removesuffix(": ")
