"""What artray looks for: types, genres, and 22 classes of objects in six categories.

The classes are those of the report's Table 1 (Object Detection), in lower case; every category but faces has an
"others" as its fallback. A class is a fine label, its category the coarse one. What other data sets call them is in
:mod:`artray.detect.labels`.
"""

import difflib
from types import MappingProxyType
from typing import Final, NamedTuple

from artray.errors import ConfigError

TYPES: Final = ("painting", "drawing")
GENRES: Final = ("genre painting", "history painting", "landscape", "portrait", "still life")

OBJECTS: Final = MappingProxyType(
    {
        "persons": ("angel", "child jesus", "crucifixion", "mary", "nudity", "saint sebastian"),
        "animals": ("cow", "cat", "cock", "dog", "horse", "duck"),
        "produce": ("flower", "fish", "meat", "fruit"),
        "structures": ("ruins", "ship", "building"),
        "landforms": ("water bodies", "hills", "mountains"),
        "faces": (),
    }
)
"""Category to its named classes."""


def fallback(category: str) -> str:
    """The class of an object of which only the category is known.

    >>> fallback("persons"), fallback("faces")
    ('persons (others)', 'face')
    """
    if category not in OBJECTS:
        raise KeyError(f"category: expected one of {tuple(OBJECTS)}, got {category!r}")
    return "face" if category == "faces" else f"{category} (others)"


CATEGORY: Final = MappingProxyType(
    {name: category for category, names in OBJECTS.items() for name in (*names, fallback(category))}
)
"""Class name to its category."""


def coarse(class_name: str) -> str:
    """The category of a class: the coarse label of a fine one.

    Raises:
        ConfigError: no such class.

    >>> coarse("cow"), coarse("animals (others)"), coarse("face")
    ('animals', 'animals', 'faces')
    """
    if class_name not in CATEGORY:
        near = difflib.get_close_matches(class_name.lower(), CATEGORY)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"class: expected one of {', '.join(CATEGORY)}, got {class_name!r}{hint}")
    return CATEGORY[class_name]


class Concept(NamedTuple):
    """What the vocabularies of art history call a class; "" where they have no concept of it, or none for certain."""

    aat: str
    """Identifier in the Getty Art & Architecture Thesaurus: http://vocab.getty.edu/aat/ and this."""
    iconclass: str
    """Notation in Iconclass: https://iconclass.org/ and this."""


CONCEPTS: Final = MappingProxyType(
    {
        # the AAT has concepts, not figures of the Bible nor saints
        "angel": Concept("300379004", "11G"),
        "child jesus": Concept("", "11D2"),
        "crucifixion": Concept("", "73D6"),  # of Christ; the AAT has the manner of execution only
        "mary": Concept("", "11F"),
        "nudity": Concept("300262617", "31A"),
        "saint sebastian": Concept("", "11H(SEBASTIAN)"),
        "persons (others)": Concept("300024979", "31"),
        "cow": Concept("300250116", "47I211"),  # cattle of either sex: the report's cows are Open Images' cattle
        "cat": Concept("300265960", "34B12"),
        "cock": Concept("300380127", "34B232"),  # Iconclass has cocks and hens in one
        "dog": Concept("300250130", "34B11"),
        "horse": Concept("300250148", "46C13141"),
        "duck": Concept("300250047", "25F36(DUCK)"),
        "animals (others)": Concept("300249525", "25F"),
        "flower": Concept("300132399", "25G41"),
        "fish": Concept("300266085", "25F6"),
        "meat": Concept("300389813", "41C69"),
        "fruit": Concept("300011868", "25G21"),
        "produce (others)": Concept("", "41C6"),
        "ruins": Concept("300008057", "48C149"),
        "ship": Concept("300082981", "46C21"),
        "building": Concept("300004792", "41A1"),
        "structures (others)": Concept("", ""),
        "water bodies": Concept("300266059", "25H2"),
        "hills": Concept("300008777", "25H113"),
        "mountains": Concept("300008795", "25H11"),
        "landforms (others)": Concept("300266060", "25H"),
        "face": Concept("300251798", "31A2211"),
    }
)
"""Class to its concept.

Source: Iconclass' own files (github.com/iconclass/data, 2026); for the AAT its English terms of October 2023
(github.com/cbinding/rematch2), the Metropolitan Museum's tags and, for landforms and buildings, gazetteers.
"""
