"""One image that a model cannot stand costs that image, and nothing else."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from artray.errors import ConfigError, InvariantError, RowError, TransientError
from artray.models.attempt import DETAIL_CHARACTERS, attempt, told

IMAGES = [np.full((2, 2, 3), value, np.uint8) for value in range(4)]


def brittle(images: Sequence[np.ndarray]) -> list[int]:
    """The first value of each image; raises on one of 2."""
    if any(int(image[0, 0, 0]) == 2 for image in images):
        raise ValueError("cannot stand a 2")
    return [int(image[0, 0, 0]) for image in images]


def test_the_guilty_is_found_and_the_others_are_answered() -> None:
    found = attempt(brittle, IMAGES)
    assert [one for one in found if not isinstance(one, RowError)] == [0, 1, 3]
    assert isinstance(found[2], RowError)
    assert (found[2].kind, found[2].detail) == ("model_failed", "ValueError: cannot stand a 2")
    assert attempt(brittle, []) == []


@pytest.mark.parametrize(
    ("raised", "expected", "match"),
    [
        (torch.AcceleratorError("device-side assert"), TransientError, r"device is lost .*run again"),
        (ConfigError("card: wrong"), ConfigError, "card: wrong"),
    ],
)
def test_what_is_no_images_fault_stops_the_job(raised: Exception, expected: type[Exception], match: str) -> None:
    def lost(images: Sequence[np.ndarray]) -> list[int]:
        raise raised

    with pytest.raises(expected, match=match):
        attempt(lost, IMAGES)


def test_an_answer_per_image() -> None:
    with pytest.raises(InvariantError, match="expected 4 answers, got 3"):
        attempt(lambda images: [0] * (len(images) - 1), IMAGES)


def test_details_are_one_short_line() -> None:
    assert told(ValueError("a\n  b")) == "ValueError: a"
    assert told(ValueError()) == "ValueError"
    assert len(told(ValueError("x" * 999))) == DETAIL_CHARACTERS
