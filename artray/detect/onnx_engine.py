"""Any detector exported to ONNX, by ONNX Runtime: a card says what goes in and which kind of head comes out.

No library of the model's own is needed, nor its licence: YOLO of all generations, NudeNet and face detectors are files
that the user adds. One image at a time goes through the network, so that none depends on another.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from artray.config import Section, parse
from artray.detect import boxes, layers, onnx_heads
from artray.detect.detector import Image
from artray.detect.found import Found
from artray.detect.letterbox import Letter, letterbox
from artray.detect.onnx_heads import Head, Layout
from artray.detect.own_classes import Labels, OwnClasses
from artray.errors import ConfigError, RowError, TransientError
from artray.models import onnx_file, registry, weights
from artray.models.cards import Card, Rgb

TYPES: Final[Mapping[str, type[np.floating[Any]]]] = MappingProxyType(
    {"tensor(float)": np.float32, "tensor(float16)": np.float16}
)
"""What a model's input may be made of."""

ROUNDING: Final = 1e-3
"""How far beyond [0, 1] a score may lie, as half precision has it."""

CHANNELS: Final = 3


class Settings(Section):
    """How an image becomes the network's input, and which of its boxes are kept: ``settings`` of an ``onnx/`` card.

    What a card leaves out is as its head's family has it (``usual`` of :class:`artray.detect.onnx_heads.Head`), or else
    as below.

    Args:
        size_wh: width and height of the network's input, pixels.
        resize: ``letterbox`` keeps the aspect ratio and fills up, ``squash`` does not.
        place: where in the letterbox the image lies: in its ``centre``, or in the upper left ``corner``.
        pad: what fills the letterbox, in [0, 255], of all channels.
        channels: their order.
        mean: of the channels in this order, on the scale 0..255; the input is ``(pixels - mean) / std``.
        std: likewise.
        strides: pixels per cell of the grids, in the order of the outputs; only some heads need them.
        extras: numbers per box that are neither corners nor scores.
        outputs: names of the model's outputs in the order of its head; none: all, as the model has them.
        iou_max: a box goes if its IoU with a better one of its class is more, in [0, 1].
        max_boxes: at most so many per image, the best.
    """

    size_wh: tuple[int, int]
    resize: Literal["letterbox", "squash"] = "letterbox"
    place: Literal["centre", "corner"] = "centre"
    pad: int = Field(114, ge=0, le=255)
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: Rgb = (0, 0, 0)
    std: Rgb = (255, 255, 255)
    strides: tuple[int, ...] = Field((8, 16, 32), min_length=1)
    extras: int = Field(0, ge=0)
    outputs: tuple[str, ...] = ()
    iou_max: float = Field(0.45, ge=0, le=1)
    max_boxes: int = Field(300, ge=1, le=10_000)

    @field_validator("size_wh")
    @classmethod
    def _sizes(cls, size_wh: tuple[int, int]) -> tuple[int, int]:
        if not all(32 <= side <= 4096 for side in size_wh):
            raise ValueError(f"expected width and height from 32 to 4096, got {list(size_wh)}")
        return size_wh

    @field_validator("std", "strides")
    @classmethod
    def _positive(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if min(values) <= 0:
            raise ValueError(f"expected positive numbers, got {list(values)}")
        return values


def show(image: Image, settings: Settings) -> tuple[NDArray[np.float32], Letter]:
    """The network's input float32[3, height, width] of an image uint8[H, W, 3] RGB, and where in it the image lies."""
    letter = letterbox(
        image,
        settings.size_wh,
        ground=settings.pad,
        centred=settings.place == "centre",
        squash=settings.resize == "squash",
    )
    pixels = letter.canvas[..., ::-1] if settings.channels == "bgr" else letter.canvas
    normalised = (pixels - np.array(settings.mean, np.float32)) / np.array(settings.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)), letter


def select(
    found: Found, class_ids: NDArray[np.int64], score_min: float, settings: Settings, overlapping: bool
) -> Found:
    """The boxes that are kept, in artray's classes, the best first.

    Suppression goes by these classes: what two of the model's classes find in one place is found once, if both have
    the same name here. What maps to nothing suppresses nothing.

    Args:
        found: the model's boxes.
        class_ids: int64[C]: artray's class of each of the model's, -1 for none.
        score_min: boxes must score at least this.
        settings: for ``iou_max`` and ``max_boxes``.
        overlapping: whether to suppress overlaps at all.
    """
    found = found._replace(class_ids=class_ids[found.class_ids])
    found = found.at((found.scores >= score_min) & (found.class_ids >= 0))
    if overlapping:
        return found.at(boxes.nms(*found, settings.iou_max, settings.max_boxes))
    return found.at(np.argsort(-found.scores, kind="stable")[: settings.max_boxes])


