"""A batch's passes as a CUDA graph: the same training, for those who have a GPU."""

import pytest
import torch

from artray.train.detectors.profile import DetectorProfile
from artray.train.profile import TrainProfile
from tests import methods_training
from tests.training import profile, trained


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recorded_passes_learn_what_others_learn(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    states = []
    for recorded in (False, True):
        workers = {"device": "cuda", "cuda_graph": recorded}
        optimiser = {"name": "sgd", "ema_decay": 0.9}  # Adam makes steps of what is rounded
        cfg = profile(training={"precision": precision}, workers=workers, optimiser=optimiser)
        states.append(trained(cfg).state())
    plain, graph = states
    tolerance = 1e-4 if precision == "float32" else 0.05
    for name, tensor in plain["network"].items():
        assert torch.allclose(tensor.double(), graph["network"][name].double(), atol=tolerance), name
    for mine, theirs in zip(plain["history"], graph["history"], strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=tolerance)


@pytest.mark.parametrize("workers", [{"device": "cpu"}, {"device": "cuda", "workers": 2}])
def test_only_one_worker_on_a_gpu_records(workers: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"workers.cuda_graph: expected one worker on workers.device cuda, got \d on"):
        profile(workers=workers | {"cuda_graph": True})
    assert isinstance(profile(workers={"device": "cuda", "cuda_graph": True}), TrainProfile)


def test_methods_are_not_recorded() -> None:
    with pytest.raises(ValueError, match=r"workers\.cuda_graph: expected false"):
        methods_training.profile(workers={"device": "cuda", "cuda_graph": True})


def test_detectors_are_not_recorded() -> None:
    values = {"name": "d", "data": {"sources": [{"kind": "voc", "path": "x", "labels": "pascal-voc"}]}, "detector": {}}
    values |= {"training": {"batch_size": 8}, "workers": {"device": "cuda", "cuda_graph": True}}
    with pytest.raises(ValueError, match=r"workers\.cuda_graph: expected false"):
        DetectorProfile.model_validate(values)
