"""Batches of pictures: what comes out of bytes that were prepared elsewhere."""

import numpy as np
import pytest
import torch

from artray.classify import inputs
from artray.train import epochs, exchange
from artray.train.pictures import Pictures
from artray.train.transforms import Training
from tests.training import COUNT, SPEC, labels, picture, profile


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("processes", [0, 2])
def test_a_mixed_batch_is_the_sum_of_both_pictures_parts(precision: str, processes: int) -> None:
    cfg = profile(training={"mixup": 0.4, "precision": precision}, workers={"loader_processes": processes})
    epoch = epochs.plan(cfg, labels(), np.arange(COUNT), 1)
    assert epoch.mix is not None
    shares = epoch.shares(8, exchange.alone())[:3]
    transform = Training(SPEC, cfg.crop, cfg.augment)

    def shown(position: int) -> np.ndarray:
        image = transform(picture(int(epoch.indices[position])), (0, 1, position))
        return (image.astype(np.float64) - 127) / 128

    batches = Pictures(cfg, SPEC, picture).training(1, 0, lambda _: (epoch, shares))
    for share, batch in zip(shares, batches, strict=True):
        assert batch.dtype == getattr(torch, precision)
        for position, seen in zip(share.positions.tolist(), batch, strict=True):
            part, other = epoch.mix.parts[position], int(epoch.mix.positions[position])
            expected = part * shown(position) + (1 - part) * shown(other)
            assert np.allclose(seen.permute(1, 2, 0).numpy(), expected, rtol=0, atol=1e-6)


def test_validation_is_what_the_pipeline_sees_and_the_test_all_views() -> None:
    cfg = profile(test={"views": "flips"})
    made, rows = Pictures(cfg, SPEC, picture), np.array([5, 3, 8])
    seen = torch.cat(list(made.validation(rows, 2)))
    expected = np.stack([inputs.to_input(picture(row), SPEC) for row in rows.tolist()])
    assert np.array_equal(seen.permute(0, 2, 3, 1).numpy(), expected)
    views = torch.cat(list(made.judged(rows, 2)))
    assert len(views) == 6
    assert views[::2].equal(seen)
    assert views[1::2].equal(seen.flip(-1))
