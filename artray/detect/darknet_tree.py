"""YOLO9000's tree of classes: what is a kind of what, and how far down it a detector is sure.

A class is a node; a node's children exclude each other, so each group of siblings has a softmax of its own: the
probability of a node is that of its parent times its own within its group.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artray.errors import ConfigError

ROOT: Final = -1
"""The parent of what has none."""


class Tree(NamedTuple):
    """N nodes in G groups of siblings; parents stand before their children, and siblings side by side.

    >>> tree = parse(["animal -1", "thing -1", "dog 0", "cat 0"])
    >>> tree.starts.tolist(), tree.groups.tolist(), tree.children.tolist()
    ([0, 2], [0, 0, 1, 1], [1, -1, -1, -1])
    """

    ids: tuple[str, ...]
    """N names, each once."""
    parents: NDArray[np.int64]
    """int64[N]: each node's parent; -1 of roots."""
    groups: NDArray[np.int64]
    """int64[N]: which group each node is in; roots are in group 0."""
    starts: NDArray[np.int64]
    """int64[G]: each group's first node."""
    members: NDArray[np.int64]
    """int64[G, L]: each group's nodes; those of less than L are filled up with their first."""
    children: NDArray[np.int64]
    """int64[N]: the group of each node's children; -1 of leaves."""


