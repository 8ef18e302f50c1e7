"""What an epoch shows of a picture, and what is judged of it."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from pydantic import TypeAdapter
from torchvision.transforms import v2

from artray.archive.sample.drawing import to_drawing
from artray.classify import inputs
from artray.classify.inputs import resized
from artray.models.cards import Input
from artray.train.shown import Augmentation, CropConfig
from artray.train.transforms import BORDER_PX, COUNTS, MAKERS, Normalise, Training, views

SPEC = Input(size_px=64, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
CPU = torch.device("cpu")
Y, X = np.mgrid[:120, :180]
PICTURE = np.stack([X, Y, (X * Y) % 256], axis=-1).astype(np.uint8)


def augmentation(**values: object) -> Augmentation:
    return TypeAdapter(Augmentation).validate_python(values)


@pytest.mark.parametrize("kind", ["none", "centre", "random", "random_borderless", "random_resized"])
@pytest.mark.parametrize("name", [None, *MAKERS])
def test_the_seed_alone_decides(kind: str, name: str | None) -> None:
    augment = [augmentation(name=name)] if name else []
    training = Training(SPEC, CropConfig(kind=kind, resize_px=80), augment)
    state = torch.random.get_rng_state()
    first = training(PICTURE, (1, 2, 3))
    assert (first.shape, first.dtype) == ((64, 64, 3), np.uint8)
    assert np.array_equal(first, training(PICTURE, (1, 2, 3)))
    assert torch.random.get_rng_state().equal(state)
    others = [training(PICTURE, (1, 2, number)) for number in range(4, 16)]
    varied = any(not np.array_equal(first, other) for other in others)
    assert varied == (kind.startswith("random") or name not in (None, "grey"))  # Table 3's grey is every picture's


def test_none_is_what_the_pipeline_sees() -> None:
    for resize in ("squash", "centre_crop", "letterbox"):
        spec = SPEC.model_copy(update={"resize": resize})
        seen = Training(spec, CropConfig())(PICTURE, (0,))
        ready = Normalise(spec, CPU)(torch.from_numpy(seen.copy()))
        assert np.array_equal(ready.permute(1, 2, 0).numpy(), inputs.to_input(PICTURE, spec))
        assert np.array_equal(seen, views(PICTURE, spec)[0])


def test_crops_are_torchvisions() -> None:
    small = resized(PICTURE, 80, "shorter")
    assert small.shape == (80, 120, 3)
    centre = v2.functional.center_crop(torch.from_numpy(small).permute(2, 0, 1), [64, 64])
    ours = Training(SPEC, CropConfig(kind="centre", resize_px=80))(PICTURE, (0,))
    assert np.array_equal(ours, centre.permute(1, 2, 0).numpy())
    for kind, cut in (("five_crop", v2.functional.five_crop), ("ten_crop", v2.functional.ten_crop)):
        expected = [np.asarray(crop) for crop in cut(Pillow.fromarray(small), [64])]
        assert np.array_equal(views(PICTURE, SPEC, kind, 80), np.stack(expected))


@pytest.mark.parametrize(
    ("kind", "cut"),
    [
        ("random", v2.RandomCrop(64)),
        ("random_borderless", v2.RandomCrop(64)),
        ("random_resized", v2.RandomResizedCrop(64, (0.5, 1.0), (0.8, 1.25))),
    ],
)
def test_random_crops_are_torchvisions(kind: str, cut: Callable[[torch.Tensor], torch.Tensor]) -> None:
    inner = PICTURE[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] if kind == "random_borderless" else PICTURE
    config = CropConfig(kind=kind, resize_px=80, scale=(0.5, 1.0), ratio=(0.8, 1.25))
    for seed in range(5):
        ours = Training(SPEC, config)(PICTURE, (seed,))
        torch.manual_seed(int(np.random.SeedSequence((seed,)).generate_state(1, np.uint64)[0]))
        theirs = cut(torch.from_numpy(resized(inner, 80, "shorter")).permute(2, 0, 1))
        assert np.array_equal(ours, theirs.permute(1, 2, 0).numpy())


def test_a_random_resized_crop_is_cut_out_of_the_picture_as_it_is_kept() -> None:
    ours = Training(SPEC, CropConfig(kind="random_resized"))(PICTURE, (3,))
    torch.manual_seed(int(np.random.SeedSequence((3,)).generate_state(1, np.uint64)[0]))
    theirs = v2.RandomResizedCrop(64)(torch.from_numpy(PICTURE).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.array_equal(ours, theirs)
    torch.manual_seed(int(np.random.SeedSequence((3,)).generate_state(1, np.uint64)[0]))
    pillows = np.asarray(v2.RandomResizedCrop(64)(Pillow.fromarray(PICTURE)))  # of which tensors may differ by a bit
    assert np.abs(ours.astype(int) - pillows).max() <= 1


def test_views_are_as_many_as_said_and_mirrored_in_pairs() -> None:
    for kind, count in COUNTS.items():
        assert views(PICTURE, SPEC, kind).shape == (count, 64, 64, 3)
    one, mirrored = views(PICTURE, SPEC, "flips")
    assert np.array_equal(mirrored, one[:, ::-1])
    ten = views(PICTURE, SPEC, "ten_crop", 80)
    assert np.array_equal(ten[9], ten[4][:, ::-1])  # the centre


def test_bytes_are_normalised_where_they_are_and_channels_stay_last_in_memory() -> None:
    spec = SPEC.model_copy(update={"mean": (10.0, 20.0, 30.0), "std": (2.0, 4.0, 8.0)})
    batch = torch.randint(0, 256, (2, 5, 64, 64, 3), dtype=torch.uint8)
    ready = Normalise(spec, CPU)(batch)
    assert (ready.shape, ready.dtype) == ((2, 5, 3, 64, 64), torch.float32)
    assert ready[0].is_contiguous(memory_format=torch.channels_last)
    expected = (batch.numpy().astype(np.float32) - np.float32([10, 20, 30])) / np.float32([2, 4, 8])
    assert np.array_equal(ready.numpy(), np.moveaxis(expected, -1, -3))


def test_toned_pictures_have_one_ink_on_one_paper() -> None:
    toned = MAKERS["tone"](augmentation(name="tone", p=1.0))
    for seed in range(5):
        torch.manual_seed(seed)
        ramp = Pillow.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0))
        ink, paper = _ends(toned, ramp)
        assert (ink <= 90).all()  # dark
        assert paper.max() >= 178  # light
        for colour in (ink, paper):
            assert colour[0] >= colour[1] >= colour[2]  # from red to yellow
            assert colour.max() - colour.min() <= 0.5 * colour.max() + 1  # no more saturated than said


def _ends(toned: Callable[[Pillow.Image], Pillow.Image], ramp: Pillow.Image) -> tuple[np.ndarray, np.ndarray]:
    """What black and white become."""
    row = np.asarray(toned(ramp))[0].astype(int)
    assert (np.abs(np.diff(row, axis=0)) <= 1).all()  # and greys lie between
    return row[0], row[-1]


def test_borders_are_left_out() -> None:
    framed = PICTURE.copy()
    framed[:BORDER_PX] = framed[-BORDER_PX:] = 255
    framed[:, :BORDER_PX] = framed[:, -BORDER_PX:] = 255
    inner = PICTURE[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
    cut = Training(SPEC, CropConfig(kind="random_borderless"))
    plain = Training(SPEC, CropConfig(kind="random"))
    for number in range(5):
        assert np.array_equal(cut(framed, (number,)), plain(inner, (number,)))
    tiny = np.full((30, 200, 3), 9, np.uint8)  # nothing would be left: it stays as it is
    assert np.array_equal(cut(tiny, (0,)), plain(tiny, (0,)))


def test_the_longer_edge_leaves_black_bars() -> None:
    """Table 3 as printed: 224 on the longer edge, then a crop of 224."""
    seen = Training(SPEC, CropConfig(kind="random", edge="longer"))(np.full((40, 80, 3), 255, np.uint8), (0,))
    values, counts = np.unique(seen, return_counts=True)
    assert values.tolist() == [0, 255]
    assert counts.tolist() == [3 * 64 * 32, 3 * 64 * 32]


def test_training_squares_may_be_smaller_than_the_input() -> None:
    small = Training(SPEC, CropConfig(kind="centre", size_px=48, resize_px=80))(PICTURE, (0,))
    large = Training(SPEC.model_copy(update={"size_px": 48}), CropConfig(kind="centre", resize_px=80))(PICTURE, (0,))
    assert np.array_equal(small, large)
    assert small.shape == (48, 48, 3)


def test_table_3_parameters_are_the_defaults() -> None:
    jitter = MAKERS["colour_jitter"](augmentation(name="colour_jitter"))
    varied = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    assert [tuple(values) for values in varied] == [(0.5, 1.5), (0.5, 1.5), (0.5, 1.5), (-0.1, 0.1)]
    affine = MAKERS["affine"](augmentation(name="affine"))
    moved = (affine.degrees, affine.translate, affine.scale, affine.shear)
    assert [tuple(values) for values in moved] == [(0, 40), (0, 0.4), (0.6, 1.4), (-0.2, 0.2)]
    assert affine.interpolation is v2.InterpolationMode.BICUBIC
    assert MAKERS["rotation"](augmentation(name="rotation")).degrees == [-360.0, 360.0]
    perspective = MAKERS["perspective"](augmentation(name="perspective"))
    assert (perspective.distortion_scale, perspective.p) == (0.5, 0.5)
    cropped = CropConfig(kind="random_resized")
    assert (cropped.scale, cropped.ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))


def test_an_unknown_augmentation_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"horizontal_flip.*perspective.*rotation"):
        augmentation(name="mirror")
    with pytest.raises(ValueError, match="degrees"):
        augmentation(name="rotation", degrees=-1)


def test_drawings_are_a_colour_dodge() -> None:
    """Against OpenCV's own division: grey / (1 - blurred negative)."""
    grey = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2GRAY).astype(np.float32)
    negative = cv2.GaussianBlur(255 - grey, (0, 0), 10)
    expected = cv2.divide(grey, 255 - negative, scale=255)
    expected = np.rint(np.minimum(expected, 255))
    difference = np.abs(to_drawing(PICTURE)[:, :, 0] - expected)
    assert difference.max() <= 1
