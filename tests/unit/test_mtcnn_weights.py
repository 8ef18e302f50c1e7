"""MTCNN's weight files are read, and run nothing."""

import importlib.util
import pickle
from pathlib import Path

import joblib
import lz4.frame
import numpy as np
import pytest

from artray.detect.mtcnn_networks import OutputNet, ProposalNet
from artray.detect.mtcnn_weights import load_weights, read_weights
from artray.errors import ConfigError

SHIPPED = Path(importlib.util.find_spec("mtcnn").submodule_search_locations[0], "assets", "weights")


@pytest.mark.parametrize(("name", "count"), [("pnet", 13), ("rnet", 16), ("onet", 21)])
def test_arrays_are_those_that_joblib_reads(name, count):
    path = SHIPPED / f"{name}.lz4"
    ours, theirs = read_weights(path), joblib.load(path)
    assert len(ours) == count
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_columns_first_arrays_keep_their_order(tmp_path):
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    joblib.dump([array], tmp_path / "w.lz4", compress="lz4")
    np.testing.assert_array_equal(read_weights(tmp_path / "w.lz4")[0], array)


class Touch:
    """Pickles as a call that would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_names_anything_else_is_refused_before_it_runs(tmp_path):
    made, path = tmp_path / "made", tmp_path / "w.lz4"
    path.write_bytes(lz4.frame.compress(pickle.dumps([Touch(made)])))
    with pytest.raises(ConfigError, match="expected arrays only, got pathlib"):
        read_weights(path)
    assert not made.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no lz4",
        lz4.frame.compress(b""),
        lz4.frame.compress(b"no pickle"),
        lz4.frame.compress(pickle.dumps({"not": "a list"})),
        lz4.frame.compress(pickle.dumps([1.0])),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "w.lz4").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^weights .*w\.lz4: .*install mtcnn==1\.0\.0 anew$"):
        read_weights(tmp_path / "w.lz4")


def test_a_cut_file_is_refused(tmp_path):
    whole = lz4.frame.decompress((SHIPPED / "pnet.lz4").read_bytes())
    (tmp_path / "w.lz4").write_bytes(lz4.frame.compress(whole[: len(whole) // 2]))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_weights(tmp_path / "w.lz4")


def test_arrays_of_doubles_are_refused(tmp_path):
    joblib.dump([np.zeros(3)], tmp_path / "w.lz4", compress="lz4")
    with pytest.raises(ConfigError, match="expected a list of float32 arrays"):
        read_weights(tmp_path / "w.lz4")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.lz4: cannot be read"):
        read_weights(tmp_path / "none.lz4")


def test_weights_of_another_network_are_refused():
    with pytest.raises(ConfigError, match="expected arrays of shapes"):
        load_weights(ProposalNet(), SHIPPED / "rnet.lz4")
    with pytest.raises(ConfigError, match="expected arrays of shapes"):
        load_weights(OutputNet(), SHIPPED / "onet.lz4")  # with the landmarks' layer, for which it has no place


def test_kernels_are_transposed():
    network = ProposalNet()
    load_weights(network, SHIPPED / "pnet.lz4")
    kernel = read_weights(SHIPPED / "pnet.lz4")[0]  # height, width, in, out
    assert network.first[0].weight[7, 2, 0, 1].item() == kernel[0, 1, 2, 7]
