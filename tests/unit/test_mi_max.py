"""Learning from what a picture shows where it is."""

import pytest
import torch
from torch import Tensor

from artray.detect import mi_max


def bags(pictures: int, boxes: int, size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of noise; where a class is present one box of its direction. The features, what is present, and where."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(pictures, boxes, size, generator=random)
    present = torch.rand(pictures, 2, generator=random) < 0.5
    where = torch.stack([torch.randperm(boxes, generator=random)[:2] for _ in range(pictures)])
    for picture in range(pictures):
        for class_id in range(2):
            if present[picture, class_id]:
                features[picture, where[picture, class_id], class_id] += 6.0
    return features, present, where


def test_the_box_is_found_that_no_one_pointed_at() -> None:
    features, present, _ = bags(80, 12, 16, 0)
    found = mi_max.fit(features, present, rate=0.05, penalty=0.01)
    assert (found.weight.shape, found.bias.shape) == ((2, 16), (2,))
    unseen, there, where = bags(80, 12, 16, 1)
    scores = found(unseen)
    assert scores.abs().max() <= 1
    for class_id in range(2):
        best = scores[..., class_id].argmax(dim=1)
        shown = there[:, class_id]
        assert (best == where[:, class_id])[shown].float().mean() > 0.95
        assert ((scores[..., class_id].amax(dim=1) > 0) == shown).float().mean() > 0.9


def test_the_loss_is_the_papers() -> None:
    features = torch.tensor([[[1.0], [3.0]], [[2.0], [-1.0]], [[0.5], [0.25]]], dtype=torch.float64)
    present = torch.tensor([[True], [False], [False]])
    share = torch.tensor([[1.0], [-0.5], [-0.5]], dtype=torch.float64)
    weight, bias = torch.full((1, 1, 1), 0.4, dtype=torch.float64), torch.full((1, 1), -0.2, dtype=torch.float64)
    loss = mi_max._losses(features, share, None, weight, bias, penalty=2.0)
    expected = (
        -torch.tanh(torch.tensor(1.0)) + 0.5 * torch.tanh(torch.tensor(0.6)) + 0.5 * torch.tanh(torch.tensor(0.0))
    )
    assert float(loss) == pytest.approx(float(expected) + 2 * 0.16, abs=1e-6)
    halved = mi_max._losses(features, share, torch.full((3, 2), 0.49), weight, bias, penalty=0.0)
    at_half = -torch.tanh(torch.tensor(0.5)) + 0.5 * torch.tanh(torch.tensor(0.3)) + 0.0
    assert float(halved) == pytest.approx(float(at_half), abs=1e-6)
    assert mi_max.fit(features, present, steps=5).losses.shape == (1,)


def test_the_best_of_several_starts_is_kept_and_the_same_every_time() -> None:
    features, present, _ = bags(30, 5, 8, 2)
    one, many = (mi_max.fit(features, present, restarts=count, steps=40) for count in (1, 12))
    assert (many.losses <= one.losses + 1e-6).all()
    again = mi_max.fit(features, present, steps=40)
    assert torch.equal(again.weight, many.weight)


def test_objectness_decides_where_features_do_not() -> None:
    features, present, where = bags(60, 6, 8, 3)
    objectness = torch.full((60, 6), 0.05)
    objectness[torch.arange(60)[:, None], where] = 1.0
    found = mi_max.fit(features, present, objectness, rate=0.05, penalty=0.01)
    assert ((found(features, objectness)[..., 0].amax(dim=1) > 0) == present[:, 0]).float().mean() > 0.9


@pytest.mark.parametrize(
    ("features", "present", "objectness", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.bool), None, r"expected \[I, K, D\]"),
        (torch.zeros(3, 2, 4), torch.zeros(2, 1, dtype=torch.bool), None, r"expected \[I, K, D\]"),
        (torch.zeros(3, 2, 4), torch.ones(3, 1, dtype=torch.bool), None, "all alike of class 0"),
        (torch.zeros(2, 2, 4), torch.tensor([[True], [False]]), torch.zeros(2, 3), r"objectness: expected \[2, 2\]"),
    ],
)
def test_what_cannot_be_learned(features: Tensor, present: Tensor, objectness: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mi_max.fit(features, present, objectness)
