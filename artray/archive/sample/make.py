"""Write a sample archive: the shipped pictures, then variations of them, and what is known of each in works.csv."""

import csv
import functools
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from artray.archive.sample.defects import Defect, write_defects
from artray.archive.sample.works import Work, shipped
from artray.errors import ConfigError

if TYPE_CHECKING:
    from artray.archive.sample.drawing import Pixels
    from artray.archive.sample.variation import Recipe

METADATA: Final = "works.csv"
DEFECTS: Final = "defects"
COLUMNS: Final = ("image_id", *Work._fields[1:])
IMAGES_PER_FOLDER: Final = 64
MEGAPIXELS: Final = (1.0, 6.0)

Progress = Callable[[int, int], None]
"""Called with the number of files written so far, and of all."""


class Written(NamedTuple):
    """What a sample archive came to hold."""

    images: int
    size_bytes: int  # of the images
    defects: list[Defect]


class Picture(NamedTuple):
    """One picture that is about to be written."""

    image_id: str
    work: Work  # as works.csv will describe it
    content: Callable[[], bytes]


def write_archive(
    folder: str | Path,
    images: int,
    seed: int = 0,
    defects: int = 0,
    progress: Progress | None = None,
    *,
    megapixels: tuple[float, float] = MEGAPIXELS,
    plain_2mp: bool = False,
) -> Written:
    """Write ``images`` pictures below ``folder``, and ``works.csv`` with a row for each.

    First come the shipped pictures, byte for byte; beyond them, variations (crop, tone, hue, size, encoding; 85 %
    JPEG) in folders by number and artist. A picture depends on (seed, its number) alone, so a smaller archive of the
    same seed is a part of a larger one.

    Args:
        folder: a new or an empty folder; made where it is missing.
        images: at least 0.
        seed: at least 0.
        defects: so many broken files go into ``folder/defects``, on top of ``images``; works.csv leaves them out.
        progress: told of every picture, and once more when the broken files are written.
        megapixels: least and greatest size of a variation, in millions of pixels.
        plain_2mp: every picture, from the first, is a variation as a 2-megapixel RGB JPEG; ``megapixels`` is ignored.

    Raises:
        ConfigError: a number is out of range, or the folder holds something or cannot be written.
    """
    _check(images, seed, defects, megapixels)
    folder, report = Path(folder), progress or _silent
    pictures = plain_pictures(images, seed) if plain_2mp else mixed_pictures(images, seed, megapixels)
    try:
        _claim(folder)
        size_bytes = _write_pictures(folder, pictures, lambda done: report(done, images + defects))
        broken = write_defects(folder / DEFECTS, defects, seed) if defects else []
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{folder}: cannot be written ({reason}); make room there or give another folder") from error
    if broken:
        report(images + defects, images + defects)
    return Written(images, size_bytes, broken)


def mixed_pictures(images: int, seed: int, megapixels: tuple[float, float] = MEGAPIXELS) -> Iterator[Picture]:
    """The shipped pictures, then variations of all sizes and encodings, numbered on."""
    works = shipped()
    for work in works[:images]:
        yield Picture(work.file, work, work.path.read_bytes)
    if images > len(works):
        from artray.archive.sample import variation  # brings OpenCV, which the shipped pictures do without

        recipes = (variation.draw(seed, n, len(works), megapixels) for n in range(len(works), images))
        yield from _variations(works, recipes)


def plain_pictures(images: int, seed: int) -> Iterator[Picture]:
    """2-megapixel RGB JPEGs, all of them variations."""
    from artray.archive.sample import variation

    works = shipped()
    yield from _variations(works, (variation.draw_plain(seed, n, len(works)) for n in range(images)))


def _variations(works: tuple[Work, ...], recipes: Iterator["Recipe"]) -> Iterator[Picture]:
    read = functools.cache(_read_rgb)  # all shipped pictures decoded are about 80 MB
    for recipe in recipes:
        origin = works[recipe.work]
        yield Picture(
            _image_id(origin, recipe), _described(origin, recipe), functools.partial(_vary, recipe, origin, read)
        )


def _vary(recipe: "Recipe", origin: Work, read: Callable[[Path], "Pixels"]) -> bytes:
    from artray.archive.sample.encode import encode
    from artray.archive.sample.variation import render

    return encode(render(read(origin.path), recipe), recipe)


def _read_rgb(path: Path) -> "Pixels":
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _image_id(origin: Work, recipe: "Recipe") -> str:
    """Where the variation lies: ``0007/vincent-van-gogh/the-harvest-000512.jpg``."""
    folder = f"{recipe.number // IMAGES_PER_FOLDER:04d}/{slug(origin.artist)}"
    return f"{folder}/{slug(origin.title)}-{recipe.number:06d}{recipe.suffix}"


def _described(origin: Work, recipe: "Recipe") -> Work:
    note = f"variation of {origin.file}: cropped, toned, rescaled; {recipe.encoding}"
    return origin._replace(title=f"{origin.title} (variation {recipe.number})", note=note)


def slug(text: str) -> str:
    """Lower case ASCII letters and digits, joined by hyphens; at most 60 characters, never empty.

    >>> slug("Roses trémières (Hollyhocks)"), slug("?")
    ('roses-tremieres-hollyhocks', 'untitled')
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower())[:60].strip("-") or "untitled"


def _write_pictures(folder: Path, pictures: Iterator[Picture], report: Callable[[int], None]) -> int:
    """Write each picture and its row; returns the pictures' bytes."""
    size_bytes = 0
    with (folder / METADATA).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for done, picture in enumerate(pictures, 1):
            content = picture.content()
            path = folder / picture.image_id
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            rows.writerow((picture.image_id, *picture.work[1:]))
            size_bytes += len(content)
            report(done)
    return size_bytes


def _check(images: int, seed: int, defects: int, megapixels: tuple[float, float]) -> None:
    for name, value in (("images", images), ("seed", seed), ("defects", defects)):
        if value < 0:
            raise ConfigError(f"{name}: expected a number of at least 0, got {value}")
    if not 0 < megapixels[0] <= megapixels[1]:
        least, greatest = megapixels
        raise ConfigError(f"megapixels: expected 0 < least <= greatest, got {least:g} and {greatest:g}")


def _claim(folder: Path) -> None:
    """Make the folder, or take it if it is empty."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder, got a file; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    if first := next(folder.iterdir(), None):
        raise ConfigError(f"{folder}: expected a new or an empty folder, got one that holds {first.name}; give another")


def _silent(_done: int, _total: int) -> None:
    """Where nobody wants to know."""
