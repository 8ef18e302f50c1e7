"""Decoding of one file: every expected value is derived by hand or from another decoder."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from artray.archive import formats
from artray.archive.formats import decode_bytes
from artray.errors import ConfigError, RowError
from tests.encoded import CFG, LOSSLESS, encode, error, flat, photo, pixel, png

LOSSY = [
    ("JPEG", {"quality": 95}),
    ("JPEG", {"progressive": True}),
    ("AVIF", {"quality": 95}),
    ("WEBP", {"quality": 95}),
]
LOSSY += [("TIFF", {"compression": "jpeg"}), ("GIF", {})]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind, options):
    image = photo(80, 40)
    decoded = decode_bytes(encode(image, kind, **options), CFG)
    assert np.array_equal(decoded.pixels, np.asarray(image))
    assert decoded[1:] == (80, 40)


@pytest.mark.parametrize(("kind", "options"), LOSSY)
def test_lossy_formats_come_close(kind, options):
    image = flat("RGB", (200, 100, 50), (80, 40))
    decoded = decode_bytes(encode(image, kind, **options), CFG)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.owndata
    assert np.abs(decoded.pixels.astype(int) - (200, 100, 50)).max() <= 4


def test_heif_where_it_is_installed():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(flat("RGB", (200, 100, 50), (64, 32))).save(buffer, quality=95)
    assert np.abs(np.array(pixel(buffer.getvalue())) - (200, 100, 50)).max() <= 4


def test_heif_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert error(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "unsupported"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "JPEG2000", "BMP"])
@pytest.mark.parametrize(
    ("size", "shape"), [((1600, 1200), (480, 640)), ((1200, 1600), (640, 480)), ((641, 3), (3, 640))]
)
def test_the_longer_side_is_exactly_the_limit(kind, size, shape):
    decoded = decode_bytes(encode(photo(1600, 1200).resize(size), kind), CFG)
    assert decoded.pixels.shape == (*shape, 3)
    assert (decoded.width_px, decoded.height_px) == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "AVIF", "JPEG2000"])
def test_one_pixel(kind):
    assert decode_bytes(encode(flat("RGB", "white", (1, 1)), kind), CFG).pixels.shape == (1, 1, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_strip_keeps_a_pixel_of_height(kind):
    decoded = decode_bytes(encode(flat("RGB", (255, 0, 0), (20000, 10)), kind), CFG)
    assert decoded.pixels.shape == (1, 640, 3)
    assert decoded[1:] == (20000, 10)


@pytest.mark.parametrize(("width", "height"), [(1600, 1250), (2800, 2200), (1000, 700), (5300, 200)])
def test_scaled_jpeg_equals_the_full_decode_resized(width, height):
    """Pillow decodes all of it and averages areas; a reduced transform and bilinear resizing stay close to that."""
    data = encode(photo(width, height), "JPEG", quality=92)
    ours = decode_bytes(data, CFG).pixels
    theirs = Image.open(io.BytesIO(data)).resize(ours.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(ours.astype(int) - np.asarray(theirs)).mean() < 1.5


def test_content_decides_and_not_the_name():
    polyglot = encode(flat("RGB", (1, 2, 3)), "PNG") + b"\xff\xd8\xff<svg>%PDF PK\x03\x04"
    assert pixel(polyglot) == [1, 2, 3]


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("L", 77, "PNG", [77, 77, 77]),
        ("L", 77, "JPEG", [77, 77, 77]),
        ("1", 1, "PNG", [255, 255, 255]),
        ("1", 0, "TIFF", [0, 0, 0]),
        ("LA", (0, 128), "PNG", [127, 127, 127]),  # black at 128 / 255 over white: 255 * 127 / 255
        ("RGBA", (255, 0, 0, 128), "PNG", [255, 127, 127]),
        ("RGBA", (255, 0, 0, 128), "TIFF", [255, 127, 127]),
        ("RGBA", (9, 9, 9, 0), "WEBP", [255, 255, 255]),
        ("CMYK", (255, 0, 0, 0), "TIFF", [0, 255, 255]),  # full cyan ink takes all red
        ("CMYK", (0, 0, 0, 255), "TIFF", [0, 0, 0]),
        ("CMYK", (0, 0, 0, 0), "JPEG", [255, 255, 255]),  # no ink is paper: Adobe's inversion undone
        ("CMYK", (0, 255, 255, 0), "JPEG", [255, 0, 0]),
        ("LAB", (255, 128, 128), "TIFF", [255, 255, 255]),  # L* = 100, a* = b* = 0
        ("LAB", (0, 128, 128), "TIFF", [0, 0, 0]),
        ("F", 0.5, "TIFF", [128, 128, 128]),  # 127.5 to even
        ("F", 51.0, "TIFF", [51, 51, 51]),
        ("I;16", 32768, "PNG", [128, 128, 128]),  # its high byte
        ("I;16", 65535, "PNG", [255, 255, 255]),
        ("I;16", 32768, "TIFF", [128, 128, 128]),
        ("I", 65535, "TIFF", [255, 255, 255]),
    ],
)
def test_colours(mode, colour, kind, expected):
    assert np.abs(np.array(pixel(encode(flat(mode, colour), kind))) - expected).max() <= (
        2 if kind == "JPEG" else mode == "LAB"
    )


def test_lab_is_reduced_without_wrapping():
    """a* and b* alternate about 0, which is 255 and 0 as signed bytes: their average is grey, not a strong colour."""
    lab = np.tile(np.array([[180, 127, 127], [180, 129, 129]], np.uint8), (4, 640, 1))
    image = Image.merge("LAB", [Image.fromarray(lab[:, :, band]) for band in range(3)])
    decoded = decode_bytes(encode(image, "TIFF"), CFG).pixels
    assert decoded.shape == (2, 640, 3)
    assert np.ptp(decoded.astype(int), axis=2).max() <= 4


def test_sixteen_bit_rgb_png():
    body = zlib.compress(b"\0" + struct.pack(">3H", 65535, 32768, 0))
    assert pixel(png(1, 1, 16, 2, body)) == [255, 128, 0]


def test_float_beyond_every_range_spans_its_own():
    values = np.array([[-1e6, 0, 1e6, np.nan]], np.float32)
    assert decode_bytes(encode(Image.fromarray(values), "TIFF"), CFG).pixels[0, :, 0].tolist() == [0, 128, 255, 0]


def test_palette_with_transparency_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    assert decode_bytes(encode(image, "PNG", transparency=1), CFG).pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert pixel(encode(image, "GIF")) == [10, 20, 30]


def test_transparency_and_palettes_are_averaged_after_conversion():
    """Columns alternate opaque black and clear, 2:1 reduced: half of each is mid grey; averaged indices not."""
    image = Image.new("P", (1280, 2))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putdata([0, 1] * 1280)
    shades = decode_bytes(encode(image, "PNG", transparency=1), CFG).pixels
    assert shades.shape == (1, 640, 3)
    assert set(shades.ravel().tolist()) <= {127, 128}


def test_first_frame_and_first_page():
    frames = [flat("RGB", colour) for colour in ("red", "blue")]
    for kind in ("GIF", "TIFF", "WEBP"):
        more = {"lossless": True} if kind == "WEBP" else {}
        assert pixel(encode(frames[0], kind, save_all=True, append_images=frames[1:], **more)) == [255, 0, 0]


def test_large_pictures_are_reduced_strip_by_strip(monkeypatch):
    image = photo(1300, 200)
    whole = decode_bytes(encode(image, "PNG"), CFG).pixels
    monkeypatch.setattr("artray.archive.rasters.STRIP_PIXELS", 5000)
    assert np.array_equal(decode_bytes(encode(image, "PNG"), CFG).pixels, whole)


# The picture upright is red over green; each row says how a camera that recorded this orientation stored it.
R, G, B, W = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]
UPRIGHT = [[R, G], [B, W], [R, R]]
STORED = {
    1: [[R, G], [B, W], [R, R]],
    2: [[G, R], [W, B], [R, R]],  # mirrored left to right
    3: [[R, R], [W, B], [G, R]],  # upside down
    4: [[R, R], [B, W], [R, G]],  # mirrored top to bottom
    5: [[R, B, R], [G, W, R]],  # rows are columns
    6: [[G, W, R], [R, B, R]],  # turn right to see it: its left column is the top row, read upwards
    7: [[R, W, G], [R, B, R]],
    8: [[R, B, R], [R, W, G]],  # turn left to see it
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation(kind, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(np.array(STORED[orientation], np.uint8))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    decoded = decode_bytes(encode(stored, kind, exif=exif, **options), CFG)
    assert decoded.pixels.tolist() == UPRIGHT
    assert (decoded.width_px, decoded.height_px) == (2, 3)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
def test_orientation_turns_reduced_pictures_too(kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = flat("RGB", "blue", (1600, 1000))
    stored.paste("red", (0, 0, 400, 1000))  # the left of what is stored is the top
    decoded = decode_bytes(encode(stored, kind, exif=exif), CFG)
    assert decoded.pixels.shape == (640, 400, 3)
    assert (decoded.width_px, decoded.height_px) == (1000, 1600)
    assert decoded.pixels[10, 200, 0] > 200
    assert decoded.pixels[-10, 200, 2] > 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_is_no_exif(kind, exif):
    assert decode_bytes(encode(flat("RGB", "white"), kind, exif=exif), CFG).pixels.shape == (4, 8, 3)


def swapped_profile():
    """A profile whose red primary is sRGB's green and the other way round."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_icc_profiles_are_applied(kind):
    data = encode(flat("RGB", (255, 0, 0)), kind, icc_profile=swapped_profile())
    assert np.abs(np.array(pixel(data)) - (0, 255, 0)).max() <= 4


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
@pytest.mark.parametrize("icc", [b"garbage", b"\0" * 200, swapped_profile()[:300]])
def test_damaged_profiles_are_ignored(mode, icc):
    assert decode_bytes(encode(flat(mode, 0), "JPEG", icc_profile=icc), CFG).pixels.shape == (4, 8, 3)


