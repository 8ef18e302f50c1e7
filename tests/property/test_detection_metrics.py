"""What holds of any truths and predictions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from artray.metrics.detection import NONE, bootstrap, curves, evaluate, named, thresholds
from artray.metrics.detection_errors import KINDS, errors
from artray.metrics.matching import RIGHT, Predictions, Truths, match

IMAGES, CLASSES = 3, 2
NAMES = ("a", "b")
quick = settings(max_examples=60, deadline=None)
CORNER, SIDE = st.integers(0, 12), st.integers(0, 60)
BOX = st.tuples(CORNER, CORNER, SIDE, SIDE).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
PLACE = st.tuples(st.integers(0, IMAGES - 1), st.integers(0, CLASSES - 1), BOX)


@st.composite
def scenes(draw, crowds=True, ties=True):
    """Truths, and predictions that are often of the same boxes."""
    there = draw(st.lists(PLACE, max_size=8))
    found = draw(st.lists(st.sampled_from(there) | PLACE if there else PLACE, max_size=12))
    crowd = [crowds and draw(st.integers(0, 5)) == 0 for _ in there]
    scores = draw(st.lists(st.integers(0, 1000), min_size=len(found), max_size=len(found), unique=not ties))
    return of(there, crowd), Predictions.of(*columns(found), np.array(scores) / 1000)


def columns(rows):
    return zip(*rows, strict=True) if rows else ((), (), ())


def of(rows, crowd=None):
    return Truths.of(IMAGES, CLASSES, *columns(rows), crowd)


def same(told, other):
    return all(np.allclose(a, b) for a, b in zip(told[:3], other[:3], strict=True))


@quick
@given(scenes())
def test_every_figure_is_in_range(scene):
    told = evaluate(match(*scene))
    for value in named(told, NAMES).values():
        assert value == NONE or 0 <= value <= 1
    assert (np.diff(told.recalls, axis=1) >= 0).all(), "more boxes find no less"
    assert ((told.precisions == NONE) == (told.truths == 0)[:, None]).all()


@quick
@given(st.lists(PLACE.filter(lambda row: row[2][0] < row[2][2] and row[2][1] < row[2][3]), min_size=1, max_size=8))
def test_perfect_predictions_have_1(rows):
    found = Predictions.of(*columns(rows), np.linspace(1, 0, len(rows)))
    told = evaluate(match(of(rows), found))
    assert set(told.precisions.ravel()) <= {1.0, NONE}
    assert set(told.recalls[:, -1].ravel()) <= {1.0, NONE}
    assert named(told, NAMES)["ap"] == 1.0
    assert {KINDS[kind] for kind in errors(of(rows), found).kinds} == {"correct"}


@quick
@given(scenes(), PLACE)
def test_a_last_false_positive_never_raises(scene, place):
    truths, found = scene
    box = np.array([place[2]], float) + 1000
    more = Predictions(
        np.append(found.image_ids, place[0]),
        np.append(found.class_ids, place[1]),
        np.concatenate([found.boxes_xyxy, box]),
        np.append(found.scores, -1.0),
    )
    there, then = evaluate(match(truths, found)), evaluate(match(truths, more))
    assert (then.precisions <= there.precisions + 1e-12).all()
    assert np.array_equal(then.recalls, there.recalls)


@quick
@given(scenes(ties=False), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_scale_of_scores_change_nothing(scene, random):
    truths, found = scene
    order = np.array(random.sample(range(len(found.scores)), len(found.scores)), np.int64)
    told, other = match(truths, found), match(truths, found.at(order)._replace(scores=found.scores[order] ** 3 - 7))
    assert np.array_equal(told.outcomes, other.outcomes)
    assert np.array_equal(told.rows, order[other.rows])
    assert same(evaluate(told), evaluate(other))


@quick
@given(scenes())
def test_no_truth_is_found_twice(scene):
    told = match(*scene)
    counted = (told.truth_found & told.truth_counts[:, None]).sum(axis=-1)
    assert np.array_equal((told.outcomes == RIGHT).sum(axis=-1), counted)


@quick
@given(scenes())
def test_keeping_what_the_threshold_says_gives_what_it_promises(scene):
    truths, found = scene
    told = thresholds(match(truths, found))
    kept = match(truths, found.at(found.scores >= told.scores[found.class_ids]))
    for class_id, curve in enumerate(curves(kept)):
        if np.isnan(told.f1[class_id]):
            assert not len(curve.scores)
        else:
            assert np.isclose(curve.f1()[-1], told.f1[class_id])
            ends = np.flatnonzero(np.diff(curve.scores, append=-np.inf))  # equal scores are kept or dropped together
            assert curve.f1()[ends].max() <= told.f1[class_id] + 1e-12


@quick
@given(scenes())
def test_every_box_has_one_kind(scene):
    truths, found = scene
    told, matches = errors(truths, found), match(truths, found)
    assert told.counts.sum() == len(found.scores)
    assert (told.counts.sum(axis=1) == np.bincount(found.class_ids, minlength=CLASSES)).all()
    right = matches.outcomes[0, 0] == RIGHT
    assert sorted(np.flatnonzero(told.kinds == KINDS.index("correct"))) == sorted(matches.rows[right])
    assert told.missed.sum() + right.sum() <= (~truths.crowd).sum()
    assert not (told.missed & truths.crowd).any()


@quick
@given(scenes(), st.lists(st.sampled_from("xy"), min_size=IMAGES, max_size=IMAGES))
def test_intervals_are_in_range_and_hold_the_value_that_evaluation_gives(scene, artists):
    matches = match(*scene)
    whole = named(evaluate(matches), NAMES)
    for name, (value, low, high) in bootstrap(matches, NAMES, artists, resamples=20).items():
        assert np.isclose(value, whole[name])
        assert (low, high) == (NONE, NONE) or 0 <= low <= high <= 1
