"""What is trained, what is not, and what is kept."""

import pytest
import torch
from torch import nn

from artray.classify.heads import Head, Layer
from artray.errors import ConfigError
from artray.metrics.calibration import Calibration
from artray.models import trunks
from artray.models.cards import Input
from artray.retrieve.cooccurrence import Cooccurrences
from artray.retrieve.settings import CooccurrenceConfig
from artray.train import networks
from artray.train.networks import Colour, Network

ARCHITECTURE = "resnet18"
MODES = {"head": (), "conv4-5": ("layer3", "layer4"), "conv2-5": ("layer1", "layer2", "layer3", "layer4")}


def network() -> Network:
    torch.manual_seed(0)
    return Network(trunks.make(ARCHITECTURE), 512, {"type": (1,), "genre": (16, 8, 4, 5)})


@pytest.mark.parametrize("mode", [*MODES, "all"])
def test_a_mode_trains_its_stages_and_every_batch_norm(mode: str) -> None:
    made = network()
    networks.restrict(made, ARCHITECTURE, mode)
    norms = {name for name, part in made.named_modules() if isinstance(part, nn.BatchNorm2d)}
    for name, parameter in made.named_parameters():
        module = name.rpartition(".")[0]
        inside = mode == "all" or name.startswith(("heads.", *(f"trunk.{stage}." for stage in MODES.get(mode, ()))))
        assert parameter.requires_grad == (inside or module in norms), name
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    optimiser = torch.optim.SGD([each for each in made.parameters() if each.requires_grad], lr=0.1)
    logits = made.train()(torch.randn(4, 3, 64, 64))
    (logits["type"].square().mean() + logits["genre"].square().mean()).backward()
    optimiser.step()
    for name, tensor in made.state_dict().items():
        module = name.rpartition(".")[0]
        moves = module in norms or dict(made.named_parameters())[name].requires_grad
        assert tensor.equal(before[name]) != moves, name  # running statistics of every batch norm among them


def test_a_trunk_without_stages_is_trained_whole_or_not() -> None:
    made = Network(trunks.make("timm/vit_tiny_patch16_224"), 192, {"type": (1,)})
    networks.restrict(made, "timm/vit_tiny_patch16_224", "head")
    assert [name for name, each in made.named_parameters() if each.requires_grad] == [
        "heads.0.0.weight",
        "heads.0.0.bias",
    ]
    with pytest.raises(ConfigError, match="five stages"):
        networks.restrict(made, "timm/vit_tiny_patch16_224", "conv4-5")


def test_what_is_kept_gives_the_pipeline_the_same_scores() -> None:
    made = network().eval()
    trunk, heads = networks.export(made, {"type": Calibration(0.5, (0.25, -0.25)), "genre": Calibration(2.0)})
    features = torch.randn(3, 512)
    unit = nn.functional.normalize(features)
    with torch.inference_mode():
        alone = Network(None, 512, {"type": (1,), "genre": (16, 8, 4, 5)}).eval()
        alone.heads.load_state_dict(made.heads.state_dict())
        logits = alone(features)
        assert alone(unit)["type"].numpy() == pytest.approx(logits["type"].numpy(), abs=1e-5)  # length does not matter
    expected = {
        "type": torch.cat([1 - (shifted := (logits["type"] / 0.5 - 0.5).sigmoid()), shifted], dim=1),
        "genre": (logits["genre"] / 2.0).softmax(dim=1),
    }
    for name, layers in (("type", 1), ("genre", 4)):
        kept = [
            Layer(heads[f"{name}.{n}.weight"].double().numpy(), heads[f"{name}.{n}.bias"].double().numpy())
            for n in range(layers)
        ]
        names = tuple(map(str, range(expected[name].shape[1])))
        for row, scores in zip(unit, expected[name], strict=True):
            assert Head(names, tuple(kept))(row.numpy()) == pytest.approx(scores.numpy(), abs=1e-5)
    assert trunks.load(ARCHITECTURE, trunk) is not None


SPEC = Input(size_px=32, mean=(127.0, 100.0, 0.0), std=(128.0, 50.0, 255.0))


def test_a_mean_colour_is_that_of_the_pixels_before_they_were_normalised() -> None:
    """Half of it (255, 100, 0), half of it (0, 150, 51): (127.5, 125, 25.5) on average, of 255."""
    pixels = torch.zeros(1, 3, 4, 4)
    pixels[0, :, :2] = torch.tensor([255.0, 100.0, 0.0])[:, None, None]
    pixels[0, :, 2:] = torch.tensor([0.0, 150.0, 51.0])[:, None, None]
    mean, std = (torch.tensor(each)[:, None, None] for each in (SPEC.mean, SPEC.std))
    truth = Colour(8, SPEC).truth((pixels - mean) / std)
    assert truth[0].tolist() == pytest.approx([0.5, 125 / 255, 0.1], abs=1e-6)


def test_the_regression_on_colours_is_not_kept() -> None:
    torch.manual_seed(0)
    made = Network(trunks.make(ARCHITECTURE), 512, {"type": (1,)}, SPEC)
    assert made.eval()(torch.randn(2, 3, 64, 64))["colour"].shape == (2, 3)
    trunk, heads = networks.export(made, {})
    assert set(heads) == {"type.0.weight", "type.0.bias"}
    assert trunks.load(ARCHITECTURE, trunk) is not None


@pytest.mark.parametrize("mode", ["head", "conv4-5", "all"])
@pytest.mark.parametrize("stage", ["last", "second_last"])
def test_a_filter_is_trained_in_every_mode_and_what_is_behind_its_stage_in_none(mode: str, stage: str) -> None:
    trunk = Cooccurrences(ARCHITECTURE, trunks.make(ARCHITECTURE), CooccurrenceConfig(stage=stage))
    made = Network(trunk, trunk.dim, {"genre": (5,)})
    networks.restrict(made, ARCHITECTURE, mode)
    learned = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert {"trunk.filter", "heads.0.0.weight"} <= learned
    assert bool({name for name in learned if name.startswith("trunk.trunk.layer4")}) == (stage == "last")
    assert ("trunk.trunk.layer3.0.conv1.weight" in learned) == (mode != "head")
    made.train()(torch.randn(2, 3, 64, 64))["genre"].square().mean().backward()
    without = {name for name, parameter in made.named_parameters() if name in learned and parameter.grad is None}
    assert without == set()  # workers that share batches wait for every gradient


def test_a_descriptor_is_as_long_for_its_heads_as_an_embedding_of_its_channels() -> None:
    trunk = Cooccurrences(ARCHITECTURE, trunks.make(ARCHITECTURE), CooccurrenceConfig(stage="second_last"))
    made = Network(trunk, trunk.dim, {"genre": (5,)}).eval()
    assert (trunk.channels, trunk.dim, made.dim) == (256, 65_536, 65_536)
    with torch.inference_mode():
        features = made.features(torch.randn(2, 3, 64, 64))
    assert features.norm(dim=1).tolist() == pytest.approx([16.0, 16.0], abs=1e-4)
    assert set(networks.export_descriptor(trunk)) == {"trunk", "filter"}
