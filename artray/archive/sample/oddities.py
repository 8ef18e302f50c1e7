"""Write pictures that are unusual but good: odd encodings, odd sizes, odd names. Every one opens with Pillow."""

import os
import struct
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image, features

from artray.archive.sample.encode import encode_16_bit, orientation_exif, save
from artray.archive.sample.works import FOLDER

SIDE_PX: Final = 96
ORIGIN: Final = "wp_morisot_daffodils.jpg"

CORNERS_LAB: Final = (
    (95, 0, -2),  # paper
    (89, -5, 93),  # yellow
    (48, 74, -3),  # magenta
    (47, 68, 48),  # magenta and yellow: red
    (55, -37, -50),  # cyan
    (50, -68, 27),  # cyan and yellow: green
    (24, 17, -46),  # cyan and magenta: blue
    (23, 0, 0),  # all three
)
"""What inks look like over each other, about as on coated paper; black over each is a sixth as light, and grey."""


def write_oddities(folder: str | Path) -> list[Path]:
    """Write one good picture of every unusual kind below ``folder``; returns their paths in order.

    WebP, AVIF and JPEG 2000 are left out where this Pillow lacks them.

    Args:
        folder: made where it is missing; files of the same names are replaced.
    """
    folder = Path(folder)
    image = sample_picture()
    contents = {name: write(image) for name, write in ENCODINGS.items() if _can_write(name)}
    contents |= {name: save(image, "jpeg", quality=90) for name in NAMES}
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [folder / name for name in contents]


def sample_picture() -> Image.Image:
    """A shipped painting, at most ``SIDE_PX`` a side, RGB."""
    with Image.open(FOLDER / "images" / ORIGIN) as image:
        small: Image.Image = image.convert("RGB")
    small.thumbnail((SIDE_PX, SIDE_PX))
    return small


def cmyk_profile() -> bytes:
    """A small but valid ICC profile of a CMYK press: nothing but a table from ink to Lab with two nodes for each ink.

    Source: ICC.1:2001-04, sections 6.1 (header), 6.3.1 (tag table) and 6.5.7 (lut8Type).
    """
    text = b"text" + bytes(4) + b"public domain\0\0\0"
    description = b"desc" + bytes(4) + struct.pack(">I", 12) + b"sample CMYK\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)  # D50, in 65,536ths
    tags = {b"desc": description, b"cprt": text, b"wtpt": white, b"A2B0": _lut8()}
    directory, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        directory += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4s4s4s4s4s", start + len(body), bytes(4), b"\x02\x40\0\0", b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + directory + body


def _lut8() -> bytes:
    """Four inks in, Lab out, straight curves, two grid points a side: the 16 corners are all there is."""
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    straight = bytes(range(256))
    nodes = bytes(value for lab in CORNERS_LAB for value in _lab8(*lab) + _lab8(lab[0] / 6, 0, 0))
    return b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + straight * 4 + nodes + straight * 3


def _lab8(lightness: float, a: float, b: float) -> bytes:
    """Lab in 8 bits each: 0 to 100 becomes 0 to 255, -128 to 127 likewise."""
    return bytes([round(2.55 * lightness), round(128 + a), round(128 + b)])


def _grey(image: Image.Image) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.asarray(image.convert("L"))


def _pages(image: Image.Image) -> list[Image.Image]:
    """The other frames of an animation or pages of a document: the picture turned."""
    return [image.rotate(angle) for angle in (90, 180, 270)]


def _with_alpha(image: Image.Image) -> Image.Image:
    """The picture, clear on the left and solid on the right."""
    ramp = Image.linear_gradient("L").rotate(90).resize(image.size)
    result = image.copy()
    result.putalpha(ramp)
    return result


def _corrupt_exif() -> bytes:
    """EXIF whose only directory has an entry that points beyond its end, and whose orientation is 99."""
    entries = struct.pack("<HHII", 0x010F, 2, 1_000_000, 0xFFFFFF00) + struct.pack("<HHII", 0x0112, 3, 1, 99)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + b"\xff\xff"