def test_profiles_of_another_colour_space_are_ignored():
    cmyk = flat("CMYK", (255, 0, 0, 0))
    assert pixel(encode(cmyk, "TIFF", icc_profile=swapped_profile())) == [0, 255, 255]


def test_srgb_under_any_name_changes_nothing():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert pixel(encode(flat("RGB", (12, 34, 56)), "PNG", icc_profile=srgb)) == [12, 34, 56]


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(formats, "_FORMATS", dict(formats._FORMATS))


@pytest.mark.usefixtures("registry")
def test_plugins_are_asked_first_and_may_return_arrays_or_images():
    formats.register(
        "array", lambda head: head.startswith(b"II*\0ARRAY"), lambda _data, _cfg: np.full((2, 3), 9, np.uint8)
    )
    formats.register("image", lambda head: head.startswith(b"IMAGE"), lambda _data, _cfg: flat("RGBA", (0, 0, 0, 0)))
    assert decode_bytes(b"II*\0ARRAY", CFG).pixels.tolist() == [[[9, 9, 9]] * 3] * 2
    assert pixel(b"IMAGE") == [255, 255, 255]
    with pytest.raises(ConfigError, match="decoder array: expected a new name"):
        formats.register("array", lambda _head: True, lambda _data, _cfg: flat("L", 0))


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "wrong", [None, np.zeros((2, 2), np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_plugins_that_return_anything_else(wrong):
    formats.register("wrong", lambda head: head == b"WRONG", lambda _data, _cfg: wrong)
    assert error(b"WRONG") == "corrupt"


@pytest.mark.usefixtures("registry")
def test_details_have_no_paths_and_no_addresses():
    def failing(_data, _cfg):
        raise OSError(2, "cannot open\n/srv/secret/x.bin", f"<object at {id(CFG):#x}>")

    formats.register("failing", lambda head: head == b"FAIL", failing)
    with pytest.raises(RowError, match=r"corrupt: failing: \[Errno 2\] cannot open") as caught:
        decode_bytes(b"FAIL", CFG)
    assert "secret" not in caught.value.detail
    assert "0x" not in caught.value.detail


def test_plugins_that_cannot_be_imported():
    with pytest.raises(ConfigError, match=r"decode\.plugins: no_such_module cannot be imported \(ModuleNotFoundError"):
        formats.load_plugins(["no_such_module"])


def test_neither_torch_nor_ray_is_imported():
    code = "import sys, artray.archive.decode_worker, artray.archive.formats, artray.archive.pool; "
    code += "sys.exit(bool({'torch', 'ray', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
