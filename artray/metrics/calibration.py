"""Make a classifier's scores mean what they say: its logits scaled, and shifted, to be the likeliest on validation."""

from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from artray.metrics.classification import loss

Floats: TypeAlias = npt.NDArray[np.float64]
Real = TypeVar("Real", bound=np.floating[Any])

TEMPERATURES: Final = (0.05, 20.0)
"""No temperature outside of these is tried."""

STEPS: Final = 50
HALVINGS: Final = 30


class Calibration(NamedTuple):
    """What becomes of logits float[..., C]: divided by a temperature, then shifted class by class."""

    temperature: float = 1.0
    shift: tuple[float, ...] = ()  # C numbers that sum to 0, or none

    def __call__(self, logits: Floats) -> Floats:
        """Calibrated logits, of the same shape."""
        scaled = logits / self.temperature
        return np.asarray(scaled + np.array(self.shift) if self.shift else scaled)


def temperature(logits: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The divisor of the logits that makes them the likeliest; it changes confidence, and no decision.

    Args:
        logits: float[N, C] of data that the model was not trained on.
        truth: int[N].

    Returns:
        A number in :data:`TEMPERATURES`; 1 where there are no data.

    Source: Guo et al. (2017), section 4.2. The negative log-likelihood is convex in 1 / T (Platt scaling without a
    bias), so a golden-section search finds its minimum.
    """
    table, rows = np.asarray(logits, np.float64), np.asarray(truth, np.int64)
    if not len(table):
        return 1.0
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(80):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(table * left, rows) < loss(table * right, rows):
            high = right
        else:
            low = left
    return float(2 / (low + high))


def bias_corrected(logits: npt.ArrayLike, truth: npt.ArrayLike) -> Calibration:
    """Temperature scaling with a shift per class besides, which corrects a bias towards some classes.

    A network that was trained with weights or samplers for rare classes, or with mixup, says them too often: a
    temperature cannot change that, a shift does.

    Args:
        logits: float[N, C] of data that the model was not trained on; their classes should be as frequent as in use.
        truth: int[N].

    Source: Alexandari et al., Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift
    Adaptation (2020), section 3 (BCTS). The negative log-likelihood is convex in 1 / T and the shifts, so Newton's
    method finds its minimum; a ridge of one observation keeps it finite where classes can be told apart without error.
    """
    table, rows = np.asarray(logits, np.float64), np.asarray(truth, np.int64)
    if not len(table):
        return Calibration()
    classes = table.shape[1]
    start = np.array([1.0, *[0.0] * (classes - 1)])  # 1 / T, and the shifts of all classes but the first
    slopes = np.zeros((len(table), classes, classes))  # of every logit by every parameter
    slopes[:, :, 0] = table
    slopes[:, range(1, classes), range(1, classes)] = 1.0
    truths = np.eye(classes)[rows]

    def cost(found: Floats) -> float:
        return loss(slopes @ found, rows) + float(np.square(found - start).sum()) / (2 * len(table))

    found = start
    for _ in range(STEPS):
        scores = softmax(slopes @ found)
        gradient = np.einsum("nc,ncp->p", scores - truths, slopes) / len(table) + (found - start) / len(table)
        means = np.einsum("nc,ncp->np", scores, slopes)
        curvature = np.einsum("nc,ncp,ncq->pq", scores, slopes, slopes) - means.T @ means
        step = np.linalg.solve(curvature / len(table) + np.eye(classes) / len(table), gradient)
        before, length = cost(found), 1.0
        for _ in range(HALVINGS):
            if cost(found - length * step) <= before:
                break
            length /= 2
        found = found - length * step
        if np.abs(length * step).max() < 1e-9:
            break
    inverse = float(np.clip(found[0], 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]))
    shifts = np.array([0.0, *found[1:]])
    return Calibration(1 / inverse, tuple((shifts - shifts.mean()).tolist()))


def softmax(logits: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Probabilities of logits float[..., C], of the same shape and type."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