def _can_write(name: str) -> bool:
    needed = {".webp": "webp", ".avif": "avif", ".jp2": "jpg_2000"}.get(Path(name).suffix)
    return needed is None or bool(features.check(needed))


ENCODINGS: Final[Mapping[str, Callable[[Image.Image], bytes]]] = MappingProxyType(
    {
        "one-pixel.png": lambda im: save(im.resize((1, 1)), "png"),
        "strip-20000x10.jpg": lambda im: save(im.resize((20_000, 10)), "jpeg"),
        "cmyk.jpg": lambda im: save(im.convert("CMYK"), "jpeg"),
        "cmyk-profile.jpg": lambda im: save(im.convert("CMYK"), "jpeg", icc_profile=cmyk_profile()),
        "cmyk.tif": lambda im: save(im.convert("CMYK"), "tiff", icc_profile=cmyk_profile()),
        "grey.jpg": lambda im: save(im.convert("L"), "jpeg"),
        "bilevel.tif": lambda im: save(im.convert("1"), "tiff", compression="group4"),
        "palette.png": lambda im: save(im.quantize(16), "png"),
        "palette-transparent.png": lambda im: save(im.quantize(16), "png", transparency=0),
        "alpha.png": lambda im: save(_with_alpha(im), "png"),
        "grey-alpha.png": lambda im: save(_with_alpha(im).convert("LA"), "png"),
        "16-bit.png": lambda im: encode_16_bit(np.asarray(im), ".png"),
        "16-bit-grey.png": lambda im: encode_16_bit(_grey(im), ".png"),
        "16-bit.tif": lambda im: encode_16_bit(np.asarray(im), ".tiff"),
        "16-bit-grey.tif": lambda im: encode_16_bit(_grey(im), ".tiff"),
        "turned.jpg": lambda im: save(im.transpose(Image.Transpose.ROTATE_90), "jpeg", exif=orientation_exif(6)),
        "corrupt-exif.jpg": lambda im: save(im, "jpeg", exif=_corrupt_exif()),
        "corrupt-profile.jpg": lambda im: save(im, "jpeg", icc_profile=b"this is no ICC profile" * 20),
        "progressive.jpg": lambda im: save(im, "jpeg", progressive=True),
        "really-a-png.jpg": lambda im: save(im, "png"),
        "really-a-jpeg.tif": lambda im: save(im, "jpeg"),
        "animated.gif": lambda im: save(im, "gif", save_all=True, append_images=_pages(im), duration=100),
        "pages.tif": lambda im: save(im, "tiff", save_all=True, append_images=_pages(im)),
        "picture.webp": lambda im: save(im, "webp", quality=80),
        "picture.avif": lambda im: save(im, "avif", quality=70),
        "picture.jp2": lambda im: save(im, "jpeg2000"),
        "picture.bmp": lambda im: save(im, "bmp"),
    }
)
"""File name to what writes it from a small RGB picture."""

NAMES: Final = (
    "with some  spaces .jpg",
    unicodedata.normalize("NFC", "Café Müller 夜.jpg"),
    unicodedata.normalize("NFD", "Café Müller 夜.jpg"),  # looks the same, is another file (but not on a Mac)
    "two\nlines.jpg",
    "percent%20encoded.jpg",
    "a 100 % sign? & hash#mark+plus=.jpg",
    'it\'s "quoted".jpg',
    "back\\slash.jpg",
    "a..b.jpg",
    "..hidden/picture.jpg",
    "folder.jpg/picture.jpg",
    "-rf.jpg",
    "*.jpg",
    "{braces}[brackets].jpg",
    "key=value/picture.jpg",
    "s3:/bucket/picture.jpg",
    "UPPER.JPG",
    os.fsdecode(b"D\xfcrer in Latin-1.jpg"),  # no UTF-8; Python writes such bytes as surrogates
    "n" * 251 + ".jpg",  # 255 bytes: as long as a name can be
    "/".join(["deep"] * 40) + "/picture.jpg",
)
"""Names under which the same good JPEG is written."""
