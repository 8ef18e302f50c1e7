"""Trunks: networks without their last layer, from float32[N, 3, S, S] to pooled features float32[N, D].

They come from timm and torchvision with random weights, and are loaded from a state dict in its publisher's naming,
whose own last layer is left out. Besides those of the report, every architecture of timm is one: ``timm/NAME``.
"""

import bisect
import difflib
import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from artray.errors import ConfigError
from artray.models import inception_resnet

LITE_REPEATS: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
)
"""Blocks per stage of EfficientNet-Lite0 to 2: those of B0 to B2, the first and last stage unscaled.

Source: Tan and Le (2019), Table 1."""

TIMM: Final = "timm"
STAGES: Final = 5
LITE_STAGES: Final = ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6")
RESNET_STAGES: Final = ("bn1", "layer1", "layer2", "layer3", "layer4")
DENSENET_STAGES: Final = (
    "features.norm0",
    "features.denseblock1",
    "features.denseblock2",
    "features.denseblock3",
    "features.norm5",
)


class Trunk(NamedTuple):
    """One architecture."""

    make: Callable[[], nn.Module]
    dim: int  # length of its pooled features
    rename: Callable[[str], str]  # a published state dict's key to the module's own
    last: tuple[str, ...]  # prefixes of the keys of the layer that is left out
    stages: tuple[
        str, ...
    ]  # the last module of each of its five stages, each of half the resolution; () if it has none


def architectures() -> tuple[str, ...]:
    """The names of the trunks; "timm" stands for all of its own."""
    return (*TRUNKS, TIMM)


def make(architecture: str) -> nn.Module:
    """A trunk with random weights, in evaluation mode.

    Raises:
        ConfigError: no such trunk.
    """
    return _trunk(architecture).make().eval()


def dim(architecture: str) -> int:
    """The length of a trunk's pooled features."""
    return _trunk(architecture).dim


def has_stages(architecture: str) -> bool:
    """Whether a trunk has five stages that can be trained apart."""
    return bool(_trunk(architecture).stages)


def stages(architecture: str, module: nn.Module) -> dict[str, int]:
    """Which of the five stages every parameter of a trunk is of: 1 for the first convolution, 5 for the last stage.

    Raises:
        ConfigError: the architecture has no five stages of falling resolution, such as a vision transformer.

    Source: the numbering of He et al. (2015), Table 1 (conv1 to conv5), which the report uses.
    """
    ends = _trunk(architecture).stages
    if len(ends) != STAGES:
        raise ConfigError(
            f"architecture: expected one with five stages, got {architecture!r}; train all of it, or the head"
        )
    place = {name: number for number, (name, _) in enumerate(module.named_modules())}
    last = [max(number for name, number in place.items() if f"{name}.".startswith(f"{end}.")) for end in ends]
    owners = {name: place[name.rpartition(".")[0]] for name, _ in module.named_parameters()}
    return {name: min(bisect.bisect_left(last, number) + 1, STAGES) for name, number in owners.items()}


def stage_end(architecture: str, stage: int) -> str:
    """The module whose output are the activations of one of a trunk's five stages.

    Raises:
        ConfigError: the architecture has no five stages; see :func:`stages`.
    """
    ends = _trunk(architecture).stages
    if len(ends) != STAGES:
        raise ConfigError(f"architecture: expected one with five stages, got {architecture!r}")
    return ends[stage - 1]


def beyond(module: nn.Module, end: str) -> set[str]:
    """The parameters of a trunk that come after a module, by name: what :func:`until` does without."""
    place = {name: number for number, (name, _) in enumerate(module.named_modules())}
    last = max(number for name, number in place.items() if f"{name}.".startswith(f"{end}."))
    return {name for name, _ in module.named_parameters() if place[name.rpartition(".")[0]] > last}


class _ReachedError(Exception):
    """A forward pass has come as far as is asked."""

    def __init__(self, output: Tensor) -> None:
        super().__init__("reached")
        self.output = output


def until(module: nn.Module, end: str, pictures: Tensor) -> Tensor:
    """What a module inside a trunk gives, of pictures float[N, 3, S, S]; nothing behind it is computed.

    The hook lives as long as the call: batch norms may be replaced or folded, and trunks copied, in between.
    """

    def stop(_: nn.Module, __: object, output: Tensor) -> None:
        raise _ReachedError(output)

    handle = module.get_submodule(end).register_forward_hook(stop)
    try:
        module(pictures)
    except _ReachedError as reached:
        return reached.output
    finally:
        handle.remove()
    raise ValueError(f"end: expected a module that the trunk runs, got {end!r}")


