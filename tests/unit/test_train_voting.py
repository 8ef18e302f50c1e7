"""Votes and their ties."""

import numpy as np

from artray.train.voting import disagreement, majority, most_confident

TWO_OF_THREE = [[0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.3, 0.4, 0.3]]
TIE = [[0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]]
"""One vote each: the means are 0.47, 0.28 and 0.25."""


def test_the_most_common_prediction_wins_and_the_mean_breaks_ties() -> None:
    scores = np.array([TWO_OF_THREE, TIE])
    assert majority(scores).tolist() == [1, 0]
    assert disagreement(scores).round(3).tolist() == [0.333, 0.667]


def test_a_tie_is_between_those_who_tie() -> None:
    """Classes 0 and 1 have two votes each; class 2 has the highest mean and none."""
    four = [[0.4, 0.21, 0.39], [0.4, 0.21, 0.39], [0.1, 0.46, 0.44], [0.1, 0.46, 0.44]]
    assert np.mean(four, axis=0).argmax() == 2
    assert majority(np.array([four])).tolist() == [1]


def test_one_view_is_its_own_majority_and_no_image_has_none() -> None:
    scores = np.array([[[0.2, 0.8]], [[0.5, 0.5]]])
    assert majority(scores).tolist() == [1, 0]
    assert disagreement(scores).tolist() == [0.0, 0.0]
    assert majority(np.zeros((0, 5, 2))).tolist() == []


def test_the_surest_decides() -> None:
    assert most_confident(np.array([[0.6, 0.7, 0.1], [0.2, 0.1, 0.15], [0.5, 0.5, 0.5]])).tolist() == [1, 0, 0]
