"""How large a picture may be: asked with what its header says, before any pixel is allocated."""

from typing import Final

from artray.config import MIB, DecodeConfig
from artray.errors import RowError

OUT_OF_MEMORY: Final = "decoding it needs more memory than allowed"
"""Detail of the error of a decoder that ran out of memory on the way."""


def check_size(size_wh: tuple[int, int], bytes_per_pixel: float, cfg: DecodeConfig) -> None:
    """Refuse a picture that has no pixels, too many, or that needs more memory than allowed.

    Raises:
        RowError: ``corrupt`` or ``too_large``.
    """
    width, height = size_wh
    if width < 1 or height < 1:
        raise RowError("corrupt", f"{width} x {height} pixels: expected at least 1 x 1")
    if width * height > cfg.max_pixels:
        raise RowError("too_large", f"{width} x {height} pixels, over the limit of {cfg.max_pixels:,}")
    if (needed := width * height * bytes_per_pixel) > cfg.memory_bytes:
        have = cfg.memory_bytes // MIB
        raise RowError(
            "too_large", f"{width} x {height} pixels need {needed / MIB:.0f} MiB, over the limit of {have} MiB"
        )
