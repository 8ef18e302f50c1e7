"""What artray looks for: types, genres, and 22 classes of objects in six categories.

The classes are those of the report's Table 1 (Object Detection); every category but faces has an "others" as its
fallback.
"""

from types import MappingProxyType
from typing import Final

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
