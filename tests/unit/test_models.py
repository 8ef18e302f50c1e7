"""The registry, trunks and verification."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from artray.errors import ConfigError
from artray.models import cards, registry, trunks, verify, weights
from artray.models.cards import Card


def small_card(**changes) -> Card:
    return Card(
        **{
            "name": "small",
            "task": "classify",
            "architecture": "resnet18",
            "input": {"size_px": 64, "mean": [127, 127, 127], "std": [128, 128, 128]},
            "yields": ["embedding"],
            "embedding_dim": 512,
            "licence": "none",
            "source": "this test",
        }
        | changes
    )


def test_a_name_is_registered_once():
    registry.register("only once", task="detect")(lambda card, device: None)
    with pytest.raises(ValueError, match="expected a name that is not registered for detect, got 'only once'"):
        registry.register("only once", task="detect")(lambda card, device: None)
    registry._BUILDERS.pop(("detect", "only once"))


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"card small: architecture: expected one of densenet201, .*resnet50, timm, got 'x'"
    ):
        registry.build(small_card(architecture="x"))


def test_a_gpu_that_is_not_there_is_no_cpu():
    many = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ConfigError, match=f"device: expected a GPU for '{many}'"):
        registry.check_device(many)
    for wrong in ("gpu", "cuda:x", "cpu:", "cuda:-1", ""):
        with pytest.raises(ConfigError, match="device: expected cpu, cuda or cuda:N"):
            registry.check_device(wrong)
    assert registry.check_device("cpu") == "cpu"


def with_statistics(module: torch.nn.Module) -> torch.nn.Module:
    """Batch norms that do something, as trained ones do."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator) * 0.1)
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            part.weight.data.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
    return module


@pytest.mark.parametrize("architecture", [*trunks.TRUNKS, "timm/mobilenetv3_small_050"])
def test_fusing_leaves_no_batch_norm_behind_a_convolution_and_changes_nothing(architecture):
    with torch.inference_mode():
        plain = with_statistics(trunks.make(architecture))
        images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
        expected = plain(images)
        fused = trunks.fuse(plain)
        assert expected.shape == (1, trunks.dim(architecture))
        scale = expected.abs().max()
        assert (fused(images) - expected).abs().max() <= 1e-4 * scale
    left = sum(isinstance(part, torch.nn.BatchNorm2d) for part in fused.modules())
    # DenseNet's norms come before their convolutions; only those after conv0 and the bottlenecks (98 of them) fold
    assert left == (201 - 1 - 98 if architecture == "densenet201" else 0)


@pytest.mark.parametrize("variant", [0, 2])
def test_the_bundled_trunk_uses_every_tensor_of_its_file(variant: int):
    path = weights.fetch(cards.load(f"efficientnet-lite{variant}-imagenet").weights["trunk"])
    tensors = weights.read_tensors(path)
    module = trunks.load(f"efficientnet_lite{variant}", tensors)
    used = {trunks.TRUNKS[f"efficientnet_lite{variant}"].rename(name) for name in tensors}
    assert used - set(module.state_dict()) == {"_fc.weight", "_fc.bias"}
    assert set(module.state_dict()) <= used
    assert torch.equal(module.state_dict()["conv_head.weight"], tensors["_conv_head.weight"])


def test_a_trunk_reads_its_own_state_dict_again():
    module = trunks.make("resnet18")
    again = trunks.load("resnet18", module.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_weights_of_another_architecture_are_named():
    state = trunks.make("resnet18").state_dict()
    with pytest.raises(ConfigError, match=r"expected a tensor layer1.2.conv1.weight of resnet34, got none"):
        trunks.load("resnet34", state)
    with pytest.raises(ConfigError, match=r"expected the tensors of resnet18, got layer1.2.conv1.weight besides"):
        trunks.load("resnet18", trunks.make("resnet34").state_dict())
    with pytest.raises(ConfigError, match=r"conv1.weight: expected \(64, 3, 7, 7\), got \(64, 3, 3, 3\)"):
        trunks.load("resnet18", state | {"conv1.weight": torch.zeros(64, 3, 3, 3)})


def test_published_densenet_files_use_older_names():
    state = trunks.make("densenet201").state_dict()
    older = {
        name.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2")
        if "denselayer" in name
        else name: tensor
        for name, tensor in state.items()
    }
    assert set(older) != set(state)
    again = trunks.load("densenet201", older | {"classifier.weight": torch.zeros(1000, 1920)})
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in state.items())