def sound(found: Found, score_min: float) -> Found:
    """What was found, if it consists of numbers; boxes of no matter (scores below ``score_min``) may have others.

    Raises:
        RowError: a score is no number in [0, 1], or a corner none at all.
    """
    wrong = ~((found.scores >= -ROUNDING) & (found.scores <= 1 + ROUNDING))
    if wrong.any():
        got = found.scores[wrong][0]
        raise RowError("model_failed", f"scores: expected numbers in [0, 1], got {got}; is the last layer a sigmoid?")
    if not np.isfinite(found.boxes_xyxy[found.scores >= score_min]).all():
        raise RowError("model_failed", "boxes: expected finite numbers, got others")
    return found._replace(scores=np.clip(found.scores, 0, 1))


class Onnx(OwnClasses):
    """An exported detector that answers in artray's classes.

    On a CPU it uses as many threads as torch does when it is made. With the same number it always finds the same; with
    another, sums may be added up in another order.

    Args:
        model: an ONNX file, which the caller has checked; all its weights must be in it.
        head: what its outputs mean.
        classes: what the model's ids mean, from 0 on.
        labels: what each of ``classes`` is called in artray.
        score_min: boxes must score at least this, in [0, 1].
        settings: its input, and which boxes are kept.
        device: where it runs: "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: ONNX Runtime or the device is not there, the file is none of its kind, its input or its outputs
            have other shapes than settings and head expect, or labels and classes do not agree.
    """

    def __init__(
        self,
        model: Path,
        head: Head,
        classes: Sequence[str],
        labels: Labels,
        score_min: float,
        settings: Settings,
        device: str = "cpu",
    ) -> None:
        super().__init__(classes, labels)
        self._head, self._score_min, self._settings = head, score_min, settings
        self._layout = Layout(settings.size_wh, len(classes), settings.strides, settings.extras)
        self._model, self._device = model, device
        self._session = open_session(model, device)
        self._input = check_input(self._session, settings.size_wh)
        self._outputs = check_outputs(self._session, settings.outputs)
        self._try_out()

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """What each image shows, in descending order of score, at most ``max_boxes`` boxes.

        Args:
            images: uint8[H, W, 3] RGB, of any sizes.

        Returns:
            boxes_xyxy in pixels of each image, within it; labels that map to nothing are left out.

        Raises:
            RowError: a score is no number in [0, 1], or a box none at all.
            ConfigError: the model names a class that the card does not.
            TransientError: the GPU fails.
        """
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> Found:
        pixels, letter = show(image, self._settings)
        outputs = self._run(self._session, self._outputs, pixels)
        told = sound(onnx_heads.decode(self._head, outputs, self._layout), self._score_min)
        kept = select(told, self._class_ids, self._score_min, self._settings, self._head.overlapping)
        return kept._replace(boxes_xyxy=letter.to_image(kept.boxes_xyxy, (image.shape[1], image.shape[0])))

    def look(self, names: Sequence[str]) -> layers.Look:
        """What inner tensors of the model are, by name (``/model.9/cv2/act/Mul_output_0``): one image at a time.

        Raises:
            ConfigError: it has no such tensor.
        """
        session = open_session(self._model, self._device, names)
        return lambda images: [self._look(session, names, image) for image in images]

    def _look(self, session: Any, names: Sequence[str], image: Image) -> layers.Told:
        pixels, letter = show(image, self._settings)
        part = letter.covered((image.shape[1], image.shape[0]))
        outputs = zip(names, self._run(session, names, pixels), strict=True)
        return {name: layers.cells(output, 0, 1, part) for name, output in outputs}

    def _run(self, session: Any, outputs: Sequence[str], pixels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Some outputs of the model, with the dimension of the batch if it has one."""
        name, dtype = self._input
        try:
            found = session.run(outputs, {name: pixels[None].astype(dtype)})
        except Exception as error:
            if "CUDA failure" in str(error):
                raise TransientError(f"detector: the GPU fails ({_line(error)}); run again to resume") from error
            raise
        return [np.asarray(output, np.float32) for output in found]

    def _try_out(self) -> None:
        """Look at an empty image: what does not fit is found before the first picture is read."""
        width, height = self._settings.size_wh
        try:
            self._find(np.full((height, width, CHANNELS), self._settings.pad, np.uint8))
        except (ConfigError, TransientError):
            raise
        except Exception as error:
            raise ConfigError(f"model: expected boxes of an empty image, got {_line(error)}") from error


def open_session(model: Path, device: str, inner: Sequence[str] = ()) -> Any:
    """ONNX Runtime's session of a file, on a device and no other.

    Weights in further files are refused: nobody has verified them.

    Args:
        model: the file.
        device: "cpu", "cuda" or "cuda:N".
        inner: tensors that are to be outputs besides those that are.

    Raises:
        ConfigError: ONNX Runtime is not installed or cannot use the device, the file is none of its kind, or has no
            tensor of a name.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "onnxruntime: expected the package, got none; install it: pip install 'artray[onnx]'"
        ) from error
    provider, arguments = _provider(device, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are of how models were exported
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are torch's, too
    with tempfile.TemporaryDirectory() as nothing:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", nothing)
        try:
            content = onnx_file.with_outputs(model.read_bytes(), inner)
            session = onnxruntime.InferenceSession(content, options, providers=[(provider, arguments)])
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"model: expected an ONNX file with all its weights, got {_line(error)}") from error
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        raise ConfigError(f"device: expected {provider} for {device!r}, and its libraries do not load; set device: cpu")
    return session


