"""Variational autoencoders: sizes of the report, losses against closed forms, embeddings, pictures of latents."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as reference
from torch.nn import functional

from artray.classify.inputs import to_input
from artray.errors import ConfigError
from artray.models import cards, registry, verify
from artray.models.cards import Card
from artray.retrieve import embedder, vae, vae_shown
from artray.retrieve.vae import Encoded, Vae, VaeEmbedder, VaeSettings, picture_input
from artray.retrieve.vae_shown import Autoencoder
from artray.store import sheet
from artray.train.methods import run

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = VaeSettings(filters=(4, 8))
DIM = 8 * 8 * 8


def network(seed: int = 0, cfg: VaeSettings = SMALL, size_px: int = 32) -> Vae:
    """With random weights, and batch norms that have seen something."""
    torch.manual_seed(seed)
    made = Vae(cfg, size_px)
    for _ in range(3):
        made(torch.rand(4, 3, size_px, size_px), torch.randn(4, *made.latent_shape))
    return made.eval()


def written(folder: Path, **changes: Any) -> Card:
    """A card with its weights."""
    data = save(network().state_dict())
    (folder / "small.safetensors").write_bytes(data)
    card = {
        "name": "small",
        "task": "retrieve",
        "architecture": "vae",
        "input": picture_input(32).model_dump(mode="json"),
        "yields": ["embedding"],
        "settings": SMALL.model_dump(mode="json"),
        "weights": {"model": {"uri": "small.safetensors", "sha256": hashlib.sha256(data).hexdigest()}},
        "embedding_dim": DIM,
        "metric": "euclidean",
        "licence": "none",
        "source": "random weights",
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(card | changes))
    return cards.load(folder / "small.yaml")


def images() -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((40, 30), (32, 32), (20, 90), (64, 64))]


@pytest.mark.parametrize(
    ("recipe", "size_px", "dim", "shape"),
    [
        ("vae-i", 64, 1_024, (256, 2, 2)),
        ("vae-ii", 280, 72_900, (1, 270, 270)),
        ("vae-iii", 280, 72_900, (1, 270, 270)),
    ],
)
def test_recipes_have_the_sizes_of_table_1(recipe: str, size_px: int, dim: int, shape: tuple[int, ...]) -> None:
    method = run.load(recipe).method
    with torch.device("meta"):  # shapes alone
        made = Vae(method, method.size_px)
        passed = made(torch.zeros(2, 3, size_px, size_px), torch.zeros(2, *shape))
    assert (method.size_px, made.dim, made.latent_shape) == (size_px, dim, shape)
    assert passed.encoded.mean.shape == passed.encoded.log_variance.shape == (2, *shape)
    assert passed.logits.shape == (2, 3, size_px, size_px)
    assert (len(made.encoder.components), len(made.decoder.components)) == (5, 5)


def test_recipes_have_the_losses_of_table_1() -> None:
    loaded = {name: run.load(name) for name in ("vae-i", "vae-ii", "vae-iii")}
    losses = {name: (each.method.reconstruction, each.method.reconstruction_weight) for name, each in loaded.items()}
    assert losses == {"vae-i": ("mse", 10), "vae-ii": ("bce", 10_000), "vae-iii": ("bce", 1)}
    assert [bool(each.augment) for each in loaded.values()] == [True, True, False]
    assert {(each.method.kernel, each.method.resize) for each in loaded.values()} == {(3, "centre_crop")}


@pytest.mark.parametrize(
    ("settings", "size_px", "dim"),
    [
        ({"padding": 0, "stride": 1}, 64, 256 * 54**2),  # Table 1 as printed, (i)
        ({"filters": (16, 32, 64, 128, 16), "padding": 1, "stride": 2}, 280, 16 * 9**2),  # and (ii)
        ({}, 65, 256 * 3**2),  # 65, 33, 17, 9, 5, 3: the stride skips nothing
        ({}, 66, 256 * 3**2),  # 66, 33, ...: it skips one pixel, once
        ({"kernel": 5, "padding": 2, "stride": 3, "filters": (4, 8)}, 50, 8 * 6**2),
        ({"filters": (4,), "latent_maps": 3}, 32, 3 * 16**2),
    ],
)
def test_what_comes_out_is_as_large_as_what_went_in(settings: dict[str, Any], size_px: int, dim: int) -> None:
    with torch.device("meta"):
        made = Vae(VaeSettings(**settings), size_px)
        passed = made(torch.zeros(2, 3, size_px, size_px), torch.zeros(2, *made.latent_shape))
    assert passed.logits.shape == (2, 3, size_px, size_px)
    assert made.dim == dim == math.prod(passed.encoded.mean.shape[1:])


def test_components_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size_px: expected more than 32, of which component 4 leaves nothing"):
        Vae(VaeSettings(kernel=9, padding=0, stride=1), 32)  # 24, 16, 8, 0


def test_the_divergence_is_that_of_torchs_distributions() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 3, 2, 2).double(), torch.randn(5, 3, 2, 2).double()
    expected = reference(Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros_like(mean), 1.0)).sum(dim=(1, 2, 3))
    found = vae.kl_divergence(Encoded(mean, log_variance))
    torch.testing.assert_close(found, expected)
    assert (found > 0).all()


def test_the_divergence_by_hand() -> None:
    # of N(3, 4): (9 + 4 - 1 - ln 4) / 2; of N(0, 1): 0
    encoded = Encoded(torch.tensor([[3.0], [0.0]]), torch.tensor([[math.log(4)], [0.0]]))
    torch.testing.assert_close(vae.kl_divergence(encoded), torch.tensor([(12 - math.log(4)) / 2, 0.0]))


def test_reconstructions_losses_are_torchs() -> None:
    torch.manual_seed(0)
    logits, pictures = 3 * torch.randn(4, 3, 5, 5), torch.rand(4, 3, 5, 5)
    made = torch.sigmoid(logits)
    squared, entropy = (vae.RECONSTRUCTIONS[name](logits, pictures) for name in ("mse", "bce"))
    assert squared.shape == entropy.shape == (4,)
    torch.testing.assert_close(squared.mean(), functional.mse_loss(made, pictures))
    torch.testing.assert_close(entropy.mean(), functional.binary_cross_entropy(made, pictures))
    # a picture alone; of black, half grey costs 1/4 and ln 2
    black, grey = torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    assert vae.squared_error(grey, black).tolist() == [0.25]
    assert vae.cross_entropy(grey, black).tolist() == pytest.approx([math.log(2)])


def test_a_lot_is_mean_plus_deviation_times_noise_and_gradients_reach_both() -> None:
    mean, log_variance = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[math.log(9)]], requires_grad=True)
    drawn = vae.sampled(Encoded(mean, log_variance), torch.tensor([[2.0]]))
    torch.testing.assert_close(drawn, torch.tensor([[7.0]]))
    drawn.sum().backward()
    torch.testing.assert_close((mean.grad, log_variance.grad), (torch.tensor([[1.0]]), torch.tensor([[3.0]])))


def test_an_embedding_is_the_latents_mean_whatever_pictures_are_beside_it(tmp_path: Path) -> None:
    card = written(tmp_path)
    made = embedder.build(card)
    assert isinstance(made, VaeEmbedder)
    found = made(images())
    assert found.dtype == np.float32
    assert found.shape == (4, DIM) == (4, made.dim)
    for number, image in enumerate(images()):
        assert np.array_equal(made([image])[0], found[number])
    assert np.array_equal(made(images()[::-1]), found[::-1])
    plain, spec = network(), picture_input(32)
    pictures = torch.from_numpy(np.stack([to_input(image, spec) for image in images()])).permute(0, 3, 1, 2)
    assert 0 <= pictures.min() < pictures.max() <= 1
    with torch.no_grad():
        expected = plain.encoder(pictures).mean.flatten(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_no_pictures_and_what_is_none(tmp_path: Path) -> None:
    made = embedder.build(written(tmp_path))
    assert made([]).shape == (0, DIM)
    with pytest.raises(ValueError, match="expected uint8"):
        made([np.zeros((4, 4), np.uint8)])


def test_a_latent_that_is_not_finite_is_none() -> None:
    broken = network()
    with torch.no_grad():
        broken.encoder.mean.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="expected a latent that is finite"):
        VaeEmbedder(broken, picture_input(32))(images()[:1])


def test_its_card_is_verified(tmp_path: Path) -> None:
    assert "vae" in registry.architectures("retrieve")
    told = verify.verify(written(tmp_path))
    assert (told.ok, told.detail) == (True, f"embedding of {DIM}, compared by euclidean")


WRONG = {
    "filters": ({"settings": {"filters": [4, 16]}, "embedding_dim": 1024}, "weights: expected those of its settings"),
    "unknown": ({"settings": {"filter": [4, 8]}}, "settings: filter: Extra inputs"),
    "dim": ({"embedding_dim": 7}, f"embedding_dim: expected {DIM}, got 7"),
    "input": ({"input": None}, "expected an input, and weights of the role model"),
    "weights": ({"weights": {}}, "expected an input, and weights of the role model"),
    "scale": (
        {"input": {"size_px": 32, "mean": [127, 127, 127], "std": [128, 128, 128]}},
        "input: expected mean 0 and std 255",
    ),
    "nothing": (
        {"settings": {"filters": [4, 8], "kernel": 40, "padding": 0}},
        "input: size_px: expected more than 32, of which component 1 leaves nothing",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_cards_that_are_wrong(case: str, tmp_path: Path) -> None:
    changes, message = WRONG[case]
    with pytest.raises(ConfigError, match=f"card small: {message}"):
        registry.build(written(tmp_path, **changes))


def test_reconstructions_stand_below_their_pictures(tmp_path: Path) -> None:
    model = Autoencoder.of(written(tmp_path))
    cells = vae_shown.reconstructions({"one": model, "two": model}, images())
    assert [cell.caption[0] for cell in cells[:: sheet.COLUMNS]] == ["input", "one", "two"]
    assert [cell.pixels is None for cell in cells] == [False, False, False, False, True] * 3
    for cell in cells:
        assert cell.pixels is None or cell.pixels.shape == (sheet.CELL_PX, sheet.CELL_PX, 3)
    assert sheet.draw(cells).width > 5 * sheet.CELL_PX
    assert vae_shown.reconstructions({}, images()[:1])[0].pixels is not None


def test_a_walk_begins_with_the_reconstruction(tmp_path: Path) -> None:
    model, image = Autoencoder.of(written(tmp_path)), images()[1]
    latent = model.encode(image)
    along = vae_shown.walk(model, image, (0, 2.5))
    assert [cell.caption for cell in along] == [("all dimensions", "+0"), ("all dimensions", "+2.5")]
    whole = vae_shown.reconstructions({"it": model}, [image])[sheet.COLUMNS]
    assert along[0].pixels is not None
    assert whole.pixels is not None
    assert np.array_equal(along[0].pixels, whole.pixels)
    one = vae_shown.walk(model, image, (4.0,), axis=3)[0]
    latent.view(-1)[3] += 4
    assert one.pixels is not None
    assert one.caption == ("dimension 3", "+4")
    assert abs(model.decode(latent).mean() - one.pixels.mean()) < 1
    assert not np.array_equal(one.pixels, whole.pixels)
    with pytest.raises(ConfigError, match=rf"axis: expected a dimension in \[0, {DIM}\), got {DIM}"):
        vae_shown.walk(model, image, axis=DIM)


def test_the_widest_axis_is_the_one_that_differs_most(tmp_path: Path) -> None:
    model = Autoencoder.of(written(tmp_path))
    means = VaeEmbedder(network(), picture_input(32))(images())
    assert vae_shown.widest_axis(model, images()) == means.var(axis=0).argmax()
    with pytest.raises(ValueError, match="expected at least one, got none"):
        vae_shown.widest_axis(model, [])


def test_other_architectures_have_no_reconstructions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="architecture: expected vae, got efficientnet_lite2"):
        Autoencoder.of(cards.load("efficientnet-lite2-art"))
