"""Losses over imbalanced classes: logits and class ids in, one number out; their weights are told, not guessed."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From logits float[N, K], class ids int64[N] and the classes' weights float[C] (or None) to a scalar >= 0.

K is C, or 1 where there are two classes and the logit is that of the second one.
"""

EPSILON: Final = 1e-10
"""In every denominator of the F1 loss that could be 0. Source: report, Image Classification, section 4.2."""


def cross_entropy(logits: Tensor, class_ids: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of one logit, categorical cross-entropy of several; a mean, weighted by class.

    Source: report, section 4.2 (binary, for types; weighted loss) and 4.3 (categorical, for genres).
    """
    if logits.shape[1] > 1:
        return functional.cross_entropy(logits, class_ids, weight=weights)
    losses = functional.binary_cross_entropy_with_logits(logits[:, 0], class_ids.to(logits.dtype), reduction="none")
    if weights is None:
        return losses.mean()
    per_row = weights.to(logits.dtype)[class_ids]
    return (losses * per_row).sum() / per_row.sum()


def f1_loss(logits: Tensor, class_ids: Tensor, weights: Tensor | None = None) -> Tensor:
    """1 - F1 with probabilities in place of decisions, over the batch: of the second class where there is one logit,
    the mean over classes, weighted by class, where there are several.

    Source: report, section 4.2: "we minimize the F1-score subtracted from one", with 1e-10 added to denominators.
    """
    if logits.shape[1] > 1:
        scores, truth = logits.softmax(dim=1), functional.one_hot(class_ids, logits.shape[1]).to(logits.dtype)
    else:
        scores, truth = logits.sigmoid(), class_ids[:, None].to(logits.dtype)
    hits = (scores * truth).sum(dim=0)
    precision, recall = hits / (scores.sum(dim=0) + EPSILON), hits / (truth.sum(dim=0) + EPSILON)
    f1 = 2 * precision * recall / (precision + recall + EPSILON)
    if weights is None or len(f1) == 1:
        return 1 - f1.mean()
    return 1 - (f1 * weights).sum() / weights.sum()


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