def test_the_bundled_cards_verify():
    for name in ("efficientnet-lite2-art", "mtcnn"):
        ok, detail, seconds = verify.verify(cards.load(name))
        assert ok, detail
        assert seconds > 0


def test_verify_tells_wrong_from_not_reachable(tmp_path):
    path = tmp_path / "trunk.safetensors"
    save_file(trunks.make("resnet18").state_dict(), path)
    wrong = small_card(weights={"trunk": {"uri": path.as_uri(), "sha256": "0" * 64}})
    assert verify.verify(wrong).ok is False
    assert "sha256: expected 000" in verify.verify(wrong).detail
    away = small_card(weights={"trunk": {"uri": "https://127.0.0.1:1/a.pth", "sha256": "0" * 64}})
    assert verify.verify(away).ok is None
    assert verify.verify(away).detail.startswith("not reachable: card small: weights not reachable: https://127.0")
    assert verify.verify(cards.load("resnet50-type")).detail.startswith("not reachable: to be trained by you")


def test_verify_reports_a_model_that_makes_no_sense(tmp_path):
    path = tmp_path / "trunk.safetensors"
    state = trunks.make("resnet18").state_dict()
    save_file(state | {"conv1.weight": torch.full_like(state["conv1.weight"], float("nan"))}, path)
    card = small_card(weights={"trunk": {"uri": path.as_uri(), "sha256": weights._digest(path.open("rb")).hexdigest()}})
    ok, detail, _ = verify.verify(card)
    assert ok is False
    assert "expected features that are finite" in detail


def test_the_generated_picture_is_always_the_same():
    assert np.array_equal(verify.picture(), verify.picture())
    assert verify.picture().shape == (240, 320, 3)


@pytest.mark.parametrize(
    ("architecture", "begins"),
    {
        "resnet50": ["conv1", "layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"],
        "efficientnet_lite0": ["conv_stem", *(f"blocks.{number}.0.conv_pw" for number in (1, 2, 3, 5))],
        "densenet201": [
            "features.conv0",
            "features.denseblock1.denselayer1.norm1",
            *(f"features.transition{number}.norm" for number in (1, 2, 3)),
        ],
        "inception_resnet_v1": [
            "conv2d_1a.conv",
            "conv2d_3b.conv",
            "conv2d_4b.conv",
            "mixed_6a.branch0.conv",
            "mixed_7a.branch0.0.conv",
        ],
        "timm/resnet10t": ["conv1.0", "layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"],
    }.items(),
)
def test_parameters_have_the_stage_that_their_convolution_has_in_the_paper(architecture: str, begins: list[str]):
    found = trunks.stages(architecture, trunks.make(architecture))
    first = {stage: name for name, stage in reversed(found.items())}
    assert [first[stage].removesuffix(".weight") for stage in (1, 2, 3, 4, 5)] == begins
    assert list(found.values()) == sorted(found.values())


def test_architectures_of_timm():
    assert trunks.dim("timm/mobilenetv3_small_050") == 1024  # after its last layer before the classifier
    with pytest.raises(ConfigError, match="five stages, got 'timm/vit_tiny_patch16_224'"):
        trunks.stages("timm/vit_tiny_patch16_224", trunks.make("timm/vit_tiny_patch16_224"))
    with pytest.raises(ConfigError, match="expected timm/NAME with a name of timm's, got 'resnet_18'; near: resnet18"):
        trunks.make("timm/resnet_18")
    registry.check_architecture(small_card(architecture="timm/resnet10t"))
    with pytest.raises(ConfigError, match=r"expected .* or timm/NAME, got 'timm'"):
        trunks.make("timm")
