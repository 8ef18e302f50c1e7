"""Darknet's ``.cfg`` files: what a network is made of.

What YOLO9000 and YOLOv2 are made of is known: convolutions, maximum pooling, routes, reorganisation, and one region
layer at the end. Other sections are refused.

Source: ``src/parser.c`` and ``src/option_list.c`` of github.com/pjreddie/darknet at f6afaab.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from artray.errors import ConfigError

COLOURS: Final = 3

COORDINATES: Final = 4

BEFORE_CLASSES: Final = COORDINATES + 1
"""Numbers of a box before those of its classes: x, y, w, h and objectness."""

MOST: Final = 1_000_000
"""Of any number of a network: more is a mistake, and more memory than there is."""

TRAINING: Final = frozenset(
    (
        *("absolute", "bias_match", "class_scale", "classfix", "coord_scale", "jitter", "log", "map", "mask_scale"),
        *("max", "noobject_scale", "object_scale", "random", "rescore", "sqrt", "thresh"),
    )
)
"""Options of a region layer that do nothing when it looks at an image."""

OPTIONS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "convolutional": frozenset(["activation", "batch_normalize", "filters", "pad", "padding", "size", "stride"]),
        "maxpool": frozenset(["padding", "size", "stride"]),
        "route": frozenset({"layers"}),
        "reorg": frozenset({"stride"}),
        "region": frozenset(["anchors", "classes", "coords", "num", "softmax", "tree"]) | TRAINING,
    }
)
"""What a section may say; more would be another network."""


class Section(NamedTuple):
    """A section of a ``.cfg``."""

    kind: str
    line: int
    """Its heading's, from 1 on."""
    options: Mapping[str, tuple[str, int]]
    """Value and line by key."""

    def text(self, key: str, default: str = "") -> str:
        """An option's value without blanks."""
        return self.options.get(key, (default, 0))[0]

    def number(self, key: str, default: int, least: int = 0) -> int:
        """An option's value, a whole number.

        Raises:
            ConfigError: it is none, less than ``least``, or more than any network has.
        """
        text = self.text(key, str(default))
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= MOST:
            raise self.wrong(key, f"a whole number, from {least} to {MOST:,}")
        return number

    def wrong(self, key: str, expected: str) -> ConfigError:
        """That an option is not as expected."""
        text, line = self.options.get(key, ("", self.line))
        got = f"{text[:80]!r} in line {line}" if key in self.options else "none"
        return ConfigError(f"[{self.kind}] in line {self.line}: {key}: expected {expected}, got {got}")


class Region(NamedTuple):
    """How the last layer's numbers are to be read."""

    anchors_wh: tuple[tuple[float, float], ...]
    """Widths and heights of the boxes that a cell starts from, in cells."""
    num_classes: int
    is_softmax: bool
    """Whether classes exclude each other."""
    is_tree: bool
    """Whether they are a tree's nodes."""


class Cfg(NamedTuple):
    """What a ``.cfg`` says of a network."""

    size_wh: tuple[int, int]
    """Width and height of its input, pixels."""
    sections: tuple[Section, ...]
    """Its layers, the region layer excepted."""
    region: Region


def read_cfg(path: Path) -> Cfg:
    """A network's description.

    Raises:
        ConfigError: it cannot be read, or says what is not known here; names section and line.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path}: cannot be read ({type(error).__name__})") from error
    except ConfigError as error:
        raise ConfigError(f"config {path}: {error}") from error


def parse(text: str) -> Cfg:
    """A network's description, of a ``.cfg``'s text.

    Raises:
        ConfigError: it says what is not known here; names section and line.
    """
    found = sections(text)
    if not found or found[0].kind not in ("net", "network"):
        raise ConfigError(f"line {found[0].line if found else 1}: expected a section [net] first")
    net, layers = found[0], found[1:]
    for section in layers:
        _check(section)
    size_wh = net.number("width", 0, least=32), net.number("height", 0, least=32)
    if net.number("channels", 0) != COLOURS:
        raise net.wrong("channels", str(COLOURS))
    if not layers or layers[-1].kind != "region":
        last = layers[-1] if layers else net
        raise ConfigError(f"[{last.kind}] in line {last.line}: expected a section [region] last")
    early = next((section for section in layers[:-1] if section.kind == "region"), None)
    if early is not None:
        raise ConfigError(f"[region] in line {early.line}: expected nothing after it, got more sections")
    return Cfg(size_wh, tuple(layers[:-1]), _region(layers[-1]))


def sections(text: str) -> list[Section]:
    """The sections of a ``.cfg``: of an option that is there twice the first value counts.

    Raises:
        ConfigError: a line that is neither a heading, nor an option, nor a comment.

    >>> sections(chr(10).join(["[net]", "# of the input", "width = 64", "width = 32"]))
    [Section(kind='net', line=1, options={'width': ('64', 3)})]
    """
    found: list[tuple[str, int, dict[str, tuple[str, int]]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = "".join(line.split())  # as Darknet does: it has no blanks within values
        key, equals, value = stripped.partition("=")
        if stripped.startswith("["):
            found.append((stripped.strip("[]"), number, {}))
        elif stripped and stripped[0] not in "#;":
            if not (found and key and equals):
                raise ConfigError(f"line {number}: expected key=value below a [section], got {line.strip()[:60]!r}")
            found[-1][2].setdefault(key, (value, number))
    return [Section(kind, number, options) for kind, number, options in found]


def _check(section: Section) -> None:
    """Raises ConfigError where a section or an option of it is not known."""
    if section.kind not in OPTIONS:
        raise ConfigError(
            f"[{section.kind}] in line {section.line}: expected one of {', '.join(OPTIONS)}; "
            f"other networks run as ONNX files: see the architectures onnx/..."
        )
    known = OPTIONS[section.kind]
    for key, (_, line) in section.options.items():
        if key not in known:
            raise ConfigError(
                f"[{section.kind}] in line {section.line}: expected options of {', '.join(sorted(known))}, "
                f"got {key!r} in line {line}"
            )


def _region(section: Section) -> Region:
    """The region layer.

    Raises:
        ConfigError: it has other numbers per box than four and its objectness, or anchors that are none.
    """
    if section.number("coords", COORDINATES) != COORDINATES:
        raise section.wrong("coords", str(COORDINATES))
    num, num_classes = section.number("num", 1, least=1), section.number("classes", 20, least=1)
    try:
        sides = [float(side) for side in section.text("anchors").split(",")]
    except ValueError:
        sides = []
    if len(sides) != 2 * num or not all(0 < side < np.inf for side in sides):
        raise section.wrong("anchors", f"{num} widths and heights (num={num})")
    anchors = tuple(zip(sides[::2], sides[1::2], strict=True))
    return Region(anchors, num_classes, section.number("softmax", 0) != 0, "tree" in section.options)
