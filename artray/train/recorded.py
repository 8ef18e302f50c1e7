"""A network's passes over a batch, recorded once and launched as a whole.

A GPU that computes a layer faster than Python can ask for the next one waits for Python: networks of many small layers
(DenseNets, EfficientNets) leave a fast GPU idle so. A CUDA graph asks for all of them at once.
"""

import torch
from torch import Tensor, nn


class Recorded:
    """Calls a network; of batches of one shape, its forward and backward passes are CUDA graphs.

    Args:
        network: on a CUDA device. Its weights are changed in place only.
        batch_size: of the batches that are recorded; others are computed layer by layer.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        self.network, self.batch_size = network, batch_size
        self._passes: nn.Module | None = None
        self._shape: torch.Size | None = None

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """What the network makes of images float[n, 3, S, S]."""
        if self._passes is None and self.network.training and len(images) == self.batch_size:
            self._passes, self._shape = self._record(images), images.shape
        recorded = self.network.training and images.shape == self._shape
        outputs: dict[str, Tensor] = (self._passes if recorded and self._passes else self.network)(images)
        return outputs

    def _record(self, images: Tensor) -> nn.Module:
        """Recording runs the passes a few times: batch norms' statistics are put back."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        precision = torch.get_autocast_dtype(images.device.type)
        mixed = torch.autocast(images.device.type, precision, torch.is_autocast_enabled(images.device.type), False)
        with mixed:
            passes = torch.cuda.make_graphed_callables(_Whole(self.network), (images.clone(),), allow_unused_input=True)
        with torch.no_grad():
            for name, buffer in self.network.named_buffers():
                buffer.copy_(before[name])
        assert isinstance(passes, nn.Module)
        return passes


class _Whole(nn.Module):
    """The network in a module of its own, whose forward pass is replaced in place of the network's."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """As the network's."""
        outputs: dict[str, Tensor] = self.network(images)
        return outputs
