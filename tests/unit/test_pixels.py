"""Pictures as their pixels: known pictures, and the card."""

import numpy as np
import pytest

from artray.errors import ConfigError
from artray.models import cards, registry, verify
from artray.models.cards import Card
from artray.retrieve.metrics import similarities
from artray.retrieve.pixels import Pixels, Settings


def quarters(side: int) -> np.ndarray:
    """Red and green above blue and white."""
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    return np.kron(colours, np.ones((side, side, 1), np.uint8))


def test_values_are_row_after_row() -> None:
    method = Pixels(Settings(size_px=2))
    assert method.dim == 12
    found = method([quarters(1), quarters(10)])
    assert found.dtype == np.float32
    assert found[0].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1]
    assert found[1].tolist() == found[0].tolist(), "areas are averaged"
    assert Pixels(Settings(size_px=1))([quarters(4)])[0].tolist() == pytest.approx([0.5] * 3, abs=1 / 255)


def test_grey_is_as_bright_as_the_eye_has_it() -> None:
    method = Pixels(Settings(size_px=2, channels="grey"))
    assert method.dim == 4
    # ITU-R BT.601
    assert method([quarters(3)])[0].tolist() == pytest.approx([0.299, 0.587, 0.114, 1.0], abs=1e-3)


def test_pictures_of_any_shape_are_squashed() -> None:
    method = Pixels(Settings(size_px=4))
    wide = np.repeat(quarters(8), 5, axis=1)
    np.testing.assert_array_equal(method([wide]), method([quarters(8)]))
    assert method([np.zeros((1, 300, 3), np.uint8)]).tolist() == [[0] * 48]
    assert method([]).shape == (0, 48)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"image: expected uint8\[H, W, 3\], got"):
        Pixels(Settings())([image])


def test_the_shipped_card_finds_the_same_picture_in_another_size() -> None:
    card = cards.load("pixels")
    assert verify.verify(card).detail == "embedding of 768, compared by euclidean"
    method = registry.build(card)
    shown = verify.picture()
    small, mirrored = shown[::2, ::2], shown[:, ::-1]
    embeddings = method([shown, small, mirrored])
    alike = similarities(card.metric, embeddings, embeddings[0])
    assert alike[0] == 1
    assert alike[1] > alike[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_dim": 700}, "embedding_dim: 768, got 0 weights, euclidean and 700"),
        ({"metric": "cosine"}, "metric: euclidean and .* got 0 weights, cosine and 768"),
        ({"weights": {"model": {"uri": "x.pt", "sha256": "0" * 64}}}, "expected no weights, .* got 1 weights"),
        ({"settings": {"size": 3}}, "card pixels: settings: size: .*known keys: size_px, channels"),
        ({"settings": {"size_px": 0}}, "card pixels: settings: size_px"),
    ],
)
def test_a_wrong_card(changes: dict[str, object], message: str) -> None:
    values = cards.load("pixels").model_dump() | changes
    with pytest.raises(ConfigError, match=message):
        registry.build(Card(**values))
