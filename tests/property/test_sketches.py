"""Tensor sketches of anything: linear in both, and of one length."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from artray.retrieve import compact

VALUES = st.floats(-100, 100)


def rows(count: int, channels: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float64, (count, channels), elements=VALUES)


@given(st.data(), st.integers(1, 6), st.integers(0, 4), st.integers(1, 40), st.integers(0, 2**32))
def test_the_sketch_of_a_sum_is_the_sum_of_sketches(
    data: st.DataObject, channels: int, count: int, dim: int, seed: int
) -> None:
    by = compact.sketch(channels, dim, seed)
    first, second, more, other = (data.draw(rows(count, channels)) for _ in range(4))
    together = compact.tensor_sketch(np.concatenate([first, more]), np.concatenate([second, other]), by)
    apart = compact.tensor_sketch(first, second, by) + compact.tensor_sketch(more, other, by)
    assert together.shape == (dim,)
    assert np.allclose(together, apart, rtol=0, atol=1e-6)
    assert np.allclose(compact.tensor_sketch(-3 * first, second, by), -3 * compact.tensor_sketch(first, second, by))
