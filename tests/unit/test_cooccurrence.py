"""Co-occurrences by written-out loops, and the cards that are made of them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards, registry, trunks, verify
from artray.models.cards import Card
from artray.retrieve import cooccurrence, embedder, metrics
from artray.retrieve.cooccurrence import Cooccurrences, bilinear, cooccurrences, initial, squared_frobenius
from artray.retrieve.settings import CooccurrenceConfig
from artray.train import exchange, fit, run
from artray.train.rundir import RunFolder
from tests import training

pytestmark = pytest.mark.usefixtures("one_thread")

D, H, W = 3, 4, 5
CHANNELS, BEFORE = 64, 48
"""Of the last stage of the tests' small network, and of the one before."""


def activations(images: int = 2) -> torch.Tensor:
    return torch.randn(images, D, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_bilinear_pooling_is_the_sum_of_outer_products() -> None:
    a, c = activations(), activations().flip(1)
    found = bilinear(a, c)
    assert found.shape == (2, D, D)
    for image in range(2):
        for row in range(D):
            for column in range(D):
                expected = 0.0
                for y in range(H):
                    for x in range(W):
                        expected += float(a[image, row, y, x] * c[image, column, y, x])
                assert float(found[image, row, column]) == pytest.approx(expected, abs=1e-12)


def test_the_squared_frobenius_distance_is_a_double_sum() -> None:
    q, i = bilinear(activations(), activations()), bilinear(activations(), activations().flip(2))
    found = squared_frobenius(q, i)
    for image in range(2):
        expected = sum(float(q[image, r, c] - i[image, r, c]) ** 2 for r in range(D) for c in range(D))
        assert float(found[image]) == pytest.approx(expected, abs=1e-9)
    assert squared_frobenius(q, q).tolist() == [0, 0]


def test_works_are_ranked_as_by_frobenius() -> None:
    matrices = torch.randn(9, D, D, generator=torch.Generator().manual_seed(1))
    distances = squared_frobenius(matrices[:1], matrices)
    similarities = metrics.similarities("euclidean", matrices.flatten(1).numpy(), matrices[0].flatten().numpy())
    assert np.argsort(-similarities).tolist() == torch.argsort(distances).tolist()
    assert similarities[0] == 1


@pytest.mark.parametrize("threshold", ["mean", "none"])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_the_identity_filter_adds_up_the_windows_activations(threshold: str, window: int) -> None:
    a, reach = activations(), window // 2
    found = cooccurrences(a, initial(D, window, "identity").double(), threshold)
    for image in range(2):
        least = -np.inf if threshold == "none" else float(a[image].mean())
        for channel in range(D):
            for y in range(H):
                for x in range(W):
                    expected = 0.0
                    for v in range(max(0, y - reach), min(H, y + reach + 1)):
                        for u in range(max(0, x - reach), min(W, x + reach + 1)):
                            if a[image, channel, v, u] > least:
                                expected += float(a[image, channel, v, u])
                    if a[image, channel, y, x] <= least:
                        expected = 0.0
                    assert float(found[image, channel, y, x]) == pytest.approx(expected, abs=1e-12)


def test_the_direct_filter_is_the_mean_of_the_other_channels_in_the_window() -> None:
    """As Forcen et al. define it: activations above the mean, of all channels but one's own, over both sizes."""
    a = activations(1)
    found = cooccurrences(a, initial(D, 3, "direct").double())
    active = torch.where(a > a.mean(), a, torch.zeros(()))[0]
    for channel in range(D):
        for y in range(H):
            for x in range(W):
                window = active[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                others = float(window.sum() - window[channel].sum()) / 9 / (D - 1)
                expected = others if active[channel, y, x] else 0.0
                assert float(found[0, channel, y, x]) == pytest.approx(expected, abs=1e-7)


def test_a_place_by_hand() -> None:
    """Activations 1 and 3, whose mean is 2: the second one alone is active, C = (0, 3) and B = A C^T."""
    a = torch.tensor([1.0, 3.0])[None, :, None, None]
    c = cooccurrences(a, initial(2, 1, "identity"))
    assert c.flatten().tolist() == [0, 3]
    assert bilinear(a, c)[0].tolist() == [[0, 3], [0, 9]]
    assert cooccurrences(a, initial(2, 1, "direct"), "none").flatten().tolist() == [3, 1]


def test_an_images_mean_is_its_own() -> None:
    a = torch.cat([activations(1), 100 + activations(1)])
    weight = initial(D, 3, "direct").double()
    assert cooccurrences(a, weight)[:1].allclose(cooccurrences(a[:1], weight))


@pytest.mark.parametrize(
    ("architecture", "channels"),
    [("resnet18", (512, 256)), ("efficientnet_lite0", (320, 112)), (training.ARCHITECTURE, (CHANNELS, BEFORE))],
)
@pytest.mark.parametrize("stage", ["last", "second_last"])
def test_a_stages_activations_are_what_its_last_module_gives(
    architecture: str, channels: tuple[int, int], stage: str
) -> None:
    trunk = trunks.make(architecture)
    made = Cooccurrences(architecture, trunk, CooccurrenceConfig(stage=stage)).eval()
    pictures = torch.randn(2, 3, 64, 64)
    kept = []
    with torch.inference_mode():
        found, c = made.pair(pictures)
        handle = trunk.get_submodule(made.end).register_forward_hook(lambda *given: kept.append(given[-1]))
        trunk(pictures)
        handle.remove()
        assert found.equal(kept[0])
        assert found.shape == c.shape == (2, channels[stage != "last"], *((2, 2) if stage == "last" else (4, 4)))
        assert made(pictures).allclose(bilinear(found, c).flatten(1) / found[0].numel())
        assert made.dim == made(pictures).shape[1]
    behind = trunks.beyond(trunk, made.end)
    assert (not behind) == (architecture == "resnet18" and stage == "last")
    assert not {name for name in behind if name.startswith(f"{made.end}.")}


def test_nothing_behind_a_stage_is_run() -> None:
    trunk = trunks.make("resnet18")
    trunk.layer4 = None  # type: ignore[assignment]
    assert trunks.until(trunk, "layer3", torch.zeros(1, 3, 64, 64)).shape == (1, 256, 4, 4)
    assert not trunk.layer3._forward_hooks
    with pytest.raises(ValueError, match="end: expected a module that the trunk runs, got 'extra'"):
        trunks.until(_Ignoring(), "extra", torch.zeros(1))


class _Ignoring(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.extra = torch.nn.Identity()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


def test_a_trunk_without_stages_is_told() -> None:
    with pytest.raises(ConfigError, match="architecture: expected one with five stages, got 'timm/vit_tiny"):
        Cooccurrences("timm/vit_tiny_patch16_224", torch.nn.Identity(), CooccurrenceConfig())


def card(folder: Path, dim: int = CHANNELS**2, **settings: Any) -> Card:
    """A card of the small network, with random weights that its batch norms let through."""
    torch.manual_seed(1)
    file = folder / "trunk.safetensors"
    if not file.exists():
        save_file(trunks.make(training.ARCHITECTURE).state_dict(), file)
    return Card.model_validate(
        {
            "name": "small",
            "task": "retrieve",
            "architecture": "cooccurrence",
            "input": training.SPEC.model_dump() | {"size_px": 96},
            "yields": ["embedding"],
            "embedding_dim": dim,
            "metric": "euclidean",
            "settings": {"trunk": training.ARCHITECTURE, **settings},
            "weights": {"trunk": _weights(file)},
            "licence": "none",
            "source": "random weights",
        }
    )


def _weights(file: Path) -> dict[str, str]:
    return {"uri": file.as_uri(), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


PICTURES = [training.picture(row) for row in range(5)]

FORMS = {
    "full": (CHANNELS**2, {}),
    "second last, direct": (BEFORE**2, {"stage": "second_last", "filter": "direct", "window": 5}),
    "roots": (CHANNELS**2, {"power": 0.5, "unit": True, "threshold": "none"}),
    "sketch": (100, {"compact": "tensor_sketch", "seed": 3}),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_embedding_does_not_depend_on_its_neighbours(form: str, tmp_path: Path) -> None:
    dim, settings = FORMS[form]
    made = embedder.build(card(tmp_path, dim, **settings))
    found = made(PICTURES)
    assert (found.shape, found.dtype, made.dim) == ((5, dim), np.float32, dim)
    for row in (4, 1, 0, 2, 3):
        assert np.array_equal(made([PICTURES[row]])[0], found[row])
    assert len(np.unique(found, axis=0)) == 5
    assert made([]).shape == (0, dim)
    if settings.get("unit"):
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


def test_an_embedding_is_the_descriptor_of_the_picture_as_the_pipeline_shows_it(tmp_path: Path) -> None:
    made = card(tmp_path)
    assert made.input is not None
    module = Cooccurrences(
        training.ARCHITECTURE,
        trunks.load(training.ARCHITECTURE, cooccurrence._tensors(made, "trunk")),
        CooccurrenceConfig(),
    ).eval()
    shown = torch.from_numpy(cooccurrence.to_input(PICTURES[0], made.input)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = module(shown)[0].numpy()
    assert embedder.build(made)(PICTURES[:1])[0] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_sketch_is_that_of_the_activations_and_their_cooccurrences(tmp_path: Path) -> None:
    """Its inner products are near those of the full form: with 4,000 values for 4,096, within a tenth of the norms."""
    full = embedder.build(card(tmp_path))(PICTURES).astype(np.float64)
    short = embedder.build(card(tmp_path, 4_000, compact="tensor_sketch"))(PICTURES).astype(np.float64)
    norms = np.linalg.norm(full, axis=1)
    assert np.abs(short @ short.T - full @ full.T).max() < 0.1 * norms.max() ** 2


def test_components_that_were_learned_go_into_a_card(tmp_path: Path) -> None:
    full = card(tmp_path, unit=True)
    save_file(cooccurrence.learn_pca(full, [PICTURES[:3], PICTURES[3:]], 4), tmp_path / "pca.safetensors")
    described = card(tmp_path, 4, unit=True, compact="pca").model_dump(mode="json")
    described["weights"] |= {"pca": _weights(tmp_path / "pca.safetensors")}
    found = embedder.build(Card.model_validate(described))(PICTURES)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    centred = (rows := embedder.build(full)(PICTURES).astype(np.float64)) - rows.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert found @ found.T == pytest.approx(unit @ unit.T, abs=1e-3)  # four components hold all that five pictures have
    with pytest.raises(ConfigError, match=r"card small: pca: expected mean \[4096\] and components \[3, 4096\], got"):
        embedder.build(Card.model_validate(described | {"embedding_dim": 3}))
    with pytest.raises(ConfigError, match=r"card small: expected architecture cooccurrence with settings\.compact"):
        cooccurrence.learn_pca(Card.model_validate(described), [PICTURES], 2)


WRONG = {
    "card small: embedding_dim: expected 4096, got 48": {"embedding_dim": 48},
    r"card small: expected input and weights of a trunk, got \[\]": {"weights": {}},
    "card small: settings.*: window: expected an odd number, got 2": {"settings": {"trunk": "resnet18", "window": 2}},
    "card small: settings.*: trunk: .*": {"settings": {}},
    "architecture: expected one of .*, got 'resnet9'": {"settings": {"trunk": "resnet9"}},
    "known keys: stage, window, threshold, filter, trunk": {"settings": {"trunk": "resnet18", "radius": 2}},
    r"card small: weights: expected pca, got \['trunk'\]": {
        "settings": {"trunk": training.ARCHITECTURE, "compact": "pca"}
    },
}


@pytest.mark.parametrize("told", WRONG)
def test_what_is_wrong_with_a_card_is_told(told: str, tmp_path: Path) -> None:
    described = card(tmp_path).model_dump(mode="json") | WRONG[told]
    with pytest.raises(ConfigError, match=told):
        registry.build(Card.model_validate(described))


def test_a_filter_of_another_window_is_told(tmp_path: Path) -> None:
    save_file({"weight": initial(CHANNELS, 1, "identity")}, tmp_path / "filter.safetensors")
    described = card(tmp_path).model_dump(mode="json")
    described["weights"] |= {"filter": _weights(tmp_path / "filter.safetensors")}
    with pytest.raises(ConfigError, match=r"card small: filter: expected a tensor weight \[64, 64, 3, 3\], got"):
        registry.build(Card.model_validate(described))


def test_a_picture_without_cooccurrences_has_no_direction(tmp_path: Path) -> None:
    made = embedder.build(card(tmp_path, unit=True))
    with torch.no_grad():
        made._module.filter.zero_()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="embedding: expected a descriptor with a direction, got zeros"):
        made(PICTURES[:1])
    with pytest.raises(ValueError, match="embedding: expected a descriptor of finite values"):
        spoilt(tmp_path)(PICTURES[:1])


def spoilt(folder: Path) -> embedder.ImageEmbedder:
    """A method whose filter makes no numbers."""
    made = embedder.build(card(folder))
    with torch.no_grad():
        made._module.filter.fill_(torch.nan)  # type: ignore[attr-defined]
    return made


def trained(folder: Path, *changes: str) -> Card:
    """The card of a training of one epoch, from random weights."""
    training.written(folder)
    profile = run.load(folder / "stripes.yaml", ["training.epochs=1", *changes])
    works, _ = run.usable(run.read(profile), None, profile)
    made = RunFolder(Location.of(folder / "run"))
    made.begin(profile, cards.load(folder / "small.yaml"), works, [])
    fit.fit(made, exchange.alone())
    assert made.result is not None
    return cards.load(made.result["card"])


@pytest.mark.parametrize("mode", ["head", "all"])
def test_a_trained_filter_comes_out_as_a_card_that_retrieves(mode: str, tmp_path: Path) -> None:
    made = trained(
        tmp_path,
        "network.cooccurrence={stage: second_last, window: 3}",
        "training.keep=last",
        f"network.trained={mode}",
    )
    assert (made.task, made.architecture, made.metric, made.embedding_dim) == (
        "retrieve",
        "cooccurrence",
        "euclidean",
        BEFORE**2,
    )
    assert (made.heads, {*made.weights}, {*made.metrics}) == ({}, {"trunk", "filter"}, {"type", "genre"})
    found = verify.verify(made)
    assert (found.ok, found.detail) == (True, "embedding of 2304, compared by euclidean")
    untrained = Card.model_validate(made.model_dump() | {"weights": {"trunk": made.weights["trunk"]}})
    assert not np.allclose(registry.build(untrained)(PICTURES), registry.build(made)(PICTURES), rtol=1e-3)
    assert yaml.safe_load((tmp_path / "run" / "card" / "stripes.yaml").read_text())["settings"]["trunk"]


def test_a_classifier_that_learned_colours_retrieves_too(tmp_path: Path) -> None:
    made = trained(tmp_path, "colour.weight=0.01")
    assert (made.task, {*made.weights}) == ("classify", {"trunk", "heads"})
    told = made.metrics["colour"]
    assert (told["judged_on"], told["works"]) == ("val", 16)
    assert 0 < told["mean_absolute_error"] < 255
    found = embedder.build(made)(PICTURES)
    assert found.shape == (5, made.embedding_dim)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    plain = trained(tmp_path / "plain")
    assert "colour" not in plain.metrics
