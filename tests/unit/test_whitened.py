"""Whitened embeddings: values by hand, the card and what it wraps, a sample that is read some pictures at a time."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

from artray.errors import ConfigError
from artray.models import cards, registry, verify
from artray.retrieve import embedder, whitened, whitening
from artray.retrieve.pixels import Pixels, Settings
from artray.train.methods.pictures import Lot
from tests import made_store

Arrays = dict[str, NDArray[np.float32]]


def small(folder: Path, size_px: int = 2, **changes: Any) -> str:
    """A card that compares 2 x 2 pixels: embeddings of 12 values."""
    values = {
        **{"name": "small", "task": "retrieve", "architecture": "pixels", "yields": ["embedding"]},
        **{"settings": {"size_px": size_px}, "embedding_dim": 3 * size_px**2, "metric": "euclidean"},
        **{"licence": "none", "source": "tests"},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return str(path)


def card(folder: Path, wrapped: str, arrays: Arrays, mark: str | None = None, **changes: Any) -> cards.Card:
    """A card that whitens ``wrapped`` by these arrays."""
    save_file(arrays, folder / "white.safetensors")
    digest = hashlib.sha256((folder / "white.safetensors").read_bytes()).hexdigest()
    values = {
        **{"name": "white", "task": "retrieve", "architecture": "whitened", "yields": ["embedding"]},
        **{"settings": {"card": wrapped, "fingerprint": mark or cards.load(wrapped).fingerprint()}},
        **{"weights": {"whitening": {"uri": "white.safetensors", "sha256": digest}}},
        **{"embedding_dim": 2, "licence": "none", "source": "tests"},
    }
    path = folder / "white.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return cards.load(path)


def two_axes(width: int = 12) -> Arrays:
    """The mean is 0.25 throughout; one axis is the first value, the other the second, times 2."""
    components = np.zeros((2, width), np.float32)
    components[0, 0], components[1, 1] = 1, 2
    return {"mean": np.full(width, 0.25, np.float32), "components": components}


def plain(red: int, green: int) -> NDArray[np.uint8]:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0], image[..., 1] = red, green
    image.flags.writeable = False  # as batches from Ray are
    return image


def pictures(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 6, 5, 3), np.uint8))


def test_values_by_hand(tmp_path: Path) -> None:
    made = card(tmp_path, small(tmp_path), two_axes())
    method = embedder.build(made)
    # red 1 - 0.25 = 0.75; green (51/255 - 0.25) x 2 = -0.1; of unit norm
    expected = np.array([0.75, -0.1]) / np.hypot(0.75, 0.1)
    found = method([plain(255, 51)])
    assert (found.shape, found.dtype, method.dim) == ((1, 2), np.float32, 2)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(registry.build(made)([plain(255, 51)])[0], [0.75, -0.1], atol=1e-6)
    assert method([]).shape == (0, 2)
    assert not isinstance(method, embedder.TextEmbedder)
    assert verify.verify(made).detail == "embedding of 2, compared by cosine"


def test_a_picture_that_is_the_mean_has_no_direction(tmp_path: Path) -> None:
    arrays = two_axes() | {"mean": np.zeros(12, np.float32)}
    method = embedder.build(card(tmp_path, small(tmp_path), arrays))
    with pytest.raises(ValueError, match="embedding: expected finite values that are not all zero"):
        method([plain(200, 100), plain(0, 0)])
    assert method([plain(200, 100)]).any()


def test_an_embedding_does_not_depend_on_the_others() -> None:
    random = np.random.default_rng(1)
    learned = whitening.Whitening(random.random(768, np.float32), random.normal(size=(300, 768)).astype(np.float32))
    method, shown = whitened.Whitened(Pixels(Settings()), learned), pictures(9)
    together = method(shown)
    assert all(method([image])[0].tobytes() == row.tobytes() for image, row in zip(shown, together, strict=True))


def test_a_sample_learns_what_scikit_learn_does(tmp_path: Path) -> None:
    """Whitened pictures of the sample have no correlation and unit variance: of components scaled to them."""
    method, shown = embedder.build(cards.load(small(tmp_path))), pictures(60)
    found = whitened.learned(whitened.sampled(shown, method, 1_000), 4, 0.0)
    made = card(tmp_path, str(tmp_path / "small.yaml"), whitened.arrays(found), embedding_dim=4)
    ours = registry.build(made)(shown)
    reference = PCA(4, whiten=True, svd_solver="full").fit_transform(method(shown).astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(reference), atol=1e-4)
    np.testing.assert_allclose(np.cov(ours.T), np.eye(4), atol=1e-4)


def test_a_shipped_card_and_a_whitened_one_can_be_wrapped(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    inner = card(tmp_path / "inner", "pixels", two_axes(768), embedding_dim=2)
    embedder.build(inner)
    again = card(tmp_path, str(tmp_path / "inner/white.yaml"), two_axes(2), embedding_dim=2)
    first = embedder.build(inner)([plain(255, 51)])[0]
    second = (first - 0.25) * [1, 2]
    np.testing.assert_allclose(embedder.build(again)([plain(255, 51)])[0], second / np.linalg.norm(second), atol=1e-6)


def bad() -> dict[str, tuple[Arrays, dict[str, Any], str]]:
    """Arrays, changes of the card, and what is said."""
    good, nan = two_axes(), np.full((2, 12), np.nan, np.float32)
    weights = "weights: expected finite mean .12. and components .2, 12., as the embedding_dim of small"
    return {
        "no mean": ({"components": good["components"]}, {}, rf"card white: {weights}.*, got \[0\] and \[2, 12\]"),
        "another width": (two_axes(11), {}, rf"{weights} and of this card are, got \[11\] and \[2, 11\]"),
        "more axes": (good, {"embedding_dim": 3}, r"components \[3, 12\].* got \[12\] and \[2, 12\]"),
        "no numbers": (good | {"components": nan}, {}, weights),
        "metric": (good, {"metric": "euclidean"}, "metric: cosine, got whitening and euclidean"),
        "role": (good, {"weights": {}}, "expected weights of the role whitening .*, got none and cosine"),
        "setting": (good, {"settings": {"card": "pixels", "dim": 3}}, "card white: settings: dim"),
        "no card": (good, {"settings": {}}, "card white: settings: card"),
        "unknown": (good, {"settings": {"card": "nothing"}}, "card white: settings: card nothing: expected one of"),
        "detector": (good, {"settings": {"card": "mtcnn"}}, "card white: settings: card mtcnn: expected one that"),
        "unmarked": (good, {"settings": {"card": "pixels"}}, "pixels: fingerprint: expected [0-9a-f]{12}, .* got None"),
    }


@pytest.mark.parametrize("case", bad())
def test_a_card_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    arrays, changes, message = bad()[case]
    with pytest.raises(ConfigError, match=message):
        embedder.build(card(tmp_path, small(tmp_path), arrays, **changes))


def test_a_changed_card_is_refused(tmp_path: Path) -> None:
    made = card(tmp_path, small(tmp_path), two_axes())
    embedder.build(made)
    small(tmp_path, settings={"size_px": 2, "channels": "grey"})
    with pytest.raises(
        ConfigError, match=r"small: fingerprint: expected .*; the axes of one model are none of another"
    ):
        embedder.build(made)


def test_a_card_whose_weights_are_elsewhere(tmp_path: Path) -> None:
    """What is wrapped may be a classifier; that its weights are not here is said as of any card."""
    path = made_store.card(tmp_path, "trunk", 0, weights={"trunk": {"uri": "file:///nowhere.pth", "sha256": "0" * 64}})
    made = card(tmp_path, str(path), two_axes(512))
    with pytest.raises(ConfigError, match=r"card white: card trunk: cannot read its weights: /nowhere\.pth"):
        embedder.build(made)


def test_pictures_are_read_some_at_a_time(tmp_path: Path) -> None:
    shown, asked, sizes = pictures(100), list[int](), list[int]()
    pixels = Pixels(Settings(size_px=1))

    class Counted:
        """A method that says how many pictures it was given at once."""

        dim = 3

        def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            sizes.append(len(images))
            assert len(asked) == sum(sizes), "none is read ahead"
            return pixels(images)

    def read(row: int) -> NDArray[np.uint8]:
        asked.append(row)
        return shown[row]

    lot = Lot(np.arange(100), 0, read)
    found = whitened.sampled(lot, Counted(), 70)
    assert sizes == [32, 32, 6]
    assert asked == lot.rows[:70].tolist()
    np.testing.assert_array_equal(found, pixels([shown[row] for row in asked]))
    assert len(whitened.sampled(shown[:3], pixels, 70)) == 3


def test_pictures_without_an_embedding_are_left_out() -> None:
    unit = embedder.UnitNorm(Pixels(Settings(size_px=1)))
    shown = [plain(255, 0), plain(0, 0), plain(0, 255)]
    np.testing.assert_allclose(whitened.sampled(shown, unit, 3), [[1, 0, 0], [0, 1, 0]], atol=1e-6)
    with pytest.raises(ConfigError, match="some that have an embedding, got none: model_failed: ValueError: embedding"):
        whitened.sampled(shown[1:2], unit, 3)
    with pytest.raises(ConfigError, match="got none: there are none"):
        whitened.sampled([], unit, 3)


def test_more_pictures_than_axes_are_needed() -> None:
    sample = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    assert whitened.learned(sample, None, 0.1).components.shape == (8, 8)
    assert whitened.learned(sample[:4], 3, 0.1).components.shape == (3, 8)
    with pytest.raises(ConfigError, match=r"at least 9 .* for 8 axes, got 8; .* set method\.dim to 7 or less"):
        whitened.learned(sample[:8], None, 0.1)
    with pytest.raises(ConfigError, match=r"at least 4 .* for 3 axes, got 3"):
        whitened.learned(sample[:3], 3, 0.1)
    with pytest.raises(ConfigError, match=r"method\.dim: expected at most 8, the embedding's length, got 9"):
        whitened.learned(sample, 9, 0.1)
    with pytest.raises(ConfigError, match="whitening: dim: expected 1 to 0, along which 9 embeddings vary"):
        whitened.learned(np.ones((9, 8), np.float32), None, 0.0)
    with pytest.raises(ConfigError, match="embeddings of at most 8,192 values, got 10,000"):
        whitened.check_axes(10_000, 5)
    sample[:, 3:] = 0  # varies along three axes
    assert whitened.learned(sample, None, 0.0).components.shape == (3, 8)