def read(path: Path) -> Tree:
    """A tree from a file such as Darknet's ``data/9k.tree``.

    Raises:
        ConfigError: it cannot be read, or is no tree; names the line.
    """
    try:
        return parse(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tree {path}: cannot be read ({type(error).__name__})") from error
    except ConfigError as error:
        raise ConfigError(f"tree {path}: {error}") from error


def parse(lines: Sequence[str]) -> Tree:
    """A tree of lines ``ID PARENT``, the parent by its line from 0 on, -1 for none.

    Raises:
        ConfigError: it is no tree; names the line, from 1 on.
    """
    ids: dict[str, int] = {}
    parents: list[int] = []
    for number, line in enumerate(lines, 1):
        name, parent = _node(line, number)
        if name in ids:
            raise ConfigError(f"line {number}: expected every name once, got {name!r} of line {ids[name] + 1} again")
        ids[name] = len(ids)
        parents.append(parent)
    if not parents or parents[0] != ROOT:
        raise ConfigError(f"line 1: expected a node without parent (-1), got {parents[0] if parents else 'no line'}")
    return _grouped(tuple(ids), np.array(parents, np.int64))


def _node(line: str, number: int) -> tuple[str, int]:
    """A line's name and parent.

    Raises:
        ConfigError: it has none.
    """
    parts = line.split()
    try:
        name, parent = parts[0], int(parts[1])
    except (IndexError, ValueError):
        parts = []
    if len(parts) != 2:
        raise ConfigError(f"line {number}: expected a name and the number of its parent, got {line[:60]!r}")
    if not ROOT <= parent < number - 1:
        raise ConfigError(f"line {number}: parent: expected a line above it, from 0 on, or -1, got {parent}")
    return name, parent


def _grouped(ids: tuple[str, ...], parents: NDArray[np.int64]) -> Tree:
    """The tree of nodes and their parents.

    Raises:
        ConfigError: siblings are apart.
    """
    is_first = np.concatenate([[True], parents[1:] != parents[:-1]])
    starts = np.flatnonzero(is_first)
    owners = parents[starts]
    children = np.full(len(ids), -1)
    for group, (start, owner) in enumerate(zip(starts, owners, strict=True)):
        if (owners[:group] == owner).any():
            raise ConfigError(f"line {start + 1}: expected siblings side by side, got {ids[start]!r} apart from others")
        if owner != ROOT:
            children[owner] = group
    sizes = np.diff(starts, append=len(ids))
    places = np.arange(sizes.max())
    members = starts[:, None] + np.where(places < sizes[:, None], places, 0)
    return Tree(ids, parents, np.cumsum(is_first) - 1, starts, members, children)


def probabilities(logits: NDArray[np.float32], tree: Tree) -> NDArray[np.float32]:
    """How probable each node is among its siblings: a softmax over each group.

    Args:
        logits: float32[M, N].
        tree: of N nodes.

    Returns:
        float32[M, N] in [0, 1]; each group's add up to 1.

    >>> probabilities(np.array([[2, 2, 1, 1]], np.float32), parse(["a -1", "b -1", "c 0", "d 0"])).tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """
    peaks = np.maximum.reduceat(logits, tree.starts, axis=1)
    raised: NDArray[np.float32] = np.exp(logits - peaks[:, tree.groups])
    sums: NDArray[np.float32] = np.add.reduceat(raised, tree.starts, axis=1)
    return raised / sums[:, tree.groups]


def top(shares: NDArray[np.float32], tree: Tree, score_min: float, *, compounded: bool = True) -> NDArray[np.int64]:
    """The most special node that each row is sure of: down the most probable path while its product is enough.

    The most probable root is taken in any case.

    Args:
        shares: float32[M, N], each node's among its siblings.
        tree: of N nodes.
        score_min: the product must be more.
        compounded: Darknet's product, in which a step down counts with the node's probability in the whole tree
            rather than with that among its siblings; so what is above a node counts once more with every step, and
            the walk ends sooner. Else the node's probability in the whole tree itself, as the paper has it.

    Returns:
        int64[M].

    Source: ``hierarchy_predictions`` and then ``hierarchy_top_prediction`` of Darknet's ``src/tree.c``; Redmon and
        Farhadi 2017, https://arxiv.org/abs/1612.08242, section 4.

    With 0.9 for an animal and 0.8 for a dog among animals, a dog has 0.72; Darknet's product is 0.9 * 0.72 = 0.648:

    >>> tree, shares = parse(["animal -1", "thing -1", "dog 0", "cat 0"]), np.array([[0.9, 0.1, 0.8, 0.2]], np.float32)
    >>> top(shares, tree, 0.7).tolist(), top(shares, tree, 0.7, compounded=False).tolist()
    ([0], [2])
    """
    found = np.zeros(len(shares), np.int64)
    groups = np.zeros(len(shares), np.int64)
    chance, product = np.ones(len(shares), np.float32), np.ones(len(shares), np.float32)
    going = np.arange(len(shares))
    while len(going):
        members = tree.members[groups[going]]
        # of members filled up with the first the first is found: the same
        best = np.take_along_axis(members, shares[going[:, None], members].argmax(axis=1)[:, None], axis=1)[:, 0]
        chance[going] *= shares[going, best]
        product[going] = product[going] * chance[going] if compounded else chance[going]
        is_sure = product[going] > np.float32(score_min)
        taken = is_sure | (groups[going] == 0)
        found[going[taken]] = best[taken]
        groups[going] = tree.children[best]
        going = going[is_sure & (tree.children[best] >= 0)]
    return found


def label_nodes(tree: Tree, labels: Mapping[str, str | None]) -> dict[str, str | None]:
    """What every node is called, where some are labelled: as its nearest labelled ancestor, itself included.

    Args:
        tree: the tree.
        labels: a class, or None for nothing, by names of nodes.

    Returns:
        The same for every node, in their order; None where there is no labelled ancestor.

    Raises:
        ConfigError: a label of no node; names near ones.

    >>> tree = parse(["food -1", "animal -1", "steak 0", "dog 1", "toy 1", "poodle 3"])
    >>> label_nodes(tree, {"animal": "animals (others)", "dog": "dog", "toy": None})
    {'food': None, 'animal': 'animals (others)', 'steak': None, 'dog': 'dog', 'toy': None, 'poodle': 'dog'}
    """
    known = set(tree.ids)
    unknown = next((name for name in labels if name not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, tree.ids)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ConfigError(f"labels: expected names of the tree's {len(tree.ids)} nodes, got {unknown!r}{hint}")
    called: list[Any] = []
    for name, parent in zip(tree.ids, tree.parents.tolist(), strict=True):
        called.append(labels[name] if name in labels else None if parent == ROOT else called[parent])
    return dict(zip(tree.ids, called, strict=True))
