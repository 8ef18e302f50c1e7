"""SimOTA and what may count as background: small cases by hand, and the rule cell by cell."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from artray.detect import assign, yolox
from artray.detect.assign import Assigned, Truth, together
from artray.detect.yolox import Grid

ALL = torch.ones(3, dtype=torch.bool)


pytestmark = pytest.mark.usefixtures("one_thread")


def cells(side_px: int = 128) -> Grid:
    return yolox.grid([torch.zeros(1, 8, side_px // stride, side_px // stride) for stride in yolox.STRIDES])


def truth(*boxes: tuple[float, ...], class_ids: tuple[int, ...] | None = None, told: Tensor = ALL) -> Truth:
    ids = torch.tensor(class_ids or (0,) * len(boxes), dtype=torch.int64)
    return Truth(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), ids, ALL, told)


def assigned(boxes: Tensor, objectness: Tensor, classes: Tensor, grid: Grid, known: Truth) -> Assigned:
    """Of one image."""
    found = assign.assign(boxes[None], objectness[None], classes[None], grid, together([known]))
    return Assigned(found.truth_ids[0], found.ious[0])


def random_predictions(seed: int, count: int, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes about the cells, objectness and classes."""
    generator = torch.Generator().manual_seed(seed)
    boxes = yolox.boxes(torch.randn(len(cells().strides), 4, generator=generator), cells())[:count]
    return boxes, torch.randn(count, generator=generator), torch.randn(count, classes, generator=generator)


def test_nothing_to_find_is_background_everywhere() -> None:
    grid = cells()
    found = assigned(*random_predictions(0, len(grid.strides)), grid, truth())
    assert (found.truth_ids == -1).all()
    assert (found.ious == 0).all()
    assert found.truth_ids.shape == found.ious.shape == grid.strides.shape


def test_one_object_gets_as_many_cells_as_predict_it_well() -> None:
    grid, count = cells(), 256 + 64 + 16
    boxes, logits = torch.zeros(count, 4), torch.zeros(count)
    # cells of 16 px start at 256, eight a row; those about the object's centre (64, 64) predict it well or by half
    perfect, half = (
        torch.tensor([64.0 - 16, 64 - 16, 64 + 16, 64 + 16]),
        torch.tensor([64.0 - 16, 64 - 16, 64 + 16, 64]),
    )
    well = [256 + 3 * 8 + 3, 256 + 3 * 8 + 4, 256 + 4 * 8 + 3]
    boxes[well], boxes[256 + 4 * 8 + 4] = perfect, half
    found = assigned(boxes, logits, torch.zeros(count, 3), grid, truth(tuple(perfect.tolist())))
    # 1 + 1 + 1 + 1/2 = 3.5: three of them
    assert (found.truth_ids >= 0).nonzero().flatten().tolist() == well
    assert found.ious[well].tolist() == [1, 1, 1]


def test_an_object_that_nothing_predicts_gets_one_cell_near_its_centre() -> None:
    grid = cells()
    count = len(grid.strides)
    found = assigned(torch.zeros(count, 4), torch.zeros(count), torch.zeros(count, 3), grid, truth((40, 40, 44, 44)))
    (chosen,) = (found.truth_ids >= 0).nonzero().flatten().tolist()
    centre = grid.corners_xy[chosen] + grid.strides[chosen] / 2
    # no cell's centre is within these 4 px (that at 44 is on the edge): one less than 2.5 cells off is taken
    assert ((centre - 42).abs() < 2.5 * grid.strides[chosen]).all()


def test_an_object_beyond_the_picture_gets_none() -> None:
    grid = cells()
    found = assigned(*random_predictions(1, len(grid.strides)), grid, truth((900, 900, 950, 950)))
    assert (found.truth_ids == -1).all()


