"""Losses by hand, and their gradients against finite differences."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from artray.train.losses import LOSSES, class_weights, cross_entropy, f1_loss, mean_squared

TRUTH = torch.tensor([0, 1, 2, 1])
ONES = torch.ones(4)


def test_one_logit_is_the_second_of_two() -> None:
    logits, truth = torch.tensor([[0.3], [-1.2], [2.0]]), torch.tensor([1, 0, 1])
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    for weights in (torch.ones(3), torch.tensor([1.0, 5.0, 0.5])):
        assert cross_entropy(logits, truth, weights) == pytest.approx(float(cross_entropy(two, truth, weights)))


@pytest.mark.parametrize("name", LOSSES)
def test_weights_count_as_so_many_images(name: str) -> None:
    logits, truth = torch.randn(3, 3), torch.tensor([0, 2, 1])
    thrice = torch.cat([logits[:1], logits[1:2].repeat(3, 1)]), torch.tensor([0, 2, 2, 2])
    weighted = LOSSES[name](logits, truth, torch.tensor([1.0, 3.0, 0.0]), lambda sums: sums)
    assert weighted == pytest.approx(float(LOSSES[name](*thrice, ONES, lambda sums: sums)))


@pytest.mark.parametrize("name", LOSSES)
def test_workers_that_share_a_batch_have_its_loss(name: str) -> None:
    """The total adds up; here by recording one worker's sums and adding them to the other's."""
    logits, weights = torch.randn(4, 3), torch.tensor([1.0, 2.0, 0.5, 1.0])
    kept: list[torch.Tensor] = []
    LOSSES[name](logits[:1], TRUTH[:1], weights[:1], lambda sums: kept.append(sums) or sums)
    shared = LOSSES[name](logits[1:], TRUTH[1:], weights[1:], lambda sums: sums + kept[0])
    assert shared == pytest.approx(float(LOSSES[name](logits, TRUTH, weights, lambda sums: sums)))


def test_f1_of_sure_predictions_is_that_of_decisions() -> None:
    """Truth 0 1 1 1, predicted 0 0 1 1: precision 1, recall 2/3, F1 of the second class 0.8, of the first 2/3."""
    truth = torch.tensor([0, 1, 1, 1])
    logits = torch.tensor([[-99.0], [-99.0], [99.0], [99.0]])
    assert f1_loss(logits, truth, ONES) == pytest.approx(0.2)
    assert f1_loss(torch.cat([-logits, logits], dim=1), truth, ONES) == pytest.approx(1 - (0.8 + 2 / 3) / 2)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_finite_where_a_class_or_every_row_is_not_there(name: str, outputs: int) -> None:
    for weights in (torch.ones(3), torch.zeros(3)):
        logits = torch.full((3, outputs), -200.0, requires_grad=True)
        loss = LOSSES[name](logits, torch.tensor([0, 0, 0]), weights, lambda sums: sums)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
    assert cross_entropy(logits.detach(), torch.tensor([0, 0, 0]), torch.zeros(3)) == 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(name: str, outputs: int, weighted: bool) -> None:
    logits = torch.randn(4, outputs, dtype=torch.float64, requires_grad=True)
    truth = TRUTH if outputs == 3 else TRUTH.clamp(max=1)
    weights = torch.tensor([1.0, 2.0, 0.5, 0.0] if weighted else [1.0] * 4, dtype=torch.float64)
    assert gradcheck(lambda values: LOSSES[name](values, truth, weights, lambda sums: sums), (logits,))


def test_squared_differences_by_hand() -> None:
    """Two colours: one off by 0.5 in red and by 0.1 in blue, one right: (0.25 + 0.01) / 6."""
    predicted = torch.tensor([[0.5, 0.2, 0.1], [1.0, 0.0, 0.3]], dtype=torch.float64)
    truth = torch.tensor([[0.0, 0.2, 0.2], [1.0, 0.0, 0.3]], dtype=torch.float64)
    assert mean_squared(predicted, truth) == pytest.approx(0.26 / 6)
    assert mean_squared(predicted, truth) == pytest.approx(float(functional.mse_loss(predicted, truth)))
    assert mean_squared(predicted[:0], truth[:0]) == 0
    kept: list[torch.Tensor] = []
    mean_squared(predicted[:1], truth[:1], lambda sums: kept.append(sums) or sums)
    assert mean_squared(predicted[1:], truth[1:], lambda sums: sums + kept[0]) == pytest.approx(0.26 / 6)
    assert gradcheck(lambda values: mean_squared(values, truth), (predicted.requires_grad_(),))


def test_cross_entropy_is_torchs() -> None:
    logits = torch.randn(4, 3)
    assert cross_entropy(logits, TRUTH, ONES) == pytest.approx(float(functional.cross_entropy(logits, TRUTH)))
    weights = torch.tensor([1.0, 2.0, 0.5])
    torchs = functional.cross_entropy(logits, TRUTH, weight=weights)
    assert cross_entropy(logits, TRUTH, weights[TRUTH]) == pytest.approx(float(torchs))


def test_class_weights() -> None:
    weights = class_weights([0] * 90 + [1] * 10, 3)
    assert weights.tolist() == pytest.approx([100 / 270, 100 / 30, 1.0])
    assert class_weights([0] * 90 + [1] * 10, 2, exponent=0.0).tolist() == [1.0, 1.0]
    assert class_weights([0] * 90 + [1] * 10, 2, exponent=2.0)[1] == pytest.approx(25.0)
