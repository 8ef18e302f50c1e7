"""Losses of a detector: by hand, against torchvision's, and their gradients against finite differences."""

import pytest
import torch
from torch import Tensor, nn
from torchvision import ops

from artray.detect import detection_loss as loss
from artray.detect import yolox
from artray.detect.assign import Truth, together
from artray.detect.detection_loss import Losses, Targets, Weights

ALL = torch.ones(2, dtype=torch.bool)


pytestmark = pytest.mark.usefixtures("one_thread")


def levels(images: int = 2, classes: int = 2, side_px: int = 64, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = [(images, 5 + classes, side_px // stride, side_px // stride) for stride in yolox.STRIDES]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def truths(labelled: Tensor = ALL, told: Tensor = ALL) -> list[Truth]:
    boxes = torch.tensor([[4.0, 6, 30, 40], [33, 10, 60, 60]])
    return [
        Truth(boxes, torch.tensor([0, 1]), labelled, told),
        Truth(torch.empty(0, 4), torch.empty(0, dtype=torch.int64), labelled, told),
    ]


def boxes(count: int, seed: int) -> Tensor:
    values = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 50
    return torch.cat([torch.minimum(values[:, :2], values[:, 2:]), torch.maximum(values[:, :2], values[:, 2:]) + 1], 1)


def test_box_losses_are_torchvisions() -> None:
    a, b = boxes(200, 1), boxes(200, 2)
    iou = ops.box_iou(a, b).diagonal()
    assert (iou == 0).any()
    assert torch.allclose(loss.box_losses(a, b), 1 - iou**2)
    giou = ops.generalized_box_iou_loss(a, b, reduction="none")
    assert torch.allclose(loss.box_losses(a, b, "giou"), giou, atol=1e-6)


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_box_losses_of_equal_and_of_empty_boxes(kind: loss.BoxLoss) -> None:
    a = boxes(5, 3)
    assert loss.box_losses(a, a, kind).abs().max() < 1e-9
    flat = torch.tensor([[3.0, 3.0, 3.0, 9.0]])
    assert loss.box_losses(flat, flat, kind).isfinite().all()
    assert loss.box_losses(torch.empty(0, 4), torch.empty(0, 4), kind).shape == (0,)


def test_offsets_are_the_inverse_of_boxes() -> None:
    cells = yolox.grid(levels())
    offsets = torch.randn(len(cells.strides), 4, generator=torch.Generator().manual_seed(9))
    assert torch.allclose(loss.offsets_of(yolox.boxes(offsets, cells), cells), offsets, atol=1e-4)


def test_parts_by_hand() -> None:
    """One image of one cell a level: the coarsest learns an object of the second class."""
    raw = yolox.Raw(torch.zeros(1, 3, 4), torch.zeros(1, 3), torch.zeros(1, 3, 2))
    cells = yolox.Grid(torch.zeros(3, 2), torch.tensor([8.0, 16.0, 32.0]))
    targets = Targets(
        torch.tensor([0]),
        torch.tensor([2]),
        torch.tensor([[-16.0, -16.0, 16.0, 48.0]]),  # the prediction is its upper half
        torch.tensor([1]),
        torch.tensor([0.5]),
        torch.tensor([[False, True]]),
        torch.tensor([[0.0, 0.25, 1.0]]),
    )
    got = loss.losses(raw, cells, targets)
    entropy = torch.tensor(2.0).log()  # of a logit of 0, whatever the truth
    assert float(got.box) == pytest.approx(1 - 0.5**2)
    assert float(got.objectness) == pytest.approx(float(entropy * 1.25))
    assert float(got.classes) == pytest.approx(float(entropy)), "the class that is not told apart does not count"
    # the centre is half a cell further down, and it is twice as high
    assert float(got.l1) == pytest.approx(0.5 + float(entropy))
    total = got.total(Weights(box=2.0, objectness=1.0, classes=0.0, l1=1.0))
    assert float(total) == pytest.approx(2 * float(got.box) + float(got.objectness) + float(got.l1))
    assert float(got.total()) == pytest.approx(5 * float(got.box) + float(got.objectness) + float(got.classes))


def test_what_cells_are_to_learn() -> None:
    shown, known = levels(), truths(told=torch.tensor([True, False]))
    raw, cells = yolox.gather(shown), yolox.grid(shown)
    targets = loss.assigned(raw, cells, together(known))
    assert (targets.image_ids == 0).all(), "the second image shows nothing"
    assert {*targets.class_ids.tolist()} == {0, 1}
    for box, class_id in zip(targets.boxes_xyxy, targets.class_ids, strict=True):
        assert box.equal(known[0].boxes_xyxy[class_id])
    # its own class counts always, the first in any case
    assert targets.counted[:, 0].all()
    assert targets.counted[:, 1].equal(targets.class_ids == 1)
    assert (targets.objectness_weights == 1).all()
    assert not any(column.requires_grad for column in targets)


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_gradients_are_those_of_finite_differences(kind: loss.BoxLoss) -> None:
    shown = levels(side_px=32, dtype=torch.float64)
    known = truths(labelled=torch.tensor([True, False]))
    cells = yolox.grid(shown)
    targets = loss.assigned(yolox.gather(shown), cells, together(known))
    assert len(targets.image_ids) >= 2

    def parts(*given: Tensor) -> tuple[Tensor, ...]:
        return tuple(loss.losses(yolox.gather(given), cells, targets, kind))

    assert torch.autograd.gradcheck(parts, [level.requires_grad_() for level in shown], fast_mode=False)


def test_a_batch_without_objects_has_objectness_only() -> None:
    shown = [level.requires_grad_() for level in levels()]
    got = loss.detection_loss(shown, together([truths()[1]] * 2))
    assert [part.item() for part in (got.box, got.classes, got.l1)] == [0, 0, 0]
    assert got.objectness.item() > 0
    got.total(Weights(l1=1.0)).backward()
    assert all(level.grad is not None and bool(level.grad.isfinite().all()) for level in shown)


def test_no_gradient_where_nothing_was_labelled() -> None:
    shown = [level.requires_grad_() for level in levels()]
    unknown = truths(labelled=~ALL)[1]
    loss.detection_loss(shown, together([truths()[0], unknown])).total().backward()
    for level in shown:
        assert level.grad is not None
        assert bool((level.grad[1] == 0).all()), "the second image"
        assert bool((level.grad[0] != 0).any())


def test_a_cow_in_a_picture_of_labelled_persons_is_hardly_background() -> None:
    """Class 0 was labelled, class 1 was not: the same background, by what the network sees in it."""
    grads = {}
    for seen in (0, 1):
        shown = levels(images=1)
        for level in shown:
            level[:, 5:] = -4.0
            level[:, 5 + seen] = 4.0
            level.requires_grad_()
        known = truths(labelled=torch.tensor([True, False]))[1]
        loss.detection_loss(shown, together([known])).total().backward()
        grads[seen] = sum(float(level.grad[:, 4].sum()) for level in shown if level.grad is not None)
    assert grads[1] < 0.05 * grads[0]


def test_losses_of_a_batch_are_those_of_its_images_together() -> None:
    """Each worker's sums are added up before they are divided, so it does not matter how images are shared."""
    shown = levels()
    known = [truths()[0], Truth(torch.tensor([[20.0, 20, 50, 50]]), torch.tensor([1]), ALL, ALL)]
    whole = loss.detection_loss(shown, together(known))
    sums: list[Tensor] = []

    def keep(part: Tensor) -> Tensor:
        sums.append(part)
        return part

    for image in (0, 1):
        loss.detection_loss([level[image, None] for level in shown], together([known[image]]), total=keep)
    shared = loss.detection_loss(
        [level[0, None] for level in shown], together([known[0]]), total=lambda part: part + sums[1].detach()
    )
    for got, expected in zip(shared, whole, strict=True):
        assert float(got) == pytest.approx(float(expected), rel=1e-5)


def test_half_precision_is_added_up_in_float32() -> None:
    got = loss.detection_loss([level.half() for level in levels()], together(truths()))
    assert all(part.dtype == torch.float32 and bool(part.isfinite()) for part in got)


def test_truths_must_fit() -> None:
    with pytest.raises(ValueError, match=r"truth: expected 2 images of 2 classes, got 1 of 2"):
        loss.detection_loss(levels(), together(truths()[:1]))
    with pytest.raises(ValueError, match=r"truth: expected 2 images of 3 classes, got 2 of 2"):
        loss.detection_loss(levels(classes=3), together(truths()))


def test_the_network_can_be_trained_from_it() -> None:
    network = yolox.YoloxNano(2, channels=4)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    got: Losses = loss.detection_loss(network(torch.rand(2, 3, 64, 64) * 255), together(truths()))
    got.total(Weights(l1=1.0)).backward()
    missing = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert missing == []
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
