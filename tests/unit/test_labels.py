"""Labels of other data sets: every one is in its table once, on purpose, and means a class of the taxonomy or none."""

import csv
import json
import pickle
from collections import Counter
from pathlib import Path

import pytest

from artray import taxonomy
from artray.detect import labels
from artray.errors import ConfigError
from artray.models import cards

DATA = Path(__file__).parents[3] / "shared" / "data"
COUNTS = {
    "byzart": 123,
    "coco": 80,
    "cutouts": 20,
    "iconart": 10,
    "iconart-299": 14,
    "imagenet": 1000,
    "open-images": 601
    + 23
    + 2,  # 23 labels were renamed after release 4, two more in lists of release 7; all by both names
    "pascal-voc": 20,
    "photo-art-50": 50,
}
ALIKE_BUT_FOR_CASE = {"imagenet": {"cardigan"}}  # the garment, and the Cardigan Welsh corgi
UNREACHED = {
    "meat": "the report's Table 2 has no source of it either; other sets have it as a dish or inside a shop",
    "hills": "the report has 87 of ImageNet, from outside its 1,000 classes",
}
FORMERLY = " in the releases up to 4"


def published(source: str) -> list[str]:
    """The source's own list, from an installed package or the project's shared data."""
    from torchvision.models import _meta

    if source == "coco":
        return [name for name in _meta._COCO_CATEGORIES if name not in ("__background__", "N/A")]
    if source == "imagenet":
        return list(_meta._IMAGENET_CATEGORIES)
    if source == "pascal-voc":
        return [name for name in _meta._VOC_CATEGORIES if name != "__background__"]
    path = {
        "byzart": DATA / "boxes" / "byzart" / "annotations.json",
        "iconart-299": DATA / "boxes" / "iconart" / "annotations.json",
        "cutouts": DATA / "cutouts" / "cutouts.csv",
    }[source]
    if not path.exists():
        pytest.skip(f"{path} is not here")
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return sorted({row["class"] for row in csv.DictReader(file)})
    return [category["name"] for category in json.loads(path.read_text())["categories"]]


def test_the_sources_and_how_many_labels_each_has() -> None:
    assert {source: len(labels.load(source)) for source in labels.sources()} == COUNTS


@pytest.mark.parametrize("source", sorted(COUNTS))
def test_no_label_stands_twice(source: str) -> None:
    written = Counter(label.casefold() for label in labels.load(source))
    assert {label for label, times in written.items() if times > 1} == ALIKE_BUT_FOR_CASE.get(source, set())


@pytest.mark.parametrize("source", ["byzart", "coco", "cutouts", "iconart-299", "imagenet", "pascal-voc"])
def test_nothing_of_the_source_is_dropped_and_nothing_added(source: str) -> None:
    assert list(labels.load(source)) == published(source), "names and order are the source's"


@pytest.mark.parametrize("source", sorted(COUNTS))
def test_every_class_exists(source: str) -> None:
    named = {name for name in labels.load(source).values() if name is not None}
    assert named
    assert named <= set(taxonomy.CATEGORY)


def test_which_named_classes_no_source_has() -> None:
    reached = {name for source in labels.sources() for name in labels.load(source).values()}
    assert set(taxonomy.CATEGORY) - reached == set(UNREACHED)


@pytest.mark.parametrize("card", ["fasterrcnn-resnet50-coco", "retinanet-resnet50-coco", "ssdlite-mobilenet-coco"])
def test_the_cards_of_coco_detectors_agree(card: str) -> None:
    assert cards.load(card).labels == dict(labels.load("coco"))


def test_the_card_of_open_images_agrees() -> None:
    card, table = cards.load("fasterrcnn-openimages"), labels.load("open-images")
    assert len(card.labels) == len(card.classes) - 1 == 601
    assert card.labels == {name: table[name] for name in card.classes[1:]}


def test_open_images_renamed_labels_mean_what_they_meant() -> None:
    table = labels.load("open-images")
    former = {label: note.removesuffix(FORMERLY) for label, note in table.notes.items() if note.endswith(FORMERLY)}
    assert len(former) == 23
    assert all(table[label] == table[now] for label, now in former.items())
    others = {label for label, note in table.notes.items() if note.endswith(" in other lists of release 7")}
    assert others == {"Donut", "Egg (Food)"}
    assert all(table[label] == table[table.notes[label].split(" in ")[0]] for label in others)
    assert len(set(table) - set(former) - others) == 601


def test_names_that_open_images_release_7_has_otherwise_are_known() -> None:
    # those that differ from release 4's; source: the 601 names of Ultralytics' open-images-v7.yaml
    renamed = (
        "Airplane",
        "Ball",
        "Coffee",
        "Donut",
        "Earrings",
        "Egg (Food)",
        "Human beard",
        "Lemon",
        "Maracas",
        "Orange",
    )
    assert set(renamed) < set(labels.load("open-images"))


