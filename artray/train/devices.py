"""Memory: what batches are made of on its way to a GPU, and what a CPU keeps for the next batch."""

import ctypes
from typing import Final

import torch
from torch import Tensor

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4
"""Of glibc's malloc.h."""


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, without waiting for what a GPU has been asked to do before.

    A copy from memory that may be paged out waits for that; from memory that is pinned it need not.

    Args:
        tensor: on the CPU, or there already.
        device: where to.
    """
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def keep_freed() -> None:
    """Let this process keep, for the next batch, the memory that it frees, where its C library can.

    A batch's activations are blocks of tens of megabytes, which malloc gives back to the system as soon as they are
    free: a training on a CPU then waits for pages to be zeroed for nearly half of its time (224 pixels, batches of 64).
    Kept, they take up to a fifth more memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