def load(architecture: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A trunk with the given weights, in evaluation mode, on the CPU.

    Args:
        architecture: one of :func:`architectures`.
        tensors: a state dict as published, or as ``make(architecture).state_dict()``; with or without a last layer.

    Raises:
        ConfigError: a tensor is missing, is left over or has another shape; names the first.
    """
    trunk = _trunk(architecture)
    module = trunk.make()
    given = {trunk.rename(name): tensor for name, tensor in tensors.items() if not name.startswith(trunk.last)}
    _check(architecture, module.state_dict(), given)
    module.load_state_dict(given, strict=False)
    return module.eval()


def fuse(module: nn.Module) -> nn.Module:
    """Fold every batch norm that directly follows a convolution into it, in place; the module must be in eval mode.

    Both must be neighbours below one parent, as in all trunks here. What timm's batch norms do besides, their
    activation, stays.
    """
    for parent in list(module.modules()):
        names = [name for name, _ in parent.named_children()]
        for first, second in itertools.pairwise(names):
            conv, norm = parent.get_submodule(first), parent.get_submodule(second)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent.add_module(first, fuse_conv_bn_eval(conv, norm))
                activation = getattr(norm, "act", None)
                parent.add_module(second, activation if isinstance(activation, nn.Module) else nn.Identity())
    return module


def _trunk(architecture: str) -> Trunk:
    family, _, name = architecture.partition("/")
    if family == TIMM and name:
        return _timm(name)
    if architecture not in TRUNKS:
        raise ConfigError(f"architecture: expected one of {', '.join(TRUNKS)} or {TIMM}/NAME, got {architecture!r}")
    return TRUNKS[architecture]


@functools.cache
def _timm(name: str) -> Trunk:
    """An architecture of timm, described by a module without memory.

    A vision transformer takes images of any size that its patches divide: its positions, of the size that it was
    trained at (DINOv2: 518 px), are interpolated.

    Raises:
        ConfigError: timm has none of that name, or it makes no pooled features.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ConfigError(
            f"architecture: expected {TIMM}/NAME with a name of timm's, got {name!r}; near: {', '.join(near)}"
        )
    with torch.device("meta"):
        module: Any = timm.create_model(name, pretrained=False, num_classes=0)
    options: dict[str, Any] = {"dynamic_img_size": True} if isinstance(module, timm.models.VisionTransformer) else {}
    classifier = module.pretrained_cfg.get("classifier") or ()
    last = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    ends = {entry["reduction"]: entry["module"] for entry in getattr(module, "feature_info", [])}
    stages = tuple(ends.get(2**stage, "") for stage in range(1, STAGES + 1))
    modules = {layer for layer, _ in module.named_modules()}
    return Trunk(
        lambda: timm.create_model(name, pretrained=False, num_classes=0, **options),
        int(getattr(module, "head_hidden_size", None) or module.num_features),
        str,
        tuple(f"{layer}." for layer in last),
        stages if {*stages} <= modules - {""} else (),
    )


def _check(architecture: str, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Every tensor but the counters of training steps must be there, and no other one."""
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in given:
            raise ConfigError(f"weights: expected a tensor {name} of {architecture}, got none")
        if given[name].shape != tensor.shape:
            raise ConfigError(f"weights: {name}: expected {tuple(tensor.shape)}, got {tuple(given[name].shape)}")
    for name in given:
        if name not in expected and not name.endswith("num_batches_tracked"):
            raise ConfigError(f"weights: expected the tensors of {architecture}, got {name} besides")


def _lite(variant: int) -> Trunk:
    """EfficientNet-Lite, whose published weights have names of their own."""

    def build() -> nn.Module:
        import timm

        module: nn.Module = timm.create_model(f"tf_efficientnet_lite{variant}", pretrained=False, num_classes=0)
        return module

    rename = functools.partial(_lite_name, LITE_REPEATS[variant])
    return Trunk(build, 1280, rename, ("_fc.", "classifier."), LITE_STAGES)


def _lite_name(repeats: Sequence[int], name: str) -> str:
    """Names of the efficientnet_lite_pytorch family to timm's; timm's own stay.

    >>> _lite_name(LITE_REPEATS[0], "_blocks.2._project_conv.weight"), _lite_name((), "_conv_head.weight")
    ('blocks.1.1.conv_pwl.weight', 'conv_head.weight')
    """
    first, *rest = name.split(".")
    if first != "_blocks":
        top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
        return ".".join([top.get(first, first), *rest])
    number, layer, *rest = rest
    places = [f"{stage}.{index}" for stage, count in enumerate(repeats) for index in range(count)]
    shared = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw"}
    if number == "0":  # the first block has nothing to expand: its projection is the pointwise convolution
        layers = shared | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        layers = shared | {"_bn0": "bn1", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    return ".".join(["blocks", places[int(number)], layers[layer], *rest])


def _torchvision(name: str, last: str) -> Callable[[], nn.Module]:
    """A constructor of a torchvision classifier without its last layer."""

    def build() -> nn.Module:
        from torchvision import models

        with torch.random.fork_rng(devices=[]):  # random weights that are replaced: leave the caller's generator alone
            module: nn.Module = getattr(models, name)(weights=None)
        setattr(module, last, nn.Identity())
        return module

    return build


def _densenet_name(name: str) -> str:
    """The published files' older names to the module's.

    >>> _densenet_name("features.denseblock1.denselayer1.norm.1.weight")
    'features.denseblock1.denselayer1.norm1.weight'
    """
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


TRUNKS: Final[Mapping[str, Trunk]] = MappingProxyType(
    {
        **{f"efficientnet_lite{variant}": _lite(variant) for variant in LITE_REPEATS},
        "inception_resnet_v1": Trunk(
            inception_resnet.InceptionResnetV1,
            inception_resnet.DIM,
            str,
            inception_resnet.LAST,
            inception_resnet.STAGES,
        ),
        "resnet18": Trunk(_torchvision("resnet18", "fc"), 512, str, ("fc.",), RESNET_STAGES),
        "resnet34": Trunk(_torchvision("resnet34", "fc"), 512, str, ("fc.",), RESNET_STAGES),
        "resnet50": Trunk(_torchvision("resnet50", "fc"), 2048, str, ("fc.",), RESNET_STAGES),
        "densenet201": Trunk(
            _torchvision("densenet201", "classifier"), 1920, _densenet_name, ("classifier.",), DENSENET_STAGES
        ),
    }
)
