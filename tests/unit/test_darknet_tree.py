"""The tree of classes: its file, probabilities and the walk down it against loops written out, and labels."""

from pathlib import Path

import numpy as np
import pytest

from artray.detect import darknet_tree
from artray.detect.darknet_tree import Tree
from artray.errors import ConfigError
from artray.models import cards
from artray.taxonomy import CATEGORY

LINES = ("thing -1", "animal -1", "dog 1", "cat 1", "poodle 2", "pug 2", "beagle 2", "rock 0")


def random_tree(rng: np.random.Generator, nodes: int) -> Tree:
    """Groups of up to four siblings below random nodes that have no children yet."""
    parents = [-1] * int(rng.integers(1, 4))
    free = list(range(len(parents)))
    while len(parents) < nodes:
        parent = free.pop(int(rng.integers(len(free))))
        children = int(rng.integers(1, 5))
        free += range(len(parents), len(parents) + children)
        parents += [parent] * children
    return darknet_tree.parse([f"n{index} {parent}" for index, parent in enumerate(parents)])


def siblings(tree: Tree, parent: int) -> list[int]:
    return [index for index, of in enumerate(tree.parents) if of == parent]


def softmax_by_loops(logits: np.ndarray, tree: Tree) -> np.ndarray:
    shares = np.zeros(len(logits))
    for parent in {*tree.parents.tolist()}:
        group = siblings(tree, parent)
        raised = [np.exp(logits[index] - max(logits[group])) for index in group]
        for index, value in zip(group, raised, strict=True):
            shares[index] = value / sum(raised)
    return shares


def walked(shares: np.ndarray, tree: Tree, score_min: float, compounded: bool) -> int:
    """Darknet's loops: ``hierarchy_predictions``, which is what compounds, then ``hierarchy_top_prediction``."""
    values = shares.astype(np.float64)
    if compounded:
        for index, parent in enumerate(tree.parents.tolist()):
            values[index] *= values[parent] if parent >= 0 else 1
    product, group = 1.0, siblings(tree, -1)
    while True:
        best = group[int(np.argmax(values[group]))]
        if product * values[best] > score_min:
            product *= values[best]
            if not (children := siblings(tree, best)):
                return best
            group = children
        else:
            return best if tree.parents[best] < 0 else int(tree.parents[best])


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tree"
    path.write_text("\n".join(LINES) + "\n")
    tree = darknet_tree.read(path)
    assert tree.ids[:3] == ("thing", "animal", "dog")
    assert tree.parents.tolist() == [-1, -1, 1, 1, 2, 2, 2, 0]
    assert tree.starts.tolist() == [0, 2, 4, 7]
    assert tree.groups.tolist() == [0, 0, 1, 1, 2, 2, 2, 3]
    assert tree.children.tolist() == [3, 1, 2, -1, -1, -1, -1, -1]
    assert tree.members.tolist() == [[0, 1, 0], [2, 3, 2], [4, 5, 6], [7, 7, 7]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: expected a node without parent .*, got no line"),
        (["a -1", ""], "line 2: expected a name and the number of its parent, got ''"),
        (["a -1", "b x"], "line 2: expected a name and the number of its parent, got 'b x'"),
        (["a -1", "b 0 1"], "line 2: expected a name and the number of its parent"),
        (["a -1", "b 1"], "line 2: parent: expected a line above it, from 0 on, or -1, got 1"),
        (["a -1", "b -2"], "line 2: parent: expected a line above it"),
        (["a -1", "b 0", "a 0"], "line 3: expected every name once, got 'a' of line 1 again"),
        (["a -1", "b 0", "c 1", "d 0"], "line 4: expected siblings side by side, got 'd' apart"),
        (["a -1", "b 0", "c -1"], "line 3: expected siblings side by side, got 'c' apart"),
    ],
)
def test_what_is_no_tree_is_refused_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        darknet_tree.parse(lines)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tree .*: cannot be read"):
        darknet_tree.read(tmp_path / "none.tree")
    (tmp_path / "a.tree").write_bytes(b"\xff\xfe -1")
    with pytest.raises(ConfigError, match=r"a.tree: cannot be read"):
        darknet_tree.read(tmp_path / "a.tree")
    (tmp_path / "a.tree").write_text("dog 4")
    with pytest.raises(ConfigError, match=r"a.tree: line 1: parent"):
        darknet_tree.read(tmp_path / "a.tree")


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_and_walks_are_those_of_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, 60)
    logits = rng.normal(0, 4, (40, len(tree.ids))).astype(np.float32)
    shares = darknet_tree.probabilities(logits, tree)
    assert shares.dtype == np.float32
    assert np.allclose(shares, [softmax_by_loops(row, tree) for row in logits], atol=1e-6)
    for compounded in (True, False):
        expected = [walked(row, tree, 0.5, compounded) for row in shares]
        assert darknet_tree.top(shares, tree, 0.5, compounded=compounded).tolist() == expected
        assert len({*expected}) > 5


def test_ends_of_the_walk() -> None:
    tree = darknet_tree.parse(LINES)
    shares = np.array([[0.4, 0.6, 1, 0, 0.7, 0.2, 0.1, 1]], np.float32)
    assert darknet_tree.top(shares, tree, 0.7).tolist() == [1]  # the best root, sure or not
    assert darknet_tree.top(shares, tree, 0.5, compounded=False).tolist() == [2]  # 0.6 * 0.7 is not enough
    assert darknet_tree.top(shares, tree, 0.6, compounded=False).tolist() == [1]  # 0.6 is not more than 0.6
    assert darknet_tree.top(shares, tree, 0.4, compounded=False).tolist() == [4]
    assert darknet_tree.top(shares[:0], tree, 0.5).tolist() == []
    assert darknet_tree.probabilities(shares[:0], tree).shape == (0, 8)


def test_large_logits_stay_numbers() -> None:
    tree = darknet_tree.parse(["a -1", "b -1"])
    assert darknet_tree.probabilities(np.array([[900, -900]], np.float32), tree).tolist() == [[1, 0]]


def test_labels_are_those_of_the_nearest_labelled_ancestor() -> None:
    tree = darknet_tree.parse(LINES)
    called = darknet_tree.label_nodes(tree, {"animal": "animals (others)", "dog": "dog", "pug": None})
    assert list(called) == list(tree.ids)
    assert [name for name, label in called.items() if label is None] == ["thing", "pug", "rock"]
    assert {name for name, label in called.items() if label == "dog"} == {"dog", "poodle", "beagle"}
    assert called["cat"] == "animals (others)"
    assert set(darknet_tree.label_nodes(tree, {}).values()) == {None}
    with pytest.raises(ConfigError, match="expected names of the tree's 8 nodes, got 'pugs'; near: pug"):
        darknet_tree.label_nodes(tree, {"pugs": "dog"})


def test_the_labels_of_yolo9000() -> None:
    """Every one is a WordNet id; all classes are found but those of saints, of meat, and of what is no object."""
    card = cards.load("yolo9000")
    assert not card.classes
    assert all(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in card.labels)
    found = {label for label in card.labels.values() if label is not None}
    unknown = {"angel", "child jesus", "crucifixion", "mary", "nudity", "saint sebastian", "meat", "face"}
    assert found == set(CATEGORY) - unknown - {"faces (others)"}
    assert (card.labels["n02084071"], card.labels["n07732636"]) == ("dog", None)
