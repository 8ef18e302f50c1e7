"""What holds of any boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from artray.detect.boxes import pairwise_iomin, pairwise_iou, suppress_any

SIDE = st.floats(-1e4, 1e4, width=32)


@st.composite
def boxes(draw, most=6):
    corners = draw(arrays.arrays(np.float32, (draw(st.integers(0, most)), 2, 2), elements=SIDE))
    return np.sort(corners, axis=1).reshape(-1, 4)


@pytest.mark.parametrize("overlap", [pairwise_iou, pairwise_iomin])
@given(a=boxes(), b=boxes())
def test_overlap_is_symmetric_and_bounded(overlap, a, b):
    there, back = overlap(a, b), overlap(b, a)
    assert np.array_equal(there, back.T)
    assert ((there >= 0) & (there <= 1)).all()


@given(a=boxes())
def test_a_box_with_area_overlaps_itself_wholly(a):
    thick = a[((a[:, 2:].astype(float) - a[:, :2]) > 1e-3).all(axis=1)]
    assert (np.diag(pairwise_iou(thick, thick)) == 1).all()
    assert (np.diag(pairwise_iomin(thick, thick)) == 1).all()


@given(a=boxes(), b=boxes())
def test_iou_never_exceeds_the_share_of_the_smaller(a, b):
    assert (pairwise_iou(a, b) <= pairwise_iomin(a, b) + 1e-12).all()


@given(a=boxes(), b=boxes(), power=st.integers(-3, 8), shift=st.integers(-512, 512))
def test_overlap_does_not_depend_on_place_and_size(a, b, power, shift):
    a, b = a.round(), b.round()  # whole numbers, so that moving and doubling them is exact
    there, here = (pairwise_iou((a + by) * to, (b + by) * to) for by, to in ((shift, 2.0**power), (0, 1)))
    assert np.array_equal(there, here)


@given(a=boxes(most=12), overlap_max=st.floats(0, 1))
def test_suppression_keeps_the_best_and_nothing_that_overlaps(a, overlap_max):
    stays = suppress_any(a, overlap_max)
    assert stays[:1].all()
    kept = a[stays]
    assert (np.triu(pairwise_iou(kept, kept), k=1) <= overlap_max).all()
    assert suppress_any(kept, overlap_max).all(), "once is enough"
