"""Copies of a picture, by 22 kinds of change: (picture, kind, seed) -> uint8[H, W, 3].

Amounts are drawn anew for every picture, so that no threshold can be fitted to one of them.
"""

import io
import math
import zlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from artray.archive.sample.variation import colour_matrix

Pixels: TypeAlias = npt.NDArray[np.uint8]
Change: TypeAlias = Callable[[Pixels, np.random.Generator], Any]


def made(rgb: Pixels, kind: str, seed: int) -> Pixels:
    """The copy of a picture uint8[H, W, 3]; always the same for the same arguments."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    return np.ascontiguousarray(KINDS[kind](rgb, rng), dtype=np.uint8)


def scaled(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    scale = math.exp(rng.uniform(math.log(0.2), math.log(2.0)))
    return resize(rgb, max(24, round(rgb.shape[1] * scale)), max(24, round(rgb.shape[0] * scale)))


def resize(rgb: Pixels, width: int, height: int) -> Pixels:
    way = cv2.INTER_AREA if width < rgb.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=way), np.uint8)


def jpeg(rgb: Pixels, rng: np.random.Generator, qualities: tuple[int, int] = (5, 40)) -> Pixels:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=int(rng.integers(*qualities)))
    return np.asarray(Image.open(out).convert("RGB"), np.uint8)


def cropped(share: float) -> Change:
    """So much of either side cut off, more at one end than at the other."""

    def change(rgb: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = rgb.shape[:2]
        left, top = rng.uniform(0, share, 2)
        x, y = round(left * width), round(top * height)
        return rgb[y : y + round((1 - share) * height), x : x + round((1 - share) * width)]

    return change


def bordered(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """The margin of a page, wider below than above."""
    height, width = rgb.shape[:2]
    x, y, below = (rng.uniform(0.03, 0.15, 3) * [width, height, height]).astype(int).tolist()
    page = int(rng.integers(215, 256))
    tone = [page, page - int(rng.integers(0, 8)), page - int(rng.integers(0, 25))]
    return np.asarray(cv2.copyMakeBorder(rgb, y, below, x, x, cv2.BORDER_CONSTANT, value=tone), np.uint8)


def framed(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """A gilt or dark frame with a profile, and now and then the wall that it hangs on."""
    height, width = rgb.shape[:2]
    thick = max(3, int(rng.uniform(0.05, 0.12) * min(height, width)))
    dark, light = ((60, 40, 20), (215, 175, 95)) if rng.random() < 0.6 else ((15, 12, 10), (90, 70, 50))
    picture = rgb
    for step in range(thick):
        share = 0.5 + 0.5 * math.sin(step / thick * math.pi * rng.uniform(2.8, 3.2))
        tone = [a + (b - a) * share + rng.normal(0, 4) for a, b in zip(dark, light, strict=True)]
        picture = cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=tone)
    if rng.random() < 0.5:
        wall = int(0.05 * min(height, width))
        tone = rng.uniform(60, 220, 3).tolist()
        picture = cv2.copyMakeBorder(picture, wall, wall, wall, wall, cv2.BORDER_CONSTANT, value=tone)
    return np.asarray(picture, np.uint8)


def mirrored(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return rgb[:, ::-1]


def skewed(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Turned by 1 to 5 degrees; the corners show paper or the dark of a scanner."""
    height, width = rgb.shape[:2]
    degrees = rng.uniform(1, 5) * rng.choice([-1, 1])
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    tone = [int(rng.choice([10, 245]))] * 3
    return np.asarray(cv2.warpAffine(rgb, matrix, (width, height), borderValue=tone, flags=cv2.INTER_LINEAR), np.uint8)


