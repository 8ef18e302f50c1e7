"""torchvision's detectors put together as detectron2 has them, so that they find the same with the same weights.

The layers are the same. Different are: how a picture is resized, which convolution of a block has the stride, that
anchors are not rounded and are the level's stride apart, how many samples a pooled region takes and where, which
boxes go before overlaps are suppressed, and what comes after it.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import boxes as box_ops
from torchvision.ops import roi_align
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from artray.config import Section
from artray.detect import detectron2_inputs
from artray.models.cards import Rgb

CHANNELS: Final = 256
"""Of every level of the pyramid."""
SIZES_PX: Final = (32, 64, 128, 256, 512)
"""Of anchors, level by level."""
RATIOS: Final = (0.5, 1.0, 2.0)
"""Height to width of anchors."""
CAFFE_MEAN: Final = (103.530, 116.280, 123.675)


class Recipe(NamedTuple):
    """How detectron2's model zoo has an architecture."""

    backbone: str  # torchvision's name
    stride_in_1x1: bool
    std: Rgb


ZOO: Final = MappingProxyType(
    {
        "fasterrcnn_resnet50_fpn": Recipe("resnet50", True, (1, 1, 1)),
        "fasterrcnn_resnet101_fpn": Recipe("resnet101", True, (1, 1, 1)),
        "fasterrcnn_resnext101_32x8d_fpn": Recipe("resnext101_32x8d", False, (57.375, 57.120, 58.395)),
        "retinanet_resnet50_fpn": Recipe("resnet50", True, (1, 1, 1)),
        "retinanet_resnet101_fpn": Recipe("resnet101", True, (1, 1, 1)),
    }
)
"""Architectures that detectron2 has, too, by artray's name."""


class Settings(Section):
    """What detectron2's configuration says and its weights do not, by default as in its model zoo.

    Args:
        stride_in_1x1: whether a block's first convolution has its stride (``MODEL.RESNETS.STRIDE_IN_1X1``); None: as
            the model zoo has it for the architecture.
        channels: their order (``INPUT.FORMAT``).
        mean: of the channels in this order, on the scale 0..255 (``MODEL.PIXEL_MEAN``).
        std: likewise (``MODEL.PIXEL_STD``); None: as the model zoo has it.
        min_size: of a picture's shorter side, pixels (``INPUT.MIN_SIZE_TEST``); 0: pictures keep their size.
        max_size: of its longer side (``INPUT.MAX_SIZE_TEST``).
        candidates: boxes of each level that are looked at (``RPN.PRE_NMS_TOPK_TEST``,
            ``RETINANET.TOPK_CANDIDATES_TEST``).
        proposals: regions of each picture that are looked at, of a Faster R-CNN (``RPN.POST_NMS_TOPK_TEST``).
        proposals_iou_max: a region goes if its IoU with a better one of its level is more (``RPN.NMS_THRESH``).
        iou_max: a box goes if its IoU with a better one of its class is more (``NMS_THRESH_TEST``).
        max_boxes: at most so many per picture, the best (``TEST.DETECTIONS_PER_IMAGE``).
    """

    stride_in_1x1: bool | None = None
    channels: Literal["bgr", "rgb"] = "bgr"
    mean: Rgb = CAFFE_MEAN
    std: Rgb | None = None
    min_size: int = Field(800, ge=0)
    max_size: int = Field(1333, ge=1)
    candidates: int = Field(1000, ge=1)
    proposals: int = Field(1000, ge=1)
    proposals_iou_max: float = Field(0.7, ge=0, le=1)
    iou_max: float = Field(0.5, ge=0, le=1)
    max_boxes: int = Field(100, ge=1)

    @field_validator("std")
    @classmethod
    def _positive(cls, std: Rgb | None) -> Rgb | None:
        if std is not None and min(std) <= 0:
            raise ValueError("expected three positive numbers")
        return std


