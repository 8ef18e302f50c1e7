"""Repeat factor sampling: factors by hand, and draws as often as they say."""

import numpy as np
import pytest
import torch

from artray.detect import repeats

IMAGES = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 7])
CLASSES = np.array([0, 0, 0, 0, 0, 1, 0, 0, 2, 2])


def test_factors_are_the_papers() -> None:
    """Of ten images six show class 0, one class 1, two class 2; two show nothing."""
    found = repeats.factors(10, IMAGES, CLASSES, threshold=0.4)
    rare, second = np.sqrt(0.4 / 0.1), np.sqrt(0.4 / 0.2)
    assert found.tolist() == pytest.approx([1, 1, 1, rare, 1, 1, second, second, 1, 1])
    assert repeats.factors(10, IMAGES, CLASSES, threshold=0.05).tolist() == [1.0] * 10
    assert repeats.factors(3, np.zeros(0, np.int64), np.zeros(0, np.int64), 0.5).tolist() == [1.0] * 3


def upstream(factors: np.ndarray, generator: torch.Generator) -> list[int]:
    """An epoch as its definition has it: whole parts, and rests by lot."""
    whole = torch.trunc(torch.from_numpy(factors))
    times = whole + (torch.rand(len(factors), generator=generator) < torch.from_numpy(factors) - whole).double()
    return [image for image, count in enumerate(times.tolist()) for _ in range(int(count))]


def test_draws_are_as_often_as_upstreams_and_as_the_factors() -> None:
    factors = repeats.factors(10, IMAGES, CLASSES, threshold=0.4)
    random, generator, epochs = np.random.default_rng(0), torch.Generator().manual_seed(0), 4_000
    ours, theirs = np.zeros(10), np.zeros(10)
    for _ in range(epochs):
        drawn = repeats.epoch(factors, random)
        assert set(drawn.tolist()) == set(range(10))  # every image at least once
        ours += np.bincount(drawn, minlength=10)
        theirs += np.bincount(upstream(factors, generator), minlength=10)
    noise = 4 * np.sqrt(epochs * 0.25)
    assert (np.abs(ours - epochs * factors) <= noise).all()
    assert (np.abs(ours - theirs) <= 2 * noise).all()


def test_order_is_random_and_the_seed_decides() -> None:
    factors = np.array([1.0, 2.5, 1.0, 3.0])
    one, two = (repeats.epoch(factors, np.random.default_rng(3)) for _ in range(2))
    assert one.tolist() == two.tolist()
    assert one.tolist() != sorted(one.tolist())


def test_shares_rise_towards_the_threshold() -> None:
    factors = repeats.factors(10, IMAGES, CLASSES, threshold=0.4)
    before = repeats.shares(10, IMAGES.tolist(), CLASSES.tolist(), 3, np.ones(10))
    after = repeats.shares(10, IMAGES.tolist(), CLASSES.tolist(), 3, factors)
    assert before.tolist() == pytest.approx([0.6, 0.1, 0.2])
    assert 0.1 < after[1] < 0.4
    assert 0.2 < after[2] < 0.4


@pytest.mark.parametrize(
    ("images", "image_ids", "threshold", "message"),
    [
        (2, [0, 2], 0.1, r"image_ids: expected numbers in \[0, 2\), got 0 to 2"),
        (2, [0, 1], -0.1, "a threshold >= 0"),
        (2, [0], 0.1, "columns of one length"),
    ],
)
def test_what_cannot_be(images: int, image_ids: list[int], threshold: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        repeats.factors(images, np.array(image_ids), np.array([0, 0]), threshold)
