"""A fine-tuned trunk on the way back to where it started: better on pictures unlike those that it was tuned on.

Fine-tuning learns the works at hand, and forgets some of what ImageNet's photographs taught about others. The mean of
the weights before and after keeps both; the batch norms' statistics and the heads are made anew for it.

Source: Wortsman et al., Robust fine-tuning of zero-shot models (2022), equation 1, for the weights; Izmailov et al.,
Averaging weights leads to wider optima (2018), section 3.2, for the statistics.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

STRENGTHS: Final = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Inverse strengths of regularisation that are tried, as scikit-learn's C for standardised features."""

STEPS: Final = 200


def interpolate(trunk: nn.Module, start: nn.Module, part: float) -> None:
    """Move a trunk's parameters and statistics to ``start + part * (trunk - start)``, in place.

    Args:
        trunk: fine-tuned.
        start: of the same architecture, what it was before.
        part: in [0, 1].
    """
    before = start.state_dict()
    with torch.no_grad():
        for name, tensor in trunk.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.lerp(before[name].to(tensor), tensor, part))


def measure(trunk: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give a trunk's batch norms the statistics of some pictures, batches float[N, 3, S, S] of equal weight."""
    norms = [module for module in trunk.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    trunk.train()
    with torch.inference_mode():
        for images in batches:
            trunk(images)
    trunk.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class Fitted(NamedTuple):
    """A linear head."""

    weight: Tensor  # float64[K, D]
    bias: Tensor  # float64[K]
    strength: float

    def __call__(self, features: Tensor) -> Tensor:
        """Logits float64[N, K] of features [N, D]."""
        return features.double() @ self.weight.T + self.bias


def fit(features: Tensor, class_ids: Tensor, weights: Tensor, outputs: int, strength: float) -> Fitted:
    """A linear head by logistic regression on standardised features.

    Args:
        features: float[N, D].
        class_ids: int64[N].
        weights: float[C], of the classes.
        outputs: K: 1 for two classes, whose logit is that of the second, else C.
        strength: the inverse strength of regularisation, scikit-learn's C.
    """
    rows = features.double()
    mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0).clamp(min=1e-9)
    scaled, row_weights = (rows - mean) / deviation, weights.double()[class_ids]
    weight = torch.zeros(outputs, rows.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(outputs, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        losses = _losses(scaled @ weight.T + bias, class_ids)
        cost = (losses * row_weights).mean() + weight.square().sum() / (2 * strength * len(rows))
        cost.backward()  # type: ignore[no-untyped-call]
        return cost

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    own = weight.detach() / deviation
    return Fitted(own, bias.detach() - own @ mean, strength)


def fit_best(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], weights: Tensor, outputs: int) -> Fitted:
    """The head that finds validation the likeliest, of those with each of :data:`STRENGTHS`.

    Args:
        train: features float[N, D] and class ids int64[N].
        val: likewise.
        weights: float[C], of the classes.
        outputs: K, see :func:`fit`.
    """
    found = [fit(*train, weights, outputs, strength) for strength in STRENGTHS]
    if not len(val[0]):
        return found[len(found) // 2]
    losses = [float(_losses(head(val[0]), val[1]).mean()) for head in found]
    return found[int(np.argmin(losses))]


def _losses(logits: Tensor, class_ids: Tensor) -> Tensor:
    """Cross-entropy of each row; one logit is that of the second of two classes."""
    if logits.shape[1] == 1:
        truth = class_ids.to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
    return functional.cross_entropy(logits, class_ids, reduction="none")
