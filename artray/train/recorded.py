"""A network's passes over a batch, recorded once and launched as a whole.

A GPU that computes a layer faster than Python can ask for the next one waits for Python: networks of many small layers
(DenseNets, EfficientNets) leave a fast GPU idle so. A CUDA graph asks for all of them at once.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Passes: TypeAlias = Callable[[Tensor], dict[str, Tensor]]


def recorded(network: nn.Module, batch: Tensor) -> Passes:
    """The network's passes; over batches of one shape, in training, they are CUDA graphs, else layer by layer.

    Nothing else may use the GPU while this records, no thread that reads ahead either.

    Args:
        network: on a CUDA device. From now on its weights may be changed in place only.
        batch: an input of that shape, of the order of memory and, by autocast, of the precision of those to come.
    """
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    device = batch.device.type
    mixed = torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), False)
    training = network.training
    with mixed:
        passes: Any = torch.cuda.make_graphed_callables(_Whole(network).train(), (batch,), allow_unused_input=True)
    with torch.no_grad():  # recording runs the passes a few times
        for name, buffer in network.named_buffers():
            buffer.copy_(before[name])
    network.train(training)

    def call(images: Tensor) -> dict[str, Tensor]:
        same = network.training and images.shape == batch.shape
        outputs: dict[str, Tensor] = (passes if same else network)(images)
        return outputs

    return call


class _Whole(nn.Module):
    """The network in a module of its own, whose forward pass is replaced in place of the network's."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """As the network's."""
        outputs: dict[str, Tensor] = self.network(images)
        return outputs
