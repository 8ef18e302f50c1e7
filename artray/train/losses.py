"""Losses over imbalanced classes: logits, class ids and row weights in, one number out.

Each is made of sums over the rows of a batch. Where several workers share a batch, ``total`` adds their sums up, so the
loss and its gradient are those of the whole batch, however it was shared.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Total: TypeAlias = Callable[[Tensor], Tensor]
"""Adds a tensor up over all workers; differentiable."""

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor, Total], Tensor]
"""From logits float[N, K], class ids int64[N], row weights float[N] >= 0 and a total to a scalar >= 0.

K is C, or 1 where there are two classes and the logit is that of the second one. A row of weight 0 does not count,
whatever its class id; where none counts the loss is 0.
"""

EPSILON: Final = 1e-10
"""In every denominator of the F1 loss that could be 0. Source: report, Image Classification, section 4.2."""


def alone(sums: Tensor) -> Tensor:
    """The total of a worker that has the whole batch."""
    return sums


def cross_entropy(logits: Tensor, class_ids: Tensor, row_weights: Tensor, total: Total = alone) -> Tensor:
    """Binary cross-entropy of one logit, categorical cross-entropy of several: the weighted mean over rows.

    Source: report, section 4.2 (binary, for types; weighted loss) and 4.3 (categorical, for genres).
    """
    if logits.shape[1] > 1:
        losses = functional.cross_entropy(logits, class_ids, reduction="none")
    else:
        truth = class_ids.to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
    weights = row_weights.to(losses.dtype)
    sums = total(torch.stack([(losses * weights).sum(), weights.sum()]))
    return sums[0] / sums[1].clamp(min=EPSILON)


def f1_loss(logits: Tensor, class_ids: Tensor, row_weights: Tensor, total: Total = alone) -> Tensor:
    """1 - F1 with probabilities in place of decisions, over the batch: of the second class where there is one logit,
    the mean over classes where there are several.

    Source: report, section 4.2: "we minimize the F1-score subtracted from one", with 1e-10 added to denominators.
    """
    if logits.shape[1] > 1:
        scores, truth = logits.softmax(dim=1), functional.one_hot(class_ids, logits.shape[1]).to(logits.dtype)
    else:
        scores, truth = logits.sigmoid(), class_ids[:, None].to(logits.dtype)
    weights = row_weights[:, None].to(logits.dtype)
    sums = torch.stack([(part * weights).sum(dim=0) for part in (scores * truth, scores, truth)])
    whole = total(torch.cat([sums.flatten(), weights.sum()[None]]))
    sums, counted = whole[:-1].reshape(sums.shape), whole[-1] > 0
    precision, recall = sums[0] / (sums[1] + EPSILON), sums[0] / (sums[2] + EPSILON)
    f1 = 2 * precision * recall / (precision + recall + EPSILON)
    return (1 - f1.mean()) * counted


def mean_squared(predicted: Tensor, truth: Tensor, total: Total = alone) -> Tensor:
    """The mean over rows and columns of the squared differences of float[N, K] and float[N, K]; 0 of no rows.

    Source: report, Image Retrieval, section 5.4, where K are red, green and blue.
    """
    squares = (predicted - truth).square()
    sums = total(torch.stack([squares.sum(), torch.ones_like(squares).sum()]))
    return sums[0] / sums[1].clamp(min=EPSILON)


LOSSES: Final[MappingProxyType[str, Loss]] = MappingProxyType({"cross_entropy": cross_entropy, "f1": f1_loss})


def class_weights(class_ids: Sequence[int], classes: int, exponent: float = 1.0) -> Tensor:
    """Weights float32[C] that offset imbalance: (N / (C * count)) ** exponent, and 1 for a class without images.

    Args:
        class_ids: of the training images.
        classes: C.
        exponent: 0 leaves the classes as they are, 1 makes all weigh the same; the report needed more than that.

    >>> class_weights([0, 0, 0, 1], 2).tolist()
    [0.6666666865348816, 2.0]
    """
    counts = torch.bincount(torch.tensor(list(class_ids), dtype=torch.int64), minlength=classes).float()
    ratio = len(class_ids) / (classes * counts)
    return torch.where(counts > 0, ratio, torch.ones(())).pow(exponent)