class Transform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Pictures as detectron2 shows them, and boxes as it places them. For evaluation only."""

    def __init__(self, settings: Settings, std: Rgb) -> None:
        super().__init__(settings.min_size, settings.max_size, list(settings.mean), list(std))
        self.channels = settings.channels

    def resized_hw(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width at which the network sees an image."""
        return detectron2_inputs.resized_hw(height_px, width_px, self.min_size[-1], self.max_size)

    def forward(self, images: list[Tensor], targets: None = None) -> tuple[ImageList, None]:
        """Images float[3, H, W] RGB in [0, 1], as torchvision takes them, resized, normalised and padded."""
        shown = [self.normalize(self._resized(image)) for image in images]
        sizes = [(image.shape[-2], image.shape[-1]) for image in shown]
        return ImageList(self.batch_images(shown, size_divisible=self.size_divisible), sizes), targets

    def _resized(self, image: Tensor) -> Tensor:
        """float32[3, H', W'] in [0, 255], in the network's order of channels."""
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        resized = detectron2_inputs.resize(pixels, *self.resized_hw(*pixels.shape[:2]))
        ordered = resized[..., ::-1] if self.channels == "bgr" else resized
        return torch.from_numpy(np.ascontiguousarray(ordered, np.float32).transpose(2, 0, 1)).to(image.device)

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: Sequence[tuple[int, int]],
        original_image_sizes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Boxes in pixels of the original image and within it; those without area go.

        Source: detectron2.modeling.postprocessing.detector_postprocess.
        """
        placed = []
        for found, seen_hw, original_hw in zip(result, image_shapes, original_image_sizes, strict=True):
            down, across = (original / seen for original, seen in zip(original_hw, seen_hw, strict=True))
            scale = torch.tensor([across, down, across, down], dtype=torch.float32, device=found["boxes"].device)
            boxes = box_ops.clip_boxes_to_image(found["boxes"] * scale, original_hw)
            has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            placed.append({key: value[has_area] for key, value in (found | {"boxes": boxes}).items()})
        return placed


class Anchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors that are not rounded, at the levels' strides.

    Source: detectron2.modeling.anchor_generator.DefaultAnchorGenerator with offset 0.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], strides_px: Sequence[int]) -> None:
        super().__init__(tuple(map(tuple, sizes)), (RATIOS,) * len(sizes))
        self.strides_px = strides_px

    def generate_anchors(self, scales: Sequence[float], aspect_ratios: Sequence[float], **_: Any) -> Tensor:
        """float32[S * R, 4] around the origin, ratio by ratio for each size."""
        widths = [(math.sqrt(size**2 / ratio), ratio) for size in scales for ratio in aspect_ratios]
        corners = [(-width / 2, -ratio * width / 2, width / 2, ratio * width / 2) for width, ratio in widths]
        return torch.tensor(corners, dtype=torch.float32)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """For every image float32[A, 4], level by level, row by row."""
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        grids = [list(level.shape[-2:]) for level in feature_maps]
        strides = [[torch.tensor(step, device=feature_maps[0].device)] * 2 for step in self.strides_px]
        return [torch.cat(self.grid_anchors(grids, strides))] * len(image_list.image_sizes)


class Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """Regions chosen by their logits: as scores, which torchvision takes, sure ones cannot be told apart."""

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: Sequence[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Each image's best regions and their logits, in descending order.

        Source: detectron2.modeling.proposal_generator.proposal_utils.find_top_rpn_proposals.
        """
        logits = objectness.detach().reshape(len(image_shapes), -1)
        chosen = [self._chosen(*of, num_anchors_per_level) for of in zip(proposals, logits, image_shapes, strict=True)]
        return [boxes for boxes, _ in chosen], [scores for _, scores in chosen]

    def _chosen(
        self, boxes: Tensor, logits: Tensor, size_hw: tuple[int, int], per_level: list[int]
    ) -> tuple[Tensor, Tensor]:
        starts = np.cumsum([0, *per_level[:-1]]).tolist()
        tops = [
            level.topk(min(len(level), self.pre_nms_top_n())).indices + start
            for level, start in zip(logits.split_with_sizes(per_level), starts, strict=True)
        ]
        at = torch.cat(tops)
        levels = torch.cat([torch.full_like(top, number) for number, top in enumerate(tops)])
        boxes, logits = boxes[at], logits[at]
        sound = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
        boxes = box_ops.clip_boxes_to_image(boxes, size_hw)
        sound &= (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, logits, levels = boxes[sound], logits[sound], levels[sound]
        kept = box_ops.batched_nms(boxes, logits, levels, self.nms_thresh)[: self.post_nms_top_n()]
        return boxes[kept], logits[kept]


class Pool(nn.Module):
    """Regions as float[R, C, 7, 7] out of the level that fits their size.

    Source: detectron2.modeling.poolers.ROIPooler with ROIAlignV2 and as many samples as a region has cells.
    """

    side: Final = 7
    strides_px: Final = (4, 8, 16, 32)

    def forward(self, features: Mapping[str, Tensor], boxes: list[Tensor], _: Any) -> Tensor:
        """Args: features by level, float32[R, 4] of each image, the images' sizes."""
        levels = list(features.values())[: len(self.strides_px)]
        regions = torch.cat(
            [torch.cat([torch.full_like(of[:, :1], image), of], dim=1) for image, of in enumerate(boxes)]
        )
        sizes = box_ops.box_area(regions[:, 1:]).sqrt()
        fitting = torch.floor(4 + torch.log2(sizes / 224 + 1e-8)).clamp(2, 5).to(torch.int64) - 2
        pooled = levels[0].new_zeros(len(regions), levels[0].shape[1], self.side, self.side)
        for number, (level, step) in enumerate(zip(levels, self.strides_px, strict=True)):
            at = (fitting == number).nonzero()[:, 0]
            pooled[at] = roi_align(level, regions[at], self.side, 1 / step, sampling_ratio=0, aligned=True)
        return pooled


class Heads(RoIHeads):  # type: ignore[misc]
    """Regions to boxes; tiny ones stay until they are placed."""

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: Sequence[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of each image, in descending order of score.

        Source: detectron2.modeling.roi_heads.fast_rcnn.fast_rcnn_inference.
        """
        counts = [len(of) for of in proposals]
        boxes = self.box_coder.decode(box_regression[:, 4:], proposals).split_with_sizes(
            counts
        )  # without the background's
        # summed up in detectron2's order, with the background last
        scores = class_logits.roll(-1, dims=1).softmax(dim=1).split_with_sizes(counts)
        chosen = [self._chosen(*of) for of in zip(boxes, scores, image_shapes, strict=True)]
        return tuple(map(list, zip(*chosen, strict=True)))  # type: ignore[return-value]

    def _chosen(self, boxes: Tensor, scores: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        sound = torch.isfinite(boxes).flatten(1).all(dim=1) & torch.isfinite(scores).all(dim=1)
        boxes, scores = box_ops.clip_boxes_to_image(boxes[sound], size_hw), scores[sound, :-1]
        regions, ids = (scores > self.score_thresh).nonzero(as_tuple=True)
        boxes, scores = boxes[regions, ids], scores[regions, ids]
        kept = box_ops.batched_nms(boxes, scores, ids, self.nms_thresh)[: self.detections_per_img]
        return boxes[kept], scores[kept], ids[kept] + 1


class Retina(RetinaNet):  # type: ignore[misc]
    """A RetinaNet whose boxes are cut at the picture's edge at the end, and whose labels begin at 1."""

    def postprocess_detections(
        self,
        head_outputs: Mapping[str, Sequence[Tensor]],
        anchors: Sequence[Sequence[Tensor]],
        image_shapes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Each image's boxes, scores and labels, in descending order of score.

        Source: detectron2.modeling.meta_arch.retinanet.RetinaNet.inference_single_image.
        """
        found = []
        for index in range(len(image_shapes)):
            levels = [
                self._level(logits[index], deltas[index], boxes)
                for logits, deltas, boxes in zip(
                    head_outputs["cls_logits"], head_outputs["bbox_regression"], anchors[index], strict=True
                )
            ]
            boxes, scores, ids = (torch.cat(column) for column in zip(*levels, strict=True))
            kept = box_ops.batched_nms(boxes, scores, ids, self.nms_thresh)[: self.detections_per_img]
            found.append({"boxes": boxes[kept], "scores": scores[kept], "labels": ids[kept] + 1})
        return found

    def _level(self, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = logits.sigmoid()
        at, ids = (scores > self.score_thresh).nonzero(as_tuple=True)
        best, top = scores[at, ids].topk(min(len(at), self.topk_candidates))
        at, ids = at[top], ids[top]
        return self.box_coder.decode_single(deltas[at], anchors[at]), best, ids


def construct(architecture: str, num_classes: int, score_min: float, settings: Settings) -> nn.Module:
    """A torchvision detector with random weights that is the twin of one of detectron2's.

    Args:
        architecture: one of :data:`ZOO`.
        num_classes: ids that the model tells apart, the background among them.
        score_min: boxes must score at least this, in [0, 1].
        settings: of the model whose twin it is.
    """
    recipe = ZOO[architecture]
    transform = Transform(settings, settings.std or recipe.std)
    # the libraries keep scores above a threshold: the next number below keeps those at score_min too
    threshold = float(np.nextafter(np.float32(score_min), np.float32(-1)))
    is_dense = architecture.startswith("retinanet_")
    extra = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(2048, CHANNELS)} if is_dense else {}
    backbone = resnet_fpn_backbone(
        backbone_name=recipe.backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5, **extra
    )
    if recipe.stride_in_1x1 if settings.stride_in_1x1 is None else settings.stride_in_1x1:
        place_strides(backbone.body)
    make = _retinanet if is_dense else _faster_rcnn
    return make(backbone, transform, num_classes, threshold, settings)


def place_strides(body: nn.Module) -> None:
    """Give the stride of a ResNet's stages to their first convolution, instead of their second."""
    for stage in ("layer2", "layer3", "layer4"):
        block: Any = body.get_submodule(stage)[0]  # type: ignore[index]
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _faster_rcnn(
    backbone: nn.Module, transform: Transform, num_classes: int, threshold: float, settings: Settings
) -> nn.Module:
    """The training's numbers are torchvision's: they do not matter here."""
    rpn = Proposals(
        Anchors([(size,) for size in SIZES_PX], (4, 8, 16, 32, 64)),
        RPNHead(CHANNELS, len(RATIOS)),
        *(0.7, 0.3, 256, 0.5),
        {"training": settings.candidates, "testing": settings.candidates},
        {"training": settings.proposals, "testing": settings.proposals},
        settings.proposals_iou_max,
    )
    heads = Heads(
        Pool(),
        TwoMLPHead(CHANNELS * Pool.side**2, 1024),
        FastRCNNPredictor(1024, num_classes),
        *(0.5, 0.5, 512, 0.25, None),
        threshold,
        settings.iou_max,
        settings.max_boxes,
    )
    model: nn.Module = GeneralizedRCNN(backbone, rpn, heads, transform)
    return model


def _retinanet(
    backbone: nn.Module, transform: Transform, num_classes: int, threshold: float, settings: Settings
) -> nn.Module:
    """Without the background, which detectron2's has not."""
    sizes = [[size, size * 2 ** (1.0 / 3), size * 2 ** (2.0 / 3)] for size in SIZES_PX]
    model = Retina(
        backbone,
        num_classes - 1,
        anchor_generator=Anchors(sizes, (8, 16, 32, 64, 128)),
        score_thresh=threshold,
        nms_thresh=settings.iou_max,
        detections_per_img=settings.max_boxes,
        topk_candidates=settings.candidates,
    )
    model.transform = transform
    return model
