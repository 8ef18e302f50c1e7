"""Metrics of classes: by hand, and as scikit-learn has them."""

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from artray.metrics.calibration import TEMPERATURES, Calibration, bias_corrected, temperature
from artray.metrics.classification import bootstrap, calibration_error, confusion, entropy, metrics, named

NAMES = ("a", "b", "c")


def test_the_reports_worked_example() -> None:
    """Section 4.1: 24 images, TP 18, TN 1, FP 3, FN 2, paintings being the positive class."""
    told = metrics([[18, 2], [3, 1]])
    assert told.f1[0] == pytest.approx(36 / 41)  # 2 TP / (2 TP + FP + FN) = 0.878, "88%"
    assert told.f1[1] == pytest.approx(2 / 7)  # classes exchanged: 0.286, "29%"
    assert told.mcc == pytest.approx((18 * 1 - 3 * 2) / np.sqrt(21 * 20 * 4 * 3))  # the minus that formula (1) lacks
    assert told.accuracy == told.micro_f1 == pytest.approx(19 / 24)


def test_empty_classes_and_no_data_are_0() -> None:
    told = metrics([[3, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert told.f1.tolist() == [1.0, 0.0, 0.0]
    assert (told.mcc, told.accuracy) == (0.0, 1.0)
    assert named(metrics(np.zeros((2, 2))), ["a", "b"]) == {
        **{"f1 a": 0.0, "f1 b": 0.0, "micro_f1": 0.0, "macro_f1": 0.0, "accuracy": 0.0, "mcc": 0.0}
    }


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.choice(3, 200, p=[0.8, 0.15, 0.05]), random.choice(3, 200, p=[0.6, 0.3, 0.1])
    told = metrics(confusion(truth, predicted, 3))
    for field, function in (("f1", "f1_score"), ("precision", "precision_score"), ("recall", "recall_score")):
        expected = getattr(reference, function)(truth, predicted, average=None, zero_division=0)
        assert getattr(told, field) == pytest.approx(expected)
    assert told.macro_f1 == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert told.micro_f1 == pytest.approx(reference.f1_score(truth, predicted, average="micro"))
    assert told.mcc == pytest.approx(reference.matthews_corrcoef(truth, predicted))
    assert confusion(truth, predicted, 3).tolist() == reference.confusion_matrix(truth, predicted).tolist()


def test_many_matrices_at_once() -> None:
    random = np.random.default_rng(0)
    tables = random.integers(0, 9, (7, 3, 3))
    together = metrics(tables)
    for index, table in enumerate(tables):
        alone = metrics(table)
        assert all(np.allclose(getattr(together, name)[index], getattr(alone, name)) for name in alone._fields)


def test_wrong_classes() -> None:
    with pytest.raises(ValueError, match=r"expected classes in \[0, 2\)"):
        confusion([0, 2], [0, 0], 2)
    with pytest.raises(ValueError, match="expected int"):
        confusion([0, 1], [0], 2)
    assert confusion([], [], 2).tolist() == [[0, 0], [0, 0]]


def test_intervals_hold_the_value_and_widen_with_groups() -> None:
    random = np.random.default_rng(1)
    artists = np.repeat(np.arange(20), 10)
    good = random.random(20) < 0.7  # an artist's works are all recognised, or none is
    truth = random.integers(0, 3, 200)
    predicted = np.where(good[artists], truth, (truth + 1) % 3)
    single, grouped = bootstrap(truth, predicted, NAMES), bootstrap(truth, predicted, NAMES, artists.tolist())
    for name, interval in grouped.items():
        assert interval.low <= interval.value <= interval.high
        assert interval.value == single[name].value
    width = grouped["accuracy"].high - grouped["accuracy"].low
    assert width > 2 * (single["accuracy"].high - single["accuracy"].low)
    # binomial of n groups: standard error sqrt(p (1 - p) / n), and 2 * 1.96 of it
    share = good.mean()
    assert width == pytest.approx(3.92 * np.sqrt(share * (1 - share) / 20), rel=0.1)
    assert bootstrap(truth, predicted, NAMES, artists.tolist()) == grouped  # always the same
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([], [], NAMES)


def test_calibration() -> None:
    assert calibration_error(np.empty((0, 2)), []) == 0.0
    assert calibration_error([[1.0, 0.0]] * 4, [1, 1, 1, 1]) == 1.0  # sure, and always wrong
    random = np.random.default_rng(2)
    logits = random.normal(0, 2, (20_000, 3))
    chances = torch.softmax(torch.from_numpy(logits), 1).numpy()
    truth = (chances.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    assert calibration_error(chances, truth) < 0.01
    assert temperature(logits, truth) == pytest.approx(1.0, abs=0.03)
    assert temperature(logits * 3, truth) == pytest.approx(3.0, rel=0.03)  # three times too sure
    sharp = torch.softmax(torch.from_numpy(logits * 3), 1).numpy()
    assert calibration_error(sharp, truth) > 0.1
    assert temperature(np.empty((0, 3)), []) == 1.0
    assert temperature([[9.0, 0.0]], [0]) == pytest.approx(TEMPERATURES[0], rel=0.01)  # nothing to be unsure of


def test_bias_corrected_calibration_finds_what_was_done_to_the_logits() -> None:
    random = np.random.default_rng(3)
    logits = random.normal(0, 2, (20_000, 3))
    chances = torch.softmax(torch.from_numpy(logits), 1).numpy()
    truth = (chances.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    shift = np.array([1.0, -0.5, -0.5])
    found = bias_corrected((logits - shift) * 2, truth)
    assert found.temperature == pytest.approx(2.0, rel=0.03)
    assert found.shift == pytest.approx(shift, abs=0.05)
    assert found((logits - shift) * 2) == pytest.approx(logits, abs=0.4)
    # as torch's own optimiser finds it
    scale, bias = torch.ones(1, dtype=torch.float64, requires_grad=True), torch.zeros(3, dtype=torch.float64)
    bias.requires_grad_(True)
    few, known = torch.from_numpy(logits[:200] * 3 + shift), torch.from_numpy(truth[:200])
    optimiser = torch.optim.LBFGS([scale, bias], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        nll = torch.nn.functional.cross_entropy(few * scale + bias, known)
        free = bias[1:] - bias[0]
        total = nll + ((scale - 1).square().sum() + free.square().sum()) / (2 * 200)
        total.backward()
        return total

    optimiser.step(closure)
    ours = bias_corrected(few.numpy(), truth[:200])
    assert ours.temperature == pytest.approx(1 / float(scale.detach()), rel=1e-3)
    assert np.array(ours.shift) == pytest.approx((bias - bias.mean()).detach().numpy(), abs=1e-3)


def test_bias_corrected_calibration_stays_finite() -> None:
    apart = bias_corrected([[9.0, 0.0], [0.0, 9.0]] * 3, [0, 1] * 3)
    assert np.isfinite([apart.temperature, *apart.shift]).all()
    assert bias_corrected(np.empty((0, 3)), []) == Calibration()
    assert Calibration(2.0, (1.0, -1.0))(np.array([[2.0, 4.0]])).tolist() == [[2.0, 1.0]]


def test_entropy() -> None:
    assert entropy([[0.25] * 4, [1.0, 0.0, 0.0, 0.0]]).tolist() == [1.0, 0.0]
    assert 0 < entropy([[0.5, 0.5, 0.0]])[0] < 1