def test_candidates_by_hand() -> None:
    grid = Grid(torch.tensor([[0.0, 0.0], [8.0, 0.0], [24.0, 0.0], [0.0, 0.0]]), torch.tensor([8.0, 8.0, 8.0, 32.0]))
    # the box's centre is (10, 4): cells of 8 px are near it up to 20 px, that of 32 px (centre 16, 16) up to 80 px
    may, should = assign.near(grid, torch.tensor([[5.0, 0.0, 15.0, 8.0]]))
    assert may.tolist() == [[True, True, True, True]]  # centres x 4, 12, 28: 6, 2 and 18 px off
    assert should.tolist() == [[False, True, False, False]]
    may, should = assign.near(grid, torch.tensor([[0.0, 0.0, 200.0, 8.0]]))
    assert may.tolist() == [[True, True, True, False]]  # within, though far from its centre; (16, 16) is below it
    assert should.tolist() == [[False] * 4]


def test_a_cell_wanted_twice_goes_where_it_costs_less() -> None:
    grid = cells(32)  # 16 + 4 + 1 cells
    count = len(grid.strides)
    boxes = torch.tensor([[0.0, 0, 16, 16]]).expand(count, 4).clone()
    logits = torch.full((count, 3), -5.0)
    logits[:, 1] = 5.0
    found = assigned(
        boxes, torch.full((count,), 5.0), logits, grid, truth((0, 0, 16, 16), (0, 0, 16, 16), class_ids=(0, 1))
    )
    assert {*found.truth_ids.tolist()} == {-1, 1}, "the object of the class that cells see takes them all"
    assert (found.truth_ids == 1).sum() == 10


@pytest.mark.parametrize("told", [ALL, torch.tensor([True, False, False]), torch.zeros(3, dtype=torch.bool)])
def test_class_costs_are_binary_cross_entropies(told: Tensor) -> None:
    _, objectness, classes = random_predictions(2, len(cells().strides))
    ids = torch.tensor([0, 2, 2])
    scores = (classes.sigmoid() * objectness.sigmoid()[:, None]).sqrt()
    known = together([truth((0, 0, 9, 9), (0, 0, 9, 9), (0, 0, 9, 9), class_ids=(0, 2, 2), told=told)])
    counted = told.clone()
    counted[ids] = True
    expected = [
        (functional.binary_cross_entropy(scores, torch.eye(3)[i].expand_as(scores), reduction="none") * counted).sum(1)
        for i in ids
    ]
    got = assign.class_costs(objectness[None], classes[None], known)
    assert torch.allclose(got, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_extreme_scores_cost_finitely() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    known = together([truth((0, 0, 9, 9), (0, 0, 9, 9), (0, 0, 9, 9), class_ids=(0, 1, 2))])
    for objectness in (1e4, -1e4):
        costs = assign.class_costs(torch.tensor([[objectness]]), logits[None], known)
        assert costs.isfinite().all()
        assert (costs >= -1e-5).all()
        assert int(costs.max()) < assign.OUTSIDE, "less than what keeps cells outside behind"


def slowly(boxes: Tensor, objectness: Tensor, classes: Tensor, grid: Grid, known: Truth) -> list[int]:
    """The same rule, an object and a cell at a time."""
    count = len(grid.strides)
    owner, price = [-1] * count, [math.inf] * count
    for number, (box, class_id) in enumerate(zip(known.boxes_xyxy, known.class_ids, strict=True)):
        costs: dict[int, float] = {}
        ious: list[float] = []
        for cell in range(count):
            x, y = (grid.corners_xy[cell] + grid.strides[cell] / 2).tolist()
            x1, y1, x2, y2 = box.tolist()
            inside = x1 < x < x2 and y1 < y < y2
            reach = 2.5 * float(grid.strides[cell])
            about = abs(x - (x1 + x2) / 2) < reach and abs(y - (y1 + y2) / 2) < reach
            if not (inside or about):
                continue
            iou = float(assign.each_iou(box[None], boxes[cell][None, None]))
            ious.append(iou)
            score = (classes[cell].sigmoid() * objectness[cell].sigmoid()).sqrt()
            asked = functional.one_hot(class_id, len(score)).float()
            entropy = float(functional.binary_cross_entropy(score, asked, reduction="sum"))
            costs[cell] = entropy - 3 * math.log(iou + 1e-8) + (0 if inside and about else 1e4)
        many = max(1, int(sum(sorted(ious)[-10:])))
        for cell in sorted(costs, key=costs.__getitem__)[:many]:
            if costs[cell] < price[cell]:
                owner[cell], price[cell] = number, costs[cell]
    return owner


@pytest.mark.parametrize("seed", range(4))
def test_the_rule_cell_by_cell(seed: int) -> None:
    grid = cells()
    predicted = random_predictions(seed, len(grid.strides))
    known = truth((10, 10, 60, 90), (30, 20, 70, 60), (64, 64, 128, 128), (100, 4, 104, 9), class_ids=(0, 1, 1, 2))
    # half of the cells of the coarser levels predict an object, so that many are good
    boxes = predicted[0]
    boxes[256::2] = known.boxes_xyxy[torch.arange(len(boxes[256::2])) % 3] + 1
    found = assigned(*predicted, grid, known)
    assert found.truth_ids.tolist() == slowly(*predicted, grid, known)
    assert int((found.truth_ids >= 0).sum()) > 8


def test_images_of_a_batch_do_not_see_each_other() -> None:
    grid, first, second = cells(), truth((10, 10, 60, 90), (64, 64, 128, 128), class_ids=(0, 1)), truth()
    third = truth((30, 20, 70, 60), (20, 20, 80, 80), (100, 4, 104, 9), class_ids=(2, 1, 1), told=~ALL)
    known = [first, second, third]
    shown = [random_predictions(seed, len(grid.strides)) for seed in range(3)]
    found = assign.assign(*(torch.stack(column) for column in zip(*shown, strict=True)), grid, together(known))
    for image, before in enumerate((0, 2, 2)):
        alone = assigned(*shown[image], grid, known[image])
        assert found.ious[image].equal(alone.ious)
        assert found.truth_ids[image].equal(torch.where(alone.truth_ids < 0, -1, alone.truth_ids + before))


def test_what_lies_in_a_region_is_not_denied() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [3, 0, 9, 4]], [[0, 0, 4, 4], [8, 8, 8, 8]]])
    known = [truth()._replace(ignored_xyxy=torch.tensor(each).reshape(-1, 4)) for each in ([], [[0.0, 0, 4, 9]])]
    assert assign.ignored(boxes, together(known)).tolist() == [[False, False], [True, False]]
    known = [each._replace(ignored_xyxy=torch.tensor([[0.0, 0, 2, 9], [2, 0, 9, 3]])) for each in known]
    assert assign.ignored(boxes, together(known)).tolist() == [[True, True], [True, False]]


