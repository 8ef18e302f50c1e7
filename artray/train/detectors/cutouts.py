"""Cut-outs with alpha, by lot: for classes that too few boxes were drawn of."""

import io
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import Image as Pillow

from artray.detect import labels
from artray.detect.composite import OPAQUE, CutOut
from artray.detect.datasets import texts
from artray.detect.detector import Image
from artray.errors import ConfigError
from artray.location import Location
from artray.train.detectors.profile import PasteConfig


class CutOuts:
    """Cut-outs of the classes that are learned: a class by lot, each as often, then one of the class.

    Args:
        cfg: where they are.
        class_names: C of them; cut-outs of others are not taken.

    Raises:
        ConfigError: the table cannot be read, or there is none of these classes that can be used.
        TransientError: the storage does not answer.
    """

    def __init__(self, cfg: PasteConfig, class_names: Sequence[str]) -> None:
        self.most, self.left_out = cfg.most, list[str]()
        table, known = Location.of(cfg.cutouts), labels.load(cfg.labels)
        folder = Location(table.uri.rpartition("/")[0])
        self.files: dict[int, list[str]] = {}
        for line, row in texts.table(table, "a table of cut-outs", ("file", "class")):
            name = known[row["class"]]
            if name is None or name not in class_names:
                continue
            uri = (folder / str(PurePosixPath(row["file"]))).uri
            if problem := _problem(uri):
                self.left_out.append(f"{texts.name(table)} line {line} ({row['file']}): {problem}")
            else:
                self.files.setdefault(class_names.index(name), []).append(uri)
        if not self.files:
            raise ConfigError(f"augment.paste: expected cut-outs of {', '.join(class_names)}, found none in {table}")
        self._ids = sorted(self.files)

    def __call__(self, random: np.random.Generator) -> list[CutOut]:
        """From one to ``most``.

        Raises:
            ConfigError: one cannot be read any more.
        """
        chosen = [self._ids[int(each)] for each in random.integers(len(self._ids), size=random.integers(self.most) + 1)]
        uris = [self.files[each][int(random.integers(len(self.files[each])))] for each in chosen]
        return [CutOut(_read(uri), class_id) for uri, class_id in zip(uris, chosen, strict=True)]


def _problem(uri: str) -> str:
    """Why a picture is no cut-out; "" where it is one."""
    try:
        alpha = _read(uri)[..., 3]
    except ConfigError as error:
        return str(error)
    if alpha.min() >= OPAQUE:
        return "has no ground that is transparent"
    return "" if alpha.max() >= OPAQUE else "has nothing that is opaque"


def _read(uri: str) -> Image:
    """uint8[H, W, 4] RGB and alpha.

    Raises:
        ConfigError: no such picture.
    """
    try:
        with Pillow.open(io.BytesIO(Location(uri).read_bytes())) as picture:
            pixels: Image = np.asarray(picture.convert("RGBA"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError(f"{uri}: expected a picture with alpha: {error}; correct augment.paste.cutouts") from error
    return pixels
