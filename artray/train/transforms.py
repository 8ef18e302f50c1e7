"""From a picture to a network's input: crops and augmentations for training, one view or several for judging.

Pictures stay bytes until they are where the network is: a fourth of what floats would be to make, copy and move.

What an image looks like in an epoch depends on seed, epoch and its position in the epoch alone, so a run shows the same
pictures on one worker and on many, and a resumed one the same as one that was never interrupted.

Crops, and mirroring that comes next, are those of torchvision.transforms.v2 on tensors of bytes; what comes after them,
on PIL images, which is what the report used. A picture is resized as the pipeline does it
(:mod:`artray.classify.inputs`), for what is trained on must look like what is classified.
"""

import colorsys
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor
from torchvision.transforms import v2

from artray.classify import inputs
from artray.config import Views
from artray.models.cards import Input
from artray.train.shown import Augmentation, CropConfig

Image: TypeAlias = NDArray[np.uint8]
"""uint8[H, W, 3] RGB, upright."""

BORDER_PX: Final = 20
"""What a borderless crop leaves out at every side. Source: report, Image Classification, section 4.2."""


class _Toned(torch.nn.Module):
    """Greys between an ink and a paper, both from red to yellow."""

    HUES: Final = (0.0, 0.16)
    INK: Final = (0.0, 0.35)
    PAPER: Final = (0.7, 1.0)

    def __init__(self, saturation: float) -> None:
        super().__init__()
        self.saturation = saturation

    def forward(self, picture: Pillow.Image) -> Pillow.Image:
        """RGB to RGB."""
        ink, paper = self._colour(self.INK), self._colour(self.PAPER)
        light = np.asarray(picture.convert("L"), np.float32)[..., None] / 255
        return Pillow.fromarray((255 * (ink + (paper - ink) * light)).round().astype(np.uint8))

    def _colour(self, values: tuple[float, float]) -> NDArray[np.float32]:
        """float32[3] in [0, 1], by lot."""
        hue, saturation, value = torch.rand(3).tolist()
        low, high = self.HUES
        chosen = (low + (high - low) * hue, saturation * self.saturation, values[0] + (values[1] - values[0]) * value)
        return np.array(colorsys.hsv_to_rgb(*chosen), np.float32)


MAKERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "horizontal_flip": lambda cfg: v2.RandomHorizontalFlip(cfg.p),
        "perspective": lambda cfg: v2.RandomPerspective(cfg.distortion_scale, cfg.p),
        "rotation": lambda cfg: v2.RandomRotation(cfg.degrees),
        "affine": lambda cfg: v2.RandomAffine(
            cfg.degrees, cfg.translate, cfg.scale, cfg.shear, interpolation=v2.InterpolationMode.BICUBIC
        ),
        "colour_jitter": lambda cfg: v2.ColorJitter(cfg.brightness, cfg.contrast, cfg.saturation, cfg.hue),
        "grey": lambda cfg: v2.RandomGrayscale(cfg.p),
        "tone": lambda cfg: v2.RandomApply([_Toned(cfg.saturation)], cfg.p),
        "blur": lambda cfg: v2.RandomApply([v2.GaussianBlur(cfg.kernel_px | 1, cfg.sigma)], cfg.p),
        "rand_augment": lambda cfg: v2.RandAugment(cfg.operations, cfg.magnitude),
    }
)


class Training:
    """What an epoch shows of a picture.

    Args:
        spec: the network's input.
        crop: how a square is cut out.
        augment: what is done to it, in this order.
    """

    def __init__(self, spec: Input, crop: CropConfig, augment: Sequence[Augmentation] = ()) -> None:
        self.spec = spec if crop.size_px is None else spec.model_copy(update={"size_px": crop.size_px})
        self.crop = crop
        flips = len(list(itertools.takewhile(lambda cfg: cfg.name == "horizontal_flip", augment)))
        operations: list[Any] = [MAKERS[cfg.name](cfg) for cfg in augment]
        self._cut: list[Any] = [_cutter(self.spec.size_px, crop), *operations[:flips]]
        self._augment: list[Any] = operations[flips:]

    def __call__(self, image: Image, seed: Sequence[int]) -> Image:
        """uint8[S, S, 3], see :class:`Normalise`.

        Args:
            image: uint8[H, W, 3].
            seed: integers >= 0; the same ones give the same.
        """
        if self.crop.kind == "none":
            whole = inputs.square(image, self.spec)
        else:
            inner = _without_border(image, BORDER_PX) if self.crop.kind == "random_borderless" else image
            edge_px = self._edge_px()
            whole = inner if edge_px is None else inputs.resized(inner, edge_px, self.crop.edge)
        pixels = torch.from_numpy(np.require(whole, requirements="W")).permute(2, 0, 1)
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed, which keeps a stack trace for every GPU that is not in use yet
            torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
            for operation in self._cut:
                pixels = operation(pixels)
            # ten times as fast as a transposed copy
            square: Image = np.asarray(cv2.merge(list(pixels.numpy())), np.uint8)
            if not self._augment:
                return square
            picture = Pillow.fromarray(square)
            for operation in self._augment:
                picture = operation(picture)
        return np.array(picture)

    def _edge_px(self) -> int | None:
        if self.crop.resize_px is None and self.crop.kind == "random_resized":
            return None  # what is cut out is resized anyway, and is sharper so
        return self.crop.resize_px or self.spec.size_px


COUNTS: Final[Mapping[str, int]] = MappingProxyType({"one": 1, "flips": 2, "five_crop": 5, "ten_crop": 10})


def views(image: Image, spec: Input, kind: Views = "one", resize_px: int | None = None) -> Image:
    """uint8[V, S, S, 3]: what of a picture is judged; see artray.classify.inputs.views."""
    return np.stack(inputs.views(image, spec, kind, resize_px))


class Normalise:
    """``(pixels - mean) / std``, where the network is.

    Args:
        spec: has mean and standard deviation.
        device: of the pixels.
        dtype: of what comes out.
    """

    def __init__(self, spec: Input, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.mean, self.std = (torch.tensor(each, dtype=dtype, device=device) for each in (spec.mean, spec.std))

    def __call__(self, images: Tensor) -> Tensor:
        """float[..., 3, S, S] of uint8[..., S, S, 3]; channels stay last in memory."""
        return ((images.to(self.dtype) - self.mean) / self.std).movedim(-1, -3)


def _without_border(image: Image, border_px: int) -> Image:
    """The picture less so much at every side; a picture too small for that stays as it is."""
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border_px:
        return image
    return image[border_px : height - border_px, border_px : width - border_px]


def _cutter(size_px: int, crop: CropConfig) -> Any:
    if crop.kind == "none":
        return v2.Identity()
    if crop.kind == "random_resized":
        return v2.RandomResizedCrop(size_px, crop.scale, crop.ratio)
    if crop.kind == "centre":
        return v2.CenterCrop(size_px)
    return v2.RandomCrop(size_px, pad_if_needed=True)
