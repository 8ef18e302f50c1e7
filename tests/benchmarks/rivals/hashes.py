"""Perceptual hashes of other libraries: imagededup's four, and PDQ; whichever is installed."""

import importlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Method = Callable[[Any], Bytes]

NAMES: Final = ("PHash", "DHash", "WHash", "AHash", "PDQ")
DEFAULTS: Final = {"PHash": 10, "DHash": 10, "WHash": 10, "AHash": 10, "PDQ": 31}
"""Bits that duplicates differ in at most: imagededup's default; of PDQ's 256, what its authors recommend."""


def methods() -> dict[str, Method]:
    """Name to a function from a picture uint8[H, W, 3] RGB to its hash, as bytes."""
    found: dict[str, Method] = {}
    try:
        module = importlib.import_module("imagededup.methods")
    except ImportError:
        module = None
    if module is not None:
        found |= {name: _imagededup(getattr(module, name)(verbose=False)) for name in NAMES[:4]}
    try:
        pdqhash: Any = importlib.import_module("pdqhash")
    except ImportError:
        return found
    return found | {"PDQ": lambda picture: np.packbits(pdqhash.compute(picture)[0].astype(bool))}


def _imagededup(encoder: Any) -> Method:
    def encode(picture: Any) -> Bytes:
        return np.frombuffer(bytes.fromhex(encoder.encode_image(image_array=picture)), np.uint8)

    return encode


def imagededup_duplicates(name: str, hashes: Bytes, bits: int) -> set[tuple[int, int]]:
    """The pairs that imagededup itself finds among hashes uint8[N, 8], the lesser first."""
    encoder = getattr(importlib.import_module("imagededup.methods"), name)(verbose=False)
    encodings = {str(row): value.tobytes().hex() for row, value in enumerate(hashes)}
    found = encoder.find_duplicates(encoding_map=encodings, max_distance_threshold=bits, num_dist_workers=0)
    return {(min(int(a), int(b)), max(int(a), int(b))) for a, others in found.items() for b in others}


def cnn() -> str:
    """Why imagededup's CNN method is not measured, or "" where it could be."""
    try:
        importlib.import_module("imagededup.methods").CNN(verbose=False)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return ""