def quartered(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Turned by 90, 180 or 270 degrees."""
    return np.rot90(rgb, int(rng.integers(1, 4)))


def grey(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


def sepia(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    tone = np.array([1.0, rng.uniform(0.8, 0.92), rng.uniform(0.55, 0.8)])
    return np.clip(grey(rgb, rng) * tone + 12, 0, 255).astype(np.uint8)


def hued(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    matrix = colour_matrix(rng.uniform(20, 90) * rng.choice([-1, 1]), rng.uniform(0.4, 1.6), 1.0)
    return np.asarray(cv2.transform(rgb, matrix), np.uint8)


def contrasted(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    factor = rng.choice([rng.uniform(0.35, 0.7), rng.uniform(1.4, 2.0)])
    return np.clip((rgb.astype(float) - 127.5) * factor + 127.5, 0, 255).astype(np.uint8)


def brightened(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return np.clip(rgb.astype(float) + rng.choice([-1, 1]) * rng.uniform(25, 70), 0, 255).astype(np.uint8)


def gamma(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    curve = 255 * (np.arange(256) / 255) ** math.exp(rng.choice([-1, 1]) * rng.uniform(0.4, 0.9))
    return np.asarray(cv2.LUT(rgb, np.rint(curve).astype(np.uint8)), np.uint8)


def blurred(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), rng.uniform(1.5, 5.0) * min(rgb.shape[:2]) / 400), np.uint8)


def noisy(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return np.clip(rgb + rng.normal(0, rng.uniform(10, 40), rgb.shape), 0, 255).astype(np.uint8)


def marked(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """A watermark across the picture, or a line of text on a band below."""
    image = Image.fromarray(rgb)
    height, width = rgb.shape[:2]
    if rng.random() < 0.5:
        layer = Image.new("L", (width, height), 0)
        font = ImageFont.load_default(size=max(12, width // 9))
        for line in range(3):
            place = (int(rng.uniform(0, 0.2) * width), int((line + rng.uniform(0.1, 0.6)) * height / 3))
            ImageDraw.Draw(layer).text(place, "© MUSEUM ARCHIVE", fill=int(rng.integers(90, 190)), font=font)
        return np.asarray(Image.composite(Image.new("RGB", image.size, "white"), image, layer), np.uint8)
    band = max(14, height // 12)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, height - band, width, height), fill=(250, 250, 245))
    pen.text(
        (8, height - band), f"Plate {rng.integers(1, 300)}. Photo archive, inv. {rng.integers(1e6)}", fill=(0, 0, 0)
    )
    return np.asarray(image, np.uint8)


def in_perspective(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Photographed from one side, and cut out at the corners as well as one can."""
    height, width = rgb.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.uniform(-0.05, 0.05, (4, 2)).astype(np.float32) * [width, height]
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return np.asarray(cv2.warpPerspective(rgb, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def faded(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """An old photograph of the work: grey, toned, of little contrast, cut a little, small, as a JPEG."""
    found = cropped(rng.uniform(0.01, 0.06))(sepia(rgb, rng), rng)
    found = np.clip(found * rng.uniform(0.5, 0.75) + rng.uniform(40, 80) + rng.normal(0, 6, found.shape), 0, 255)
    scale = rng.uniform(0.5, 0.8)
    small = resize(found.astype(np.uint8), round(found.shape[1] * scale), round(found.shape[0] * scale))
    return jpeg(small, rng, (40, 80))


KINDS: Final[dict[str, Change]] = {
    "scaled": scaled,
    "JPEG": jpeg,
    "cropped 5 %": cropped(0.05),
    "cropped 10 %": cropped(0.1),
    "cropped 20 %": cropped(0.2),
    "cropped 30 %": cropped(0.3),
    "border": bordered,
    "frame": framed,
    "mirrored": mirrored,
    "turned 1 to 5°": skewed,
    "turned 90 to 270°": quartered,
    "grey": grey,
    "sepia": sepia,
    "hue": hued,
    "contrast": contrasted,
    "brightness": brightened,
    "gamma": gamma,
    "blur": blurred,
    "noise": noisy,
    "text": marked,
    "perspective": in_perspective,
    "old photograph": faded,
}
