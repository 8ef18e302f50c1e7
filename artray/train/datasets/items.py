"""A row of a set, as its publisher has it."""

from collections.abc import Mapping
from typing import NamedTuple


class Item(NamedTuple):
    """One work: where it is told of, its picture below the set's path, and what is told."""

    where: str  # "labels.csv line 12"
    file: str
    values: Mapping[str, str]
    part: str | None
