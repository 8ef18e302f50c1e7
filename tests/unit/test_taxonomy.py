"""The classes of the report's Table 1: 22 named ones in six categories."""

import re

import pytest

from artray import taxonomy
from artray.errors import ConfigError


def test_the_classes_of_the_report() -> None:
    named = [name for names in taxonomy.OBJECTS.values() for name in names]
    assert len(named) == len(set(named)) == 22
    assert len(taxonomy.OBJECTS) == 6
    # each of the five categories with named classes has its "others"; faces has "face"
    assert len(taxonomy.CATEGORY) == 22 + 5 + 1
    assert taxonomy.CATEGORY["face"] == "faces"
    assert taxonomy.CATEGORY["animals (others)"] == "animals"
    assert all(taxonomy.CATEGORY[taxonomy.fallback(category)] == category for category in taxonomy.OBJECTS)


def test_an_unknown_category_is_named() -> None:
    with pytest.raises(KeyError, match=r"expected one of .*'persons'.*, got 'people'"):
        taxonomy.fallback("people")


def test_nobody_changes_the_classes() -> None:
    with pytest.raises(TypeError):
        taxonomy.CATEGORY["dragon"] = "animals"  # type: ignore[index]


def test_the_names_are_those_of_table_1() -> None:
    """Word for word and in its order, but for case and for what its "Others" are called."""
    table_1 = {
        "Persons": "Angel, Child Jesus, Crucifixion, Mary, Nudity, Saint Sebastian",
        "Animals": "Cow, Cat, Cock, Dog, Horse, Duck",
        "Produce": "Flower, Fish, Meat, Fruit",
        "Structures": "Ruins, Ship, Building",
        "Landforms": "Water Bodies, Hills, Mountains",
        "Faces": "",
    }
    assert {category: ", ".join(names) for category, names in taxonomy.OBJECTS.items()} == {
        category.lower(): names.lower() for category, names in table_1.items()
    }
    assert list(taxonomy.OBJECTS) == [category.lower() for category in table_1]


def test_coarse_labels() -> None:
    assert {taxonomy.coarse(name) for name in taxonomy.OBJECTS["animals"]} == {"animals"}
    assert taxonomy.coarse("face") == "faces"
    assert all(taxonomy.coarse(taxonomy.fallback(category)) == category for category in taxonomy.OBJECTS)
    with pytest.raises(ConfigError, match=r"class: expected one of angel, .*, got 'mountain'; did you mean mountains"):
        taxonomy.coarse("mountain")
    with pytest.raises(ConfigError, match=r"got 'zzz'$"):
        taxonomy.coarse("zzz")


def test_every_class_has_its_concept() -> None:
    assert list(taxonomy.CONCEPTS) == list(taxonomy.CATEGORY)
    for name, concept in taxonomy.CONCEPTS.items():
        assert re.fullmatch(r"(300\d{6})?", concept.aat), name
        assert re.fullmatch(r"(\d{1,2}[A-Z]?\d*(\([A-Z]+\))?)?", concept.iconclass), name
    for vocabulary in zip(*taxonomy.CONCEPTS.values(), strict=True):
        given = [identifier for identifier in vocabulary if identifier]
        assert len(given) == len(set(given)), "one identifier, one class"
