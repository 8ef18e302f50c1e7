"""An epoch's images: as balanced as the rule says, the same whoever shares them."""

import numpy as np
import pytest

from artray.train.sampling import RULES, batches, converted, mixed, order

CLASS_IDS = np.repeat([0, 1, 2], [70, 20, 7])


def counts(indices: np.ndarray) -> list[int]:
    return np.bincount(CLASS_IDS[indices], minlength=3).tolist()


def test_every_image_once() -> None:
    assert sorted(order(CLASS_IDS, "none", 0, 0)) == list(range(97))


def test_oversampling_is_exact() -> None:
    for epoch in range(3):
        chosen = order(CLASS_IDS, "oversample", 0, epoch)
        assert counts(chosen) == [70, 70, 70]
        times = np.bincount(chosen, minlength=97)
        assert set(times[:70]) == {1}
        assert set(times[70:90]) == {3, 4}  # 70 = 3 * 20 + 10
        assert set(times[90:]) == {10}


def test_undersampling_repeats_none_and_changes_with_the_epoch() -> None:
    first, second = (order(CLASS_IDS, "undersample", 0, epoch) for epoch in (0, 1))
    for chosen in (first, second):
        assert counts(chosen) == [7, 7, 7]
        assert len(set(chosen)) == 21
    assert set(first) != set(second)


def test_imbalanced_draws_each_class_alike() -> None:
    """Chi-square over 10,000 draws, as github.com/ufoym/imbalanced-dataset-sampler would draw them."""
    drawn = np.concatenate([order(CLASS_IDS, "imbalanced", 0, epoch) for epoch in range(104)])[:10_000]
    seen = np.bincount(drawn, minlength=97)
    expected = 10_000 / 3 / np.array([70, 20, 7])[CLASS_IDS]
    chi_square = ((seen - expected) ** 2 / expected).sum()
    assert chi_square < 141  # 99.9 % quantile with 96 degrees of freedom
    assert chi_square > 55  # 0.1 %: not evener than chance
    assert len(order(CLASS_IDS, "imbalanced", 0, 0)) == 97


@pytest.mark.parametrize("rule", RULES)
def test_seed_and_epoch_alone_decide(rule: str) -> None:
    assert order(CLASS_IDS, rule, 3, 5).tolist() == order(CLASS_IDS, rule, 3, 5).tolist()
    assert order(CLASS_IDS, rule, 3, 5).tolist() != order(CLASS_IDS, rule, 3, 6).tolist()
    assert order(CLASS_IDS, rule, 3, 5).tolist() != order(CLASS_IDS, rule, 4, 5).tolist()
    assert order([], rule, 0, 0).tolist() == []
    assert order([1, 1], rule, 0, 0).dtype == np.int64


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("rule", RULES)
def test_workers_together_see_what_one_sees(rule: str, workers: int) -> None:
    epoch = order(CLASS_IDS, rule, 0, 0)
    alone = list(batches(epoch, 20))
    shared = [list(batches(epoch, 20, rank, workers)) for rank in range(workers)]
    assert np.concatenate([share.indices for share in alone]).tolist() == epoch.tolist()
    for number, whole in enumerate(alone):
        parts = [shares[number] for shares in shared]
        assert np.concatenate([part.indices for part in parts]).tolist() == whole.indices.tolist()
        assert np.concatenate([part.positions for part in parts]).tolist() == whole.positions.tolist()
        assert epoch[whole.positions].tolist() == whole.indices.tolist()
    sizes = [len(share.indices) for share in alone]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 20


def test_a_batch_must_have_an_image_for_each_worker() -> None:
    with pytest.raises(ValueError, match="each of 4 workers, got 3"):
        list(batches(np.arange(3), 8, 0, 4))
    assert list(batches(np.arange(0, dtype=np.int64), 8)) == []


def test_images_of_no_class_are_left_out_of_what_is_balanced() -> None:
    ids = [0, 0, 0, 1, -1, -1]
    assert sorted(order(ids, "oversample", 0, 0))[:3] == [0, 1, 2]
    for rule in ("oversample", "undersample", "imbalanced"):
        assert not {4, 5} & set(order(ids, rule, 0, 0))
    assert set(order(ids, "none", 0, 0)) == set(range(6))


def test_a_third_of_the_paintings_is_converted_and_another_third_in_the_next_epoch() -> None:
    ids = np.repeat([0, 1], [6000, 100])
    first, second = (converted(ids, 0, 1 / 3, 0, epoch) for epoch in (0, 1))
    assert not first[6000:].any()
    assert 1890 < first.sum() < 2110  # 2000 with a standard deviation of 37
    assert 600 < (first & second).sum() < 740  # independent: a ninth
    assert first.tolist() == converted(ids, 0, 1 / 3, 0, 0).tolist()
    assert not converted(ids, 0, 0.0, 0, 0).any()
    assert converted(ids, 0, 1.0, 0, 0).sum() == 6000


def test_mixup_has_partners_and_parts() -> None:
    mix = mixed(1000, 0.4, 0, 0)
    assert sorted(mix.positions) == list(range(1000))
    assert (mix.parts >= 0).all()
    assert (mix.parts <= 1).all()
    assert 0.45 < mix.parts.mean() < 0.55
    assert mix.parts.tolist() == mixed(1000, 0.4, 0, 0).parts.tolist() != mixed(1000, 0.4, 0, 1).parts.tolist()
