"""What is trained, what is not, and what is kept."""

import pytest
import torch
from torch import nn

from artray.classify.heads import Head, Layer
from artray.errors import ConfigError
from artray.metrics.calibration import Calibration
from artray.models import trunks
from artray.train import networks
from artray.train.networks import Network

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
