"""One file's bytes into upright RGB pixels, or the reason why not.

A format is known by its first bytes, never by a name. The size in the header is checked against the limits before
pixels are allocated; everything that a decoder may raise becomes a :class:`~artray.errors.RowError`, whose detail is
one line without paths or addresses, the same each time.

A museum's own formats are added with :func:`register`, by modules named in ``decode.plugins``.
"""

import functools
import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from numpy.typing import NDArray
from PIL import Image

from artray.archive import endings, jpeg, rasters, stills
from artray.archive.limits import OUT_OF_MEMORY, check_size
from artray.archive.rasters import Pixels, Raster
from artray.config import DecodeConfig
from artray.errors import ConfigError, RowError

HEAD_BYTES: Final = 4096
DETAIL_CHARACTERS: Final = 160
_UNSUPPORTED: Final = r"(?i)unsupported(?! marker)|not supported|unknown pixel mode"
"""In a decoder's message; libjpeg also says so of a marker that damage has made up."""

Matches: TypeAlias = Callable[[bytes], bool]
Decode: TypeAlias = Callable[[bytes, DecodeConfig], Raster]
Plugin: TypeAlias = "Callable[[bytes, DecodeConfig], Image.Image | NDArray[Any]]"


class Decoded(NamedTuple):
    """A picture as the stages see it."""

    pixels: Pixels  # uint8[H, W, 3] RGB, upright, longer side <= max_side_px, never enlarged
    width_px: int  # of the original, upright
    height_px: int


class Format(NamedTuple):
    """How a format is recognised by its first bytes, and decoded."""

    matches: Matches
    decode: Decode


def decode_bytes(data: bytes, cfg: DecodeConfig) -> Decoded:
    """Decode one file.

    Args:
        data: the whole file.
        cfg: the limits; its processes, timeout and plugins are the pool's affair.

    Raises:
        RowError: ``empty``, ``too_large``, ``unsupported``, ``truncated`` or ``corrupt``.
    """
    if not data:
        raise RowError("empty", "the file has no bytes")
    name = "the file"
    try:
        name, decode = _recognise(data)
        raster = decode(data, cfg)
        pixels = rasters.finish(raster, cfg.max_side_px)
    except RowError as error:
        raise RowError(error.kind, _line(error.detail)) from error
    except Exception as error:  # decoders raise anything
        raise RowError(*_explained(name, data, error)) from error
    width, height = raster.size_wh if raster.orientation < 5 else raster.size_wh[::-1]
    return Decoded(pixels, width, height)


def register(name: str, matches: Matches, decode: Plugin) -> None:
    """Add a format; it is asked before those that came earlier, so it may take over a kind of TIFF, say.

    Args:
        name: of the format, for error details.
        matches: whether the first 4,096 bytes of a file are of this format.
        decode: a file's bytes to a Pillow image (its ICC profile and EXIF orientation are honoured) or to an array
            uint8[H, W] or uint8[H, W, 3] of upright RGB; may raise anything, and RowError to choose the kind.

    Raises:
        ConfigError: a format of that name is registered already.
    """
    if name in _FORMATS:
        raise ConfigError(f"decoder {name}: expected a new name, got one of: {', '.join(_FORMATS)}")
    _FORMATS[name] = Format(matches, functools.partial(_foreign, decode))


def load_plugins(modules: Iterable[str]) -> None:
    """Import the modules that register decoders.

    Raises:
        ConfigError: one cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ConfigError:
            raise
        except Exception as error:
            reason = _line(f"{type(error).__name__}: {error}")
            raise ConfigError(f"decode.plugins: {module} cannot be imported ({reason})") from error


def _foreign(decode: Plugin, data: bytes, cfg: DecodeConfig) -> Raster:
    """A plugin's answer as a raster."""
    found = decode(data, cfg)
    if not isinstance(found, Image.Image):
        return rasters.from_array(found)
    check_size(found.size, 1, cfg)
    return rasters.from_image(found, cfg.max_side_px)


def _recognise(data: bytes) -> tuple[str, Decode]:
    """The name and decoder of the format that claims these first bytes.

    Raises:
        RowError: none does.
    """
    head = data[:HEAD_BYTES]
    for name, known in reversed(_FORMATS.items()):
        if known.matches(head):
            return name, known.decode
    if len(data) < 12 and any(magic.startswith(data) for magic in _MAGIC):
        raise RowError("truncated", "the file ends within its first bytes")
    what = next((what for magic, what in _NOT_DECODED if magic in head.lstrip()[:64]), "not an image known here")
    raise RowError("unsupported", what)


def _explained(name: str, data: bytes, error: Exception) -> tuple[str, str]:
    """The kind and the detail of a decoder's exception."""
    text = _line(f"{name}: {error}" if str(error) else f"{name}: {type(error).__name__}")
    if isinstance(error, MemoryError) or re.search(r"memory|MAX_TEXT", text):
        return "too_large", OUT_OF_MEMORY
    if endings.is_cut(name, data):
        return "truncated", text
    if isinstance(error, NotImplementedError) or re.search(_UNSUPPORTED, text):
        return "unsupported", text
    return ("truncated" if re.search(r"(?i)truncated|premature end of jpeg", text) else "corrupt"), text


def _line(text: str) -> str:
    """One short ASCII line, without paths and addresses."""
    text = re.sub(r"<[^<>]*>|0x[0-9a-fA-F]+|(?<!\S)\S*/\S*/\S*|(?<!\S)/\S+", "...", text)
    text = re.sub(r"[^ -~]+", " ", text)
    return " ".join(text.split())[:DETAIL_CHARACTERS]


def _brand(head: bytes, *brands: bytes) -> bool:
    """Whether an ISO media file's major or compatible brands include one of these."""
    if head[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(head[:4], "big"), 256)
    return any(head[at : at + 4] in brands for at in (8, *range(16, size, 4)))


def _avif(head: bytes) -> bool:
    return _brand(head, b"avif", b"avis")


def _heif(head: bytes) -> bool:
    return _brand(head, b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1") and not _avif(head)


def _bmp(head: bytes) -> bool:
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


def _starts(*magics: bytes) -> Matches:
    return lambda head: head.startswith(magics)


def _still(name: str, matches: Matches) -> tuple[str, Format]:
    return name, Format(matches, functools.partial(stills.decode, name))


_MAGIC: Final = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  \r\n\x87\n",
)
_NOT_DECODED: Final = (
    (b"%!PS", "PostScript is not decoded"),
    (b"\xc5\xd0\xd3\xc6", "PostScript is not decoded"),
    (b"%PDF", "PDF is not decoded"),
    (b"PK\x03\x04", "a ZIP file is not an image"),
    (b"<svg", "SVG is not decoded"),
    (b"<?xml", "an XML file is not an image known here"),
    (b"<!DOCTYPE", "a web page is not an image"),
    (b"<html", "a web page is not an image"),
    (b"ftyp", "a film is not an image"),
    (b"8BPS", "PSD is not decoded"),
)

_FORMATS: dict[str, Format] = dict(
    [
        ("jpeg", Format(_starts(b"\xff\xd8\xff"), jpeg.decode)),
        _still("png", _starts(b"\x89PNG\r\n\x1a\n")),
        _still("gif", _starts(b"GIF87a", b"GIF89a")),
        _still("tiff", _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        _still("webp", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
        _still("bmp", _bmp),
        _still("jpeg2000", _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
        _still("avif", _avif),
        _still("heif", _heif),
    ]
)
"""The registry, in the order of registration."""
