"""Losses by hand, and their gradients against finite differences."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from artray.train.losses import LOSSES, class_weights, cross_entropy, f1_loss

TRUTH = torch.tensor([0, 1, 2, 1])


def test_one_logit_is_the_second_of_two() -> None:
    logits, truth = torch.tensor([[0.3], [-1.2], [2.0]]), torch.tensor([1, 0, 1])
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    for weights in (None, torch.tensor([1.0, 5.0])):
        assert cross_entropy(logits, truth, weights) == pytest.approx(float(cross_entropy(two, truth, weights)))


def test_weights_count_as_so_many_images() -> None:
    logits, truth = torch.randn(2, 3), torch.tensor([0, 2])
    thrice = torch.cat([logits[:1], logits[1:].repeat(3, 1)]), torch.tensor([0, 2, 2, 2])
    assert cross_entropy(logits, truth, torch.tensor([1.0, 1.0, 3.0])) == pytest.approx(float(cross_entropy(*thrice)))


def test_f1_of_sure_predictions_is_that_of_decisions() -> None:
    """Truth 0 1 1 1, predicted 0 0 1 1: precision 1, recall 2/3, F1 of the second class 0.8, of the first 2/3."""
    truth = torch.tensor([0, 1, 1, 1])
    logits = torch.tensor([[-99.0], [-99.0], [99.0], [99.0]])
    assert f1_loss(logits, truth) == pytest.approx(0.2)
    two = torch.cat([-logits, logits], dim=1)
    assert f1_loss(two, truth) == pytest.approx(1 - (0.8 + 2 / 3) / 2)
    assert f1_loss(two, truth, torch.tensor([0.0, 1.0])) == pytest.approx(0.2)


def test_f1_is_finite_where_a_class_is_not_there() -> None:
    logits = torch.full((3, 1), -200.0, requires_grad=True)
    loss = f1_loss(logits, torch.tensor([0, 0, 0]))
    loss.backward()
    assert loss == 1.0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(name: str, outputs: int, weighted: bool) -> None:
    logits = torch.randn(4, outputs, dtype=torch.float64, requires_grad=True)
    truth = TRUTH if outputs == 3 else TRUTH.clamp(max=1)
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)[: max(2, outputs)] if weighted else None
    assert gradcheck(lambda values: LOSSES[name](values, truth, weights), (logits,))


def test_cross_entropy_is_torchs() -> None:
    logits = torch.randn(4, 3)
    assert cross_entropy(logits, TRUTH) == functional.cross_entropy(logits, TRUTH)


def test_class_weights() -> None:
    weights = class_weights([0] * 90 + [1] * 10, 3)
    assert weights.tolist() == pytest.approx([100 / 270, 100 / 30, 1.0])
    assert class_weights([0] * 90 + [1] * 10, 2, exponent=0.0).tolist() == [1.0, 1.0]
    assert class_weights([0] * 90 + [1] * 10, 2, exponent=2.0)[1] == pytest.approx(25.0)
