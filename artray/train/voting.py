"""One answer from several: crops of a picture, or models of an ensemble."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scores: TypeAlias = NDArray[np.floating[Any]]
Ints: TypeAlias = NDArray[np.int64]


def majority(scores: Scores, votes: Ints | None = None) -> Ints:
    """int64[N]: the class that most views or models chose; of equally many, the one with the highest mean score.

    Args:
        scores: float[N, V, C], in the order of views; V at least 1. A mean score that is equal, too, leaves it to the
            lower class id.
        votes: int64[N, V], what each chose, if that is not what it scores highest.

    Source: report, section 4.2: "the most common prediction over all crops", and Table 7: "a majority vote". Neither
    says what becomes of a tie.

    >>> majority(np.array([[[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]], [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]])).tolist()
    [1, 0]
    """
    classes = scores.shape[-1]
    chosen = scores.argmax(axis=-1) if votes is None else votes
    counted = np.eye(classes, dtype=np.int64)[chosen].sum(axis=1)
    mean = scores.mean(axis=1)
    return np.asarray(np.where(counted == counted.max(axis=1, keepdims=True), mean, -1.0).argmax(axis=1))


def disagreement(scores: Scores) -> NDArray[np.float64]:
    """float64[N] in [0, 1): the part of the views of float[N, V, C] that did not choose what :func:`majority` says.

    >>> disagreement(np.array([[[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]])).round(2).tolist()
    [0.33]
    """
    return np.asarray((scores.argmax(axis=-1) != majority(scores)[:, None]).mean(axis=1))


def most_confident(positive: Scores) -> Ints:
    """int64[N]: the class whose own model is surest, of C models that each know one class from the rest.

    Args:
        positive: float[N, C] in [0, 1], what each class's model gives for its class.

    Source: report, section 4.3: "the network that yielded a positive result with the highest confidence". It does not
    say what happens where none is positive: the least negative one decides, so every picture has a class. Of equally
    sure models the first decides.

    >>> most_confident(np.array([[0.6, 0.7], [0.2, 0.1]])).tolist()
    [1, 0]
    """
    return np.asarray(positive.argmax(axis=1))
