"""MI-max: detectors learned from what a picture shows, not from where: one linear classifier per class.

A frozen detector proposes boxes with features. Of every picture only the box that scores highest counts: in pictures of
the class it should score high, in others low. Many classes and many random starts are learned at once.

Source: Gonthier, Gousseau, Ladjal and Bonfait, Weakly Supervised Object Detection in Artworks (ECCV workshops 2018),
https://arxiv.org/abs/1810.02569, section 3; the report, Object Detection, sections 2.2 and 5.3.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor

PROPOSALS: Final = 300
"""Boxes of a picture, those of the highest objectness."""

RESTARTS: Final = 12
STEPS: Final = 300
RATE: Final = 0.01
PENALTY: Final = 1.0
"""Of the squared length of the weights."""

OBJECTNESS_MIN: Final = 0.01
"""Added to objectness, which scores are multiplied by."""


class MiMax(NamedTuple):
    """Linear classifiers of C classes."""

    weight: Tensor  # float[C, D]
    bias: Tensor  # float[C]
    losses: Tensor  # float[C]: of the start that was kept

    def __call__(self, features: Tensor, objectness: Tensor | None = None) -> Tensor:
        """Scores float[..., C] in (-1, 1) of boxes with features float[..., D]; above 0 is the class.

        Args:
            features: of any number of boxes.
            objectness: float[...] in [0, 1] of each, if they were learned with it.
        """
        margins = features @ self.weight.T + self.bias
        return torch.tanh(margins if objectness is None else margins * (objectness + OBJECTNESS_MIN)[..., None])


def fit(
    features: Tensor,
    present: Tensor,
    objectness: Tensor | None = None,
    *,
    restarts: int = RESTARTS,
    steps: int = STEPS,
    rate: float = RATE,
    penalty: float = PENALTY,
    seed: int = 0,
) -> MiMax:
    """Learn which boxes show what, from which pictures do.

    The loss of a class is the sum over pictures of ``-y / n(y) * tanh(highest margin of its boxes)``, with y 1 or -1
    and n(y) how many pictures have that y, and the penalty. It is made smaller by plain gradient descent over all
    pictures, from several random starts, of which that with the least loss is kept.

    Args:
        features: float[I, K, D]: K boxes of each of I pictures; better of unit variance or length.
        present: bool[I, C]: whether a picture shows a class.
        objectness: float[I, K] in [0, 1]: margins are multiplied by it; None: they are not.
        restarts: random starts.
        steps: of gradient descent.
        rate: length of a step.
        penalty: of the squared length of the weights.
        seed: of the starts.

    Raises:
        ValueError: shapes that do not agree, or a class that all pictures or none of them show.

    Two pictures of three show a class: their second boxes, which have something in common.

    >>> boxes = torch.tensor([[[1.0, 0], [0, 1]], [[-1.0, 0], [0, 1]], [[1.0, 0], [-1, 0]]])
    >>> found = fit(boxes, torch.tensor([[True], [True], [False]]), rate=0.1, penalty=0.01)
    >>> (found(boxes)[..., 0] > 0).tolist()
    [[False, True], [False, True], [False, False]]
    """
    if features.ndim != 3 or present.ndim != 2 or len(features) != len(present):
        raise ValueError(
            f"features and present: expected [I, K, D] and [I, C], got {[*features.shape]} and {[*present.shape]}"
        )
    if objectness is not None and objectness.shape != features.shape[:2]:
        raise ValueError(f"objectness: expected {[*features.shape[:2]]}, got {[*objectness.shape]}")
    counts = present.sum(dim=0)
    if wrong := [at for at, count in enumerate(counts.tolist()) if not 0 < count < len(present)]:
        raise ValueError(f"present: expected pictures with and without every class, got all alike of class {wrong[0]}")
    classes, size = present.shape[1], features.shape[2]
    share = torch.where(present, 1 / counts, -1 / (len(present) - counts)).to(features)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(restarts, classes, size, generator=generator).to(features) / size**0.5
    bias = torch.zeros(restarts, classes).to(features)
    weight.requires_grad_(True)
    bias.requires_grad_(True)
    descent = torch.optim.SGD([weight, bias], lr=rate)
    for _ in range(steps):
        descent.zero_grad()
        _losses(features, share, objectness, weight, bias, penalty).sum().backward()  # type: ignore[no-untyped-call]
        descent.step()
    with torch.no_grad():
        losses = _losses(features, share, objectness, weight, bias, penalty)
    best, every = losses.argmin(dim=0), torch.arange(classes)
    return MiMax(weight.detach()[best, every], bias.detach()[best, every], losses[best, every])


def _losses(
    features: Tensor, share: Tensor, objectness: Tensor | None, weight: Tensor, bias: Tensor, penalty: float
) -> Tensor:
    """float[R, C], of every start and class."""
    margins = torch.einsum("ikd,rcd->rcik", features, weight) + bias[:, :, None, None]
    if objectness is not None:
        margins = margins * (objectness + OBJECTNESS_MIN)
    highest = torch.tanh(margins.amax(dim=3))
    return -(highest * share.T).sum(dim=2) + penalty * weight.square().sum(dim=2)
