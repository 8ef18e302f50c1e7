"""Photographs as artworks: how often, in which way, and nothing moves."""

import numpy as np
import pytest

from artray.detect import artify

Y, X = np.mgrid[:48, :64]
PICTURE = np.stack([X * 4, Y * 5, (X * Y) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("name", artify.STYLES)
def test_every_style_gives_a_picture_of_the_same_size(name: str) -> None:
    before = PICTURE.copy()
    made = artify.STYLES[name](PICTURE)
    assert (made.shape, made.dtype) == (PICTURE.shape, np.uint8)
    assert np.array_equal(PICTURE, before)
    assert not np.array_equal(made, PICTURE)


def test_shares_are_those_of_table_3(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    styles = {name: lambda image, name=name: (drawn.append(name), image)[1] for name in artify.STYLES}
    monkeypatch.setattr(artify, "STYLES", styles)
    monkeypatch.setattr(artify, "grey", lambda image: (drawn.append("grey"), image)[1])
    random, draws = np.random.default_rng(0), 10_000
    for _ in range(draws):
        artify.augmented(PICTURE, random)
    counts = {name: drawn.count(name) for name in (*styles, "grey")}
    expected = {name: draws * 0.2 * share for name, share in artify.SHARES.items()} | {"grey": draws * 0.8}
    for name, count in counts.items():
        chance = expected[name] / draws
        assert abs(count - expected[name]) < 4 * np.sqrt(draws * chance * (1 - chance)), name
    assert sum(artify.SHARES.values()) == pytest.approx(1.0)


def test_grey_has_one_value_per_pixel() -> None:
    made = artify.grey(PICTURE)
    assert (made[..., :1] == made).all()
    assert artify.grey(np.full((1, 1, 3), (255, 0, 0), np.uint8)).tolist() == [[[76, 76, 76]]]  # 0.299 of 255


def test_the_seed_decides_and_chances_can_be_set() -> None:
    one, two = (artify.augmented(PICTURE, np.random.default_rng(7), artify=1.0) for _ in range(2))
    assert np.array_equal(one, two)
    assert artify.augmented(PICTURE, np.random.default_rng(0), artify=0.0, greyscale=0.0) is PICTURE
