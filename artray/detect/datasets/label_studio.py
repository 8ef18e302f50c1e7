"""Label Studio's JSON export of a project: tasks with annotations, RectangleLabels in percent of the picture's sides.

Of several annotations of a task the first that was not cancelled counts. A turned rectangle becomes the box around it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

from artray.archive import listing
from artray.detect.datasets import texts
from artray.detect.datasets.published import NOWHERE, Box, Corners, Picture, Shelf, corners, number, size
from artray.detect.datasets.sources import BoxSource
from artray.errors import ConfigError

UPLOADED: Final = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of a picture that is uploaded."""


def read(shelf: Shelf, source: BoxSource) -> Iterator[Picture]:
    """Every task; further data of it (split, artist, ...) are its values.

    Raises:
        ConfigError: the path is no such export, or is its short form, JSON-MIN, which leaves things out.
    """
    tasks = texts.read_json(shelf.path, "a Label Studio export") if source.is_file else None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise ConfigError(
            f"{shelf.path}: expected Label Studio's export JSON, a list of tasks with data, got another form"
        )
    names: dict[str, list[str]] = {}
    for name in shelf.entries:
        names.setdefault(PurePosixPath(name).name, []).append(name)
    return (_picture(task, f"{texts.name(shelf.path)}: task {task.get('id')}", shelf, names) for task in tasks)


def _picture(task: Mapping[str, Any], where: str, shelf: Shelf, names: Mapping[str, list[str]]) -> Picture:
    data = task["data"] if isinstance(task["data"], dict) else {}
    values = {key: str(value) for key, value in data.items() if isinstance(value, str | int | float)}
    shown = (value for value in values.values() if value.lower().endswith(listing.SUFFIXES))
    file = _file(unquote(next(shown, "")), shelf, names)
    part = values.get("split") or values.get("part") or ""
    given = task.get("annotations")
    made = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    done = [each for each in made if not each.get("was_cancelled")]
    if not done or not file:
        problem = "nobody has labelled it yet" if file else "expected data with a picture's path, got none"
        return Picture(where, file, (), values, part, problem=problem)
    result = done[0].get("result")
    regions = [each for each in result if isinstance(each, dict)] if isinstance(result, list) else []
    regions = [each for each in regions if each.get("type") in ("rectanglelabels", "rectangle")]
    boxes = tuple(box for at, each in enumerate(regions, 1) for box in _boxes(each, f"{where}: region {at}"))
    size_wh = next((found for each in regions if (found := _size(each))), None)
    return Picture(where, file, boxes, values, part, size_wh, fractions=True)


def _file(path: str, shelf: Shelf, names: Mapping[str, list[str]]) -> str:
    """A task's picture: below the folder by the end of its path, else by its name if only one has it."""
    parts = PurePosixPath(path.partition("?d=")[2] or path).parts
    for start in range(len(parts)):
        if (name := "/".join(parts[start:])) in shelf.entries:
            return name
    own = parts[-1] if parts else ""
    found = names.get(own) or names.get(UPLOADED.sub("", own)) or []
    return found[0] if len(found) == 1 else own


def _size(region: Mapping[str, Any]) -> tuple[float, float] | None:
    return size(region.get("original_width"), region.get("original_height"))


def _boxes(region: Mapping[str, Any], where: str) -> Iterator[Box]:
    """A box for each of a region's labels."""
    value = region.get("value") if isinstance(region.get("value"), dict) else {}
    given = value.get("rectanglelabels") if value else None
    if not isinstance(given, list) or not given:
        yield Box(where, "", NOWHERE, problem="expected a label, got none")
        return
    problem = "" if not region.get("image_rotation") else "the picture was turned in Label Studio; turn it back there"
    found = _around(value or {}, _size(region) or (1.0, 1.0))
    for label in given:
        yield Box(where, str(label), found, problem=problem)


def _around(value: Mapping[str, Any], size_wh: tuple[float, float]) -> Corners:
    """The box around a rectangle, as fractions; it is turned clockwise about its upper left corner.

    >>> _around({"x": 50, "y": 50, "width": 20, "height": 10, "rotation": 90}, (100, 100))
    (0.4, 0.5, 0.5, 0.7)
    """
    x, y, width, height = corners(value.get(name) for name in ("x", "y", "width", "height"))
    angle = math.radians(number(value.get("rotation") or 0))
    along, down = math.cos(angle), math.sin(angle)
    wide, high = width * size_wh[0], height * size_wh[1]  # turned in pixels, which are square
    xs = (0.0, wide * along, -high * down, wide * along - high * down)
    ys = (0.0, wide * down, high * along, wide * down + high * along)
    found = (x + min(xs) / size_wh[0], y + min(ys) / size_wh[1], x + max(xs) / size_wh[0], y + max(ys) / size_wh[1])
    return corners(round(each / 100, 12) for each in found)
