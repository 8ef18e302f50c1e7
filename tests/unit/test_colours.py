"""Pictures as their colours: known colours, known pictures, queries by hex values, and the card."""

import numpy as np
import pytest

from artray.errors import ConfigError
from artray.models import cards, registry, verify
from artray.models.cards import Card
from artray.retrieve import colours
from artray.retrieve.colours import Colours, Palette, Settings
from artray.retrieve.metrics import similarities


@pytest.fixture(scope="module")
def method() -> Colours:
    found = registry.build(cards.load("colours"))
    assert isinstance(found, Colours)
    return found


def plain(colour: str, side: int = 8) -> np.ndarray:
    return np.tile(colours.parsed(colour), (side, side, 1))


def alike(method: Colours, one: str, *others: str) -> list[float]:
    embeddings = method([plain(other) for other in others])
    return [float(value) for value in similarities("chi_square", embeddings, method.of_hex([one]))]


def test_lab_of_known_colours() -> None:
    # Lindbloom's values of sRGB's corners under D65
    corners = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]], np.uint8)
    expected = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [53.59, 0, 0]]
    np.testing.assert_allclose(colours.lab(corners), expected, atol=0.3)


def test_every_colour_is_taken_for_the_nearest_that_is_told_apart() -> None:
    known = colours.told_apart()
    np.testing.assert_array_equal(colours.nearest_told_apart(known), np.arange(32_768))
    assert known[0].tolist() == [0, 0, 0]
    assert known[-1].tolist() == [255, 255, 255]
    others = np.random.default_rng(0).integers(0, 256, (2000, 3), dtype=np.uint8)
    taken = known[colours.nearest_told_apart(others)].astype(int)
    assert np.abs(taken - others).max() <= 5, "half a step of 255 / 31, and rounding"


def test_the_palette_is_even_and_has_the_greys(method: Colours) -> None:
    palette = method.palette
    assert palette.shares.shape == (32_768, method.dim)
    np.testing.assert_allclose(palette.shares.sum(axis=1), 1, atol=1e-5)
    greys = palette.lab[(palette.lab[:, 1:] == 0).all(axis=1), 0]
    assert greys.tolist() == [0, 12.5, 25, 37.5, 50, 62.5, 75, 87.5, 100]
    # a colour counts most for the palette's nearest, in steps
    place = colours.lab(np.array([[200, 120, 40]], np.uint8))[0]
    steps = np.array([12.5, 25, 25])
    nearest = np.square((palette.lab - place) / steps).sum(axis=1).argmin()
    assert method.of_hex(["#c87828"]).argmax() == nearest


def test_a_plain_picture_is_its_hex_value(method: Colours) -> None:
    for colour in ("#000000", "#ffffff", "#b5651d", "0af"):
        np.testing.assert_array_equal(method([plain(colour)])[0], method.of_hex([colour]))


def test_parts_of_a_picture_count_by_their_area_wherever_they_are(method: Colours) -> None:
    picture = np.concatenate([plain("#ff0000"), plain("#ff0000"), plain("#ff0000"), plain("#0000ff")])
    expected = method.of_hex(["#ff0000", "#0000ff"], [3, 1])
    shuffled = np.random.default_rng(0).permutation(picture.reshape(-1, 3)).reshape(16, 16, 3)
    for shown in (picture, picture[::-1], picture.transpose(1, 0, 2), shuffled, np.repeat(picture, 3, axis=0)):
        np.testing.assert_allclose(method([shown])[0], expected, atol=1e-7)
    np.testing.assert_allclose(method.of_hex(["#ff0000", "#0000ff"], [0.3, 0.1]), expected, atol=1e-7)


def test_near_colours_are_more_alike_than_far_ones(method: Colours) -> None:
    orange, green, blue = alike(method, "#ff2000", "#ff6000", "#00a000", "#0000ff")
    assert alike(method, "#ff2000", "#ff2000") == [1]
    assert 1 > orange > 0.1
    assert orange > green + 0.05
    assert orange > blue + 0.05
    greys = alike(method, "#808080", "#868686", "#909090", "#a0a0a0", "#ffffff")
    assert greys == sorted(greys, reverse=True)
    assert greys[0] > 0.9
    assert greys[-1] < 0.01


def test_a_picture_with_much_of_a_colour_is_before_one_with_little(method: Colours) -> None:
    much = np.concatenate([plain("#1f4e79")] * 3 + [plain("#d9c9a3")])
    little = np.concatenate([plain("#1f4e79")] + [plain("#d9c9a3")] * 3)
    scores = similarities("chi_square", method([little, plain("#7a5c3e"), much]), method.of_hex(["#1f4e79"]))
    assert np.argsort(-scores).tolist() == [2, 0, 1]


def test_histograms_sum_to_one_and_none_are_none(method: Colours) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    found = method([noise, plain("#123456", side=1)])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert method([]).shape == (0, method.dim)
    with pytest.raises(ValueError, match=r"image: expected uint8\[H, W, 3\], got uint8\[4, 4\]"):
        method([np.zeros((4, 4), np.uint8)])


def test_finer_steps_make_more_colours() -> None:
    coarse, fine = Palette(Settings(lightness_step=25, chroma_step=50)), Palette(Settings())
    assert coarse.dim < fine.dim / 4
    assert coarse.lab[colours.of_hex(coarse, ["#fff"]).argmax()].tolist() == [100, 0, 0]


@pytest.mark.parametrize("colour", ["", "red", "#12345", "#1234567", "#gggggg", "##123456"])
def test_what_is_no_colour_is_refused(method: Colours, colour: str) -> None:
    with pytest.raises(ConfigError, match="colour: expected #rrggbb, as in #b5651d, got "):
        method.of_hex([colour])


@pytest.mark.parametrize(("given", "weights"), [([], None), (["#fff"], [1, 2]), (["#fff"], [0]), (["#fff"], [-1.0])])
def test_weights_that_do_not_fit(method: Colours, given: list[str], weights: list[float] | None) -> None:
    with pytest.raises(ConfigError, match=f"weights: expected a positive number for each of {len(given)} colours"):
        method.of_hex(given, weights)


def test_the_shipped_card_and_a_wrong_one() -> None:
    card = cards.load("colours")
    assert verify.verify(card).detail == f"embedding of {card.embedding_dim}, compared by chi_square"
    for changes in ({"embedding_dim": 3}, {"metric": "cosine"}):
        with pytest.raises(
            ConfigError, match="card colours: expected no weights, metric: chi_square and embedding_dim"
        ):
            registry.build(Card(**card.model_dump() | changes))
    with pytest.raises(ConfigError, match="card colours: settings: softness"):
        registry.build(Card(**card.model_dump() | {"settings": {"softness": 0}}))
