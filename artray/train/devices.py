"""What batches are made of, on its way to a GPU."""

import torch
from torch import Tensor


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