def _provider(device: str, available: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """ONNX Runtime's name of a device, and how it is to be used."""
    kind, _, index = device.partition(":")
    name = "CUDAExecutionProvider" if kind == "cuda" else "CPUExecutionProvider"
    if name not in available:
        raise ConfigError(
            f"device: expected an ONNX Runtime with {name} for {device!r}, got {', '.join(available)}; "
            f"pip install onnxruntime-gpu in place of onnxruntime, or set device: cpu"
        )
    if kind != "cuda":
        return name, {}
    # no trials of kernels, whose winner may differ from run to run, and full precision
    return name, {"device_id": int(index or 0), "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 0}


def check_input(session: Any, size_wh: tuple[int, int]) -> tuple[str, type[np.floating[Any]]]:
    """The name and the type of the model's one input.

    Raises:
        ConfigError: it has several, of another type, or of another shape than one image of this size.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ConfigError(f"model: expected one input, got {', '.join(given.name for given in inputs) or 'none'}")
    (given,) = inputs
    expected = (1, CHANNELS, size_wh[1], size_wh[0])
    sizes = zip(given.shape, expected, strict=False)
    if len(given.shape) != len(expected) or any(isinstance(size, int) and size != want for size, want in sizes):
        raise ConfigError(
            f"input: expected shape {list(expected)} (images, channels, height, width), got {list(given.shape)}; "
            f"settings.size_wh is width and height"
        )
    if given.type not in TYPES:
        raise ConfigError(f"input: expected one of {', '.join(TYPES)}, got {given.type}")
    return given.name, TYPES[given.type]


def check_outputs(session: Any, names: Sequence[str]) -> list[str]:
    """The names of the outputs that the head gets: those named, or all.

    Raises:
        ConfigError: the model has no such output.
    """
    there = [given.name for given in session.get_outputs()]
    unknown = [name for name in names if name not in there]
    if unknown:
        raise ConfigError(f"settings.outputs: expected some of {', '.join(there)}, got {unknown[0]!r}")
    return list(names) or there


def _line(error: Exception) -> str:
    """An error's type and the first line of its message."""
    message = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {message}"[:200]


def settings_of(head: Head, given: Mapping[str, Any]) -> Settings:
    """A card's settings, and what its head's family has usually where the card says nothing.

    Raises:
        ConfigError: one is unknown, lacks or is out of its range; names it.
    """
    return parse(Settings, {**head.usual, **given}, where="settings")


@registry.register("onnx")
def from_card(card: Card, device: str) -> Onnx:
    """The detector that a card describes, ``onnx/`` and its head; its one file has the role ``model``.

    Raises:
        ConfigError: the card lacks its file or classes, has an unknown head or setting, or they do not fit the file.
        TransientError: its weights cannot be reached.
    """
    owner = f"card {card.name}"
    if set(card.weights) != {"model"} or not card.classes:
        raise ConfigError(f"{owner}: expected classes, and weights with the role model and no other")
    if card.input is not None:
        raise ConfigError(f"{owner}: input: expected none, as settings say what goes in: size_wh, resize, mean, std")
    path = weights.fetch(card.weights["model"], owner)
    try:
        head = onnx_heads.get(card.architecture.partition("/")[2])
        settings = settings_of(head, card.settings)
        return Onnx(path, head, card.classes, card.labels, card.score_min, settings, device)
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from error
