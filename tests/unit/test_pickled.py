"""Pickles of arrays are read as NumPy reads them; pickles of anything else are refused, and nothing in them is run."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artray.errors import ConfigError
from artray.models import pickled, weights

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "every other": np.arange(8, dtype=np.float64)[::2],
    "big endian": np.arange(3, dtype=">i4"),
    "half": np.ones((1, 2, 3), np.float16),
    "number": np.array(7),
    "none": np.zeros((0, 4), np.float32),
    "yes": np.array([True, False]),
}


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, protocol: int, is_wrapped: bool) -> None:
    content = {"model": OrderedDict(ARRAYS), "__author__": "somebody"} if is_wrapped else ARRAYS
    read = pickled.read_arrays(written(tmp_path / "w.pkl", content, protocol))
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(read[name], array)
        assert read[name].shape == array.shape
        assert read[name].dtype == array.dtype.newbyteorder("=")


def test_pickles_of_older_versions_are_read(tmp_path: Path) -> None:
    """As Python 2 wrote them: strings of bytes; and under the name that NumPy's core had before version 2."""
    (tmp_path / "old.pkl").write_bytes(
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x04\x01\x00\xff\xfftbs."
    )
    assert pickled.read_arrays(tmp_path / "old.pkl")["a"].tolist() == [1, -1]


def test_weights_are_tensors_that_may_be_written_to(tmp_path: Path) -> None:
    read = weights.read_tensors(written(tmp_path / "w.pkl", {"model": ARRAYS}))
    assert torch.equal(read["float32"].add_(1), torch.arange(1.0, 7).reshape(2, 3))
    assert read["big endian"].tolist() == [0, 1, 2]


class Harm:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["HARM"],)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    path = written(tmp_path / "evil.pkl", {"model": ARRAYS, "more": Harm()}, protocol)
    with pytest.raises(ConfigError, match=r"it asks for \w+\.mkdir"):
        pickled.read_arrays(path)
    assert not (tmp_path / "harm").exists()
    pickle.loads(path.read_bytes())  # it is a real one: it does its harm where it is allowed to
    assert (tmp_path / "harm").exists()


def array_of(shape: bytes, code: bytes, data: bytes) -> bytes:
    """A pickle of an array that says these things of itself."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n" + shape + b"cnumpy\ndtype\n(S'" + code + b"'\nI0\nI1\ntRI00\nS'" + data + b"'\ntb."
    )


def test_a_made_up_array_is_sound_when_everything_agrees(tmp_path: Path) -> None:
    (tmp_path / "made.pkl").write_bytes(b"(S'a'\n" + array_of(b"(I2\nt", b"i1", b"\\x01\\x02")[:-1] + b"d.")
    assert pickled.read_arrays(tmp_path / "made.pkl")["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (array_of(b"(I1\nt", b"O8", b"AAAAAAAA"), "expected arrays of numbers, got some of 'O8'"),
        (array_of(b"(I1\nt", b"V8", b"AAAAAAAA"), "expected arrays of numbers, got some of 'V8'"),
        (array_of(b"(I9\nt", b"i1", b"A"), r"expected the numbers of an array of shape \(9,\), got 1 bytes"),
        (array_of(b"(I-1\nI-1\nt", b"i1", b"A"), r"an array's kind and shape, got \(-1, -1\)"),
        (b"cnumpy\nndarray\n(I1\ntR.", "NoneType"),  # an array without anybody's say
        (b"cnumpy\nload\n.", "it asks for numpy.load"),
        (b"c_codecs\nencode\n(S'A'\nS'rot13'\ntR.", "expected bytes as latin1"),
        (pickle.dumps({"a": np.ones(3)})[:-9], "a whole file"),
        (b"", "a whole file"),
        (b"PK\x03\x04", "a whole file"),
    ],
)
def test_a_lying_or_damaged_pickle_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "lies.pkl").write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        pickled.read_arrays(tmp_path / "lies.pkl")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([np.ones(2)], "expected a mapping of names to arrays"),
        ({"a": 3}, "a: expected an array of numbers, got int"),
        ({"model": {"a": "text"}}, "a: expected an array of numbers, got str"),
    ],
)
def test_what_is_no_mapping_of_arrays_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        pickled.read_arrays(written(tmp_path / "w.pkl", content))
