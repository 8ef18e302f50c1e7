"""Bags of visual words as a retrieval method: histograms, cards, the sheet of words."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from artray.config import RetrieveConfig
from artray.errors import ConfigError
from artray.models import cards, registry, verify
from artray.retrieve import descriptors, embedder, metrics, vocabulary, words_shown
from artray.retrieve.regions import RegionSettings
from artray.retrieve.stage import Embed
from artray.retrieve.visual_words import Settings, VisualWords, histogram
from tests.unit.test_regions import picture

SMALL = {"longer_side_px": 200, "regions_max": 200}
NAMES = ("wp_morisot_reading.jpg", "wp_morisot_daffodils.jpg", "fc_mon_louis.png", "fc_ui_landing.png")


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    images = [picture(name) for name in NAMES]
    for image in images:
        image.flags.writeable = False  # as batches from Ray are
    return images


@pytest.fixture(scope="module")
def words(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    settings = vocabulary.VocabularySettings(words=30, rounds=5, regions=RegionSettings(**SMALL))
    return vocabulary.learn(pictures, settings)


def written(folder: Path, arrays: dict[str, NDArray[np.float32]], **changes: Any) -> Path:
    """A card with these weights."""
    save_file(arrays, folder / "words.safetensors")
    digest = hashlib.sha256((folder / "words.safetensors").read_bytes()).hexdigest()
    values = {
        "name": "some-words",
        "task": "retrieve",
        "architecture": "visual_words",
        "yields": ["embedding"],
        "embedding_dim": 30,
        "metric": "chi_square",
        "settings": SMALL,
        "weights": {"vocabulary": {"uri": "words.safetensors", "sha256": digest}},
        "licence": "CC0-1.0",
        "source": "a test",
    }
    import yaml

    (folder / "some-words.yaml").write_text(yaml.safe_dump(values | changes))
    return folder / "some-words.yaml"


def test_histograms_sum_to_one_whatever_is_beside(pictures: list[Any], words: NDArray[np.float32]) -> None:
    embed = VisualWords(words, Settings(**SMALL))
    together = embed(pictures)
    assert (together.shape, together.dtype) == ((4, 30), np.float32)
    assert np.allclose(together.sum(axis=1), 1, atol=1e-6)
    assert (together >= 0).all()
    order = [2, 0, 3, 1]
    assert embed([pictures[n] for n in order]).tobytes() == together[order].tobytes()
    assert all(embed([image])[0].tobytes() == row.tobytes() for image, row in zip(pictures, together, strict=True))
    assert embed([]).shape == (0, 30)


def test_a_word_counts_as_often_as_regions_are_nearest_to_it(pictures: list[Any], words: NDArray[np.float32]) -> None:
    found = descriptors.describe(pictures[0], RegionSettings(**SMALL)).descriptors
    expected = np.zeros(30)
    for row in found:
        expected[np.square(words - row).sum(axis=1).argmin()] += 1 / len(found)
    assert np.allclose(VisualWords(words, Settings(**SMALL))(pictures[:1])[0], expected, atol=1e-6)


def test_telling_words_weigh_more(pictures: list[Any], words: NDArray[np.float32]) -> None:
    idf = np.linspace(0, 2, 30, dtype=np.float32)
    counts = VisualWords(words, Settings(**SMALL), idf)(pictures[:1])[0]
    assert np.array_equal(counts, VisualWords(words, Settings(**SMALL))(pictures[:1])[0])
    weighted = VisualWords(words, Settings(**SMALL, weighting="tfidf"), idf)(pictures[:1])[0]
    assert np.allclose(weighted, counts * idf / (counts * idf).sum(), atol=1e-6)
    with pytest.raises(ValueError, match="expected regions with something to see in them"):
        histogram(np.array([0, 0]), 3, np.zeros(3, np.float32))


def test_a_changed_copy_is_more_like_its_original_than_other_pictures(words: NDArray[np.float32]) -> None:
    images = [picture(name) for name in NAMES]
    copy = np.clip(images[2][5:-5, 3:].astype(int) * 9 // 10 + 10, 0, 255).astype(np.uint8)
    embed = VisualWords(words, Settings(**SMALL))
    similar = metrics.similarities("chi_square", embed(images), embed([copy])[0])
    assert similar.argmax() == 2
    assert similar[2] > 0.8


def test_a_picture_of_one_colour_fails_and_the_others_do_not(
    pictures: list[Any], words: NDArray[np.float32], tmp_path: Path
) -> None:
    path = written(tmp_path, {"words": words})
    stage = Embed(RetrieveConfig(card=str(path), batch_size=4))
    plain = np.full((60, 80, 3), 90, np.uint8)
    rows = stage({"pixels": [pictures[0], plain, pictures[1]], "error": [""] * 3, "error_detail": [""] * 3})
    assert rows["error"] == ["", "model_failed", ""]
    assert "expected regions" in rows["error_detail"][1]
    assert rows["embedding"][1] is None
    expected = VisualWords(words, Settings(**SMALL))(pictures[:2])
    assert np.array_equal(np.stack([rows["embedding"][0], rows["embedding"][2]]), expected)


def test_a_card_is_built_and_verified(words: NDArray[np.float32], tmp_path: Path) -> None:
    card = cards.load(written(tmp_path, {"words": words}))
    method = embedder.build(card)
    assert method.dim == 30
    outcome = verify.verify(card)
    assert (outcome.ok, outcome.detail) == (True, "embedding of 30, compared by chi_square")
    assert "visual_words" in registry.architectures("retrieve")


def bad(words: NDArray[np.float32]) -> dict[str, tuple[dict[str, Any], dict[str, Any], str]]:
    """Arrays, changes of the card, and what is said."""
    idf, wrong = np.ones(30, np.float32), np.full(30, -1, np.float32)
    tfidf = {"settings": SMALL | {"weighting": "tfidf"}}
    return {
        "no words": ({"word": words}, {}, r"words: expected 30 finite rows of 128, .*got \[0\]"),
        "another number": ({"words": words[:9]}, {}, r"words: expected 30 finite rows of 128, .*got \[9, 128\]"),
        "no numbers": ({"words": words * np.nan}, {}, "words: expected 30 finite rows"),
        "no idf": ({"words": words}, tfidf, "idf: expected 30 numbers .* got none; learn it again"),
        "short idf": ({"words": words, "idf": idf[:3]}, tfidf, "idf: expected 30 numbers .* got 3"),
        "negative idf": ({"words": words, "idf": wrong}, tfidf, "idf: expected 30 numbers of at least 0"),
        "unknown setting": ({"words": words}, {"settings": {"regoins_max": 3}}, "settings: regoins_max"),
        "no role": ({"words": words}, {"weights": {}}, "weights: expected the role vocabulary, got none"),
    }


@pytest.mark.parametrize("case", bad(np.zeros((0, 128), np.float32)))
def test_a_card_that_does_not_fit_is_refused(case: str, words: NDArray[np.float32], tmp_path: Path) -> None:
    arrays, changes, told = bad(words)[case]
    with pytest.raises(ConfigError, match=told):
        embedder.build(cards.load(written(tmp_path, arrays, **changes)))


def test_the_sheet_shows_the_regions_of_chosen_words(pictures: list[Any], words: NDArray[np.float32]) -> None:
    settings = RegionSettings(**SMALL)
    sheet = words_shown.sheet(pictures, words, [3, 7], settings, columns=2, rows=2, patch_px=16)
    assert sheet.mode == "RGB"
    # a panel is two patches and three gaps; two of them, and a gap
    assert sheet.size == (2 * (2 * 16 + 3 * 4) + 4, 2 * 16 + 3 * 4)
    assert np.array_equal(
        sheet, words_shown.sheet(iter(pictures), words, [3, 7], settings, columns=2, rows=2, patch_px=16)
    )
    with pytest.raises(ConfigError, match="words: expected some of 0 to 29, got 30"):
        words_shown.sheet(pictures, words, [30], settings)
    with pytest.raises(ConfigError, match="words: expected some of 0 to 29, got none"):
        words_shown.sheet(pictures, words, [], settings)


def test_examples_are_one_of_each_picture_at_most(pictures: list[Any], words: NDArray[np.float32]) -> None:
    settings = RegionSettings(**SMALL)
    each = [vocabulary.nearest(descriptors.describe(image, settings).descriptors, words) for image in pictures]
    having = {word: sum(word in ids for ids in each) for word in range(30)}
    shown = words_shown.examples(pictures, words, range(30), settings, 2, 8)
    assert {word: len(patches) for word, patches in shown.items()} == {w: min(2, n) for w, n in having.items()}
    assert words_shown.examples([], words, [1], settings, 2, 8) == {1: []}


def test_a_patch_shows_what_the_ellipse_surrounds() -> None:
    """A white disc on black, 20 px in radius, under a frame twice as wide as high and as large as the disc is high."""
    y, x = np.mgrid[:100, :120]
    disc = np.where((x - 60) ** 2 + (y - 50) ** 2 <= 400, 255, 0).astype(np.uint8)
    drawn = words_shown.patch_of(np.dstack([disc] * 3), np.array([60.0, 50.0]), np.diag([40.0, 20.0]), 40)[..., 0]
    assert drawn.shape == (40, 40)
    across, down = (drawn[20] > 127).sum(), (drawn[:, 20] > 127).sum()
    assert (across, down) == (pytest.approx(20, abs=2), pytest.approx(40, abs=2))