# what counts as background


def test_where_all_classes_were_labelled_every_cell_counts() -> None:
    _, _, classes = random_predictions(3, 50)
    assert (assign.background_weights(classes, ALL) == 1).all()


def test_background_counts_as_far_as_it_looks_like_a_labelled_class() -> None:
    scores = torch.tensor([[0.8, 0.1, 0.0], [0.1, 0.4, 0.05], [0.2, 0.2, 0.2]])
    persons = torch.tensor([True, False, False])
    # a person that is none counts in full, a cow by 0.1 / 0.4, and what looks like all alike in full
    assert assign.background_weights(scores.logit(), persons).tolist() == pytest.approx([1, 0.25, 1])
    assert assign.background_weights(scores.logit(), persons, least=0.5).tolist() == pytest.approx([1, 0.5, 1])
    assert assign.background_weights(scores.logit(), persons, least=1.0).tolist() == [1, 1, 1]
    assert assign.background_weights(scores.logit(), ~ALL).tolist() == [0, 0, 0], "nothing is known of this image"


def test_background_of_a_batch_is_that_of_its_images() -> None:
    _, _, classes = random_predictions(4, 40)
    batch = torch.stack([classes, -classes])
    labelled = torch.tensor([[True, False, False], [False, True, True]])
    got = assign.background_weights(batch, labelled)
    assert got.shape == (2, 40)
    assert got[1].equal(assign.background_weights(-classes, labelled[1]))
    assert assign.background_weights(torch.full((1, 3), -1e4), labelled[0]).isfinite().all()
