"""The classes of the report's Table 1: 22 named ones in six categories."""

import pytest

from artray import taxonomy


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