# The report's Table 2: which source has which class.
@pytest.mark.parametrize(
    ("source", "has", "has_not"),
    [
        ("coco", "dog cat horse cow fruit flower ship", "duck cock meat fish ruins building"),
        ("open-images", "dog cat duck horse cow fruit fish flower ship building", "cock meat ruins"),
        ("imagenet", "cock", "hills"),
        ("iconart", "angel crucifixion mary nudity ruins", "ship building"),
    ],
)
def test_the_sources_of_the_report(source: str, has: str, has_not: str) -> None:
    classes = set(labels.load(source).values())
    assert set(has.split()) <= classes
    assert not set(has_not.split()) & classes


@pytest.mark.parametrize(
    ("source", "label", "class_name"),
    [
        ("coco", "person", "persons (others)"),
        ("coco", "sheep", "animals (others)"),
        ("coco", "BOAT", "ship"),
        ("coco", "bicycle", None),
        ("pascal-voc", "PottedPlant", "flower"),
        ("open-images", "castle", "building"),
        ("open-images", "Rose", "flower"),
        ("open-images", "Apple", "fruit"),
        ("open-images", "Orange", "fruit"),  # by its former name
        ("open-images", "Human face", "face"),
        ("open-images", "Cattle", "cow"),  # the report's cows
        ("imagenet", "drake", "duck"),
        ("imagenet", "alp", "mountains"),
        ("imagenet", "lakeside", "water bodies"),
        ("imagenet", "Cardigan", "dog"),
        ("imagenet", "cardigan", None),
        ("imagenet", "pirate", "ship"),  # n03947888: a pirate ship
        ("iconart", "child_jesus", "child jesus"),
        ("iconart", "Saint_Sebastien", "saint sebastian"),
        ("iconart-299", "Saint", "persons (others)"),
        ("byzart", "christ_crucifiction", "crucifixion"),
        ("byzart", "aura", None),
        ("photo-art-50", "ketch-101", "ship"),
        ("cutouts", "Boat/Ship", "ship"),
    ],
)
def test_what_a_label_means(source: str, label: str, class_name: str | None) -> None:
    table = labels.load(source)
    assert table[label] == class_name
    assert label in table
    assert table.written(label) in list(table)


@pytest.mark.parametrize(
    ("source", "label", "message"),
    [
        ("coco", "bote", r"^coco: expected one of its 80 labels, got 'bote'; did you mean bottle or boat or remote\?$"),
        ("coco", "zzz", r"got 'zzz'$"),
        ("imagenet", "CARDIGAN", r"got 'CARDIGAN'; did you mean Cardigan or cardigan\?$"),
    ],
)
def test_a_label_that_the_source_has_not(source: str, label: str, message: str) -> None:
    table = labels.load(source)
    assert label not in table
    with pytest.raises(ConfigError, match=message):
        table[label]
    with pytest.raises(ConfigError, match=message):
        table.get(label)


def test_nobody_changes_a_table() -> None:
    table = labels.load("coco")
    with pytest.raises(TypeError):
        table.classes["boat"] = None  # type: ignore[index]
    with pytest.raises(AttributeError):
        table.source = "mine"  # type: ignore[misc]


def test_a_table_travels_to_a_worker() -> None:
    table = labels.load("byzart")
    there = pickle.loads(pickle.dumps(table))
    assert (there, there.source, there.notes) == (table, "byzart", table.notes)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text('\ufefflabel,class_name,note\n"Boot, Kahn",ship,a boat\n\nRad,,\n', encoding="utf-8")
    table = labels.load(str(path))
    assert (table.source, dict(table), dict(table.notes)) == (
        "mine",
        {"Boot, Kahn": "ship", "Rad": None},
        {"Boot, Kahn": "a boat"},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,class\n", r"mine\.csv:1: expected the columns label,class_name,note, got label,class$"),
        (
            "label,class_name,note\na,ship,\nb,vehicle,\n",
            r"mine\.csv:3: class_name: expected one of angel, .*got 'vehicle'",
        ),
        (
            "label,class_name,note\na,ship,\nb,,\na,,\n",
            r"mine\.csv:4: label: expected one that no line above has, got 'a'",
        ),
        ("label,class_name,note\n ,ship,\n", r"mine\.csv:2: label: expected one that no line above has, got ''"),
        ("label,class_name,note\na,ship\n", r"mine\.csv:2: expected 3 columns, got 2"),
        ("label,class_name,note\na,ship,one, two\n", r"mine\.csv:2: expected 3 columns, got 4"),
        ('label,class_name,note\n"a,ship,\n', r"mine\.csv:2: expected a CSV table"),
        (None, r"mine\.csv: expected a CSV table in UTF-8: .*No such file"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        labels.load(str(path))


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes("label,class_name,note\nKühe,cow,\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="expected a CSV table in UTF-8"):
        labels.load(str(path))


def test_an_unknown_source_is_named() -> None:
    with pytest.raises(ConfigError, match=r"labels: expected one of byzart, coco, .* or a CSV file, got 'lvis'"):
        labels.load("lvis")
