"""A store against labels: its metrics are scikit-learn's, its mistakes can be looked at."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sklearn

from artray import schema
from artray.archive import listing
from artray.config import ArchiveConfig
from artray.errors import ConfigError
from artray.location import Location
from artray.metrics import classification
from artray.store import layout, sheet
from artray.store.evaluate import evaluate, save_sheet
from artray.store.layout import Store
from artray.store.records import Records
from artray.taxonomy import GENRES, TYPES

COUNT = 60


@pytest.fixture(scope="module")
def truth() -> dict[str, list[str]]:
    random = np.random.default_rng(1)
    return {"type": list(random.choice(TYPES, COUNT)), "genre": list(random.choice(GENRES, COUNT))}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, truth: dict[str, list[str]]) -> Store:
    """Sixty small pictures, of which the store calls some something else; one failed, one has vanished."""
    folder, random = tmp_path_factory.mktemp("archive"), np.random.default_rng(2)
    for number in range(COUNT):
        (folder / "sub").mkdir(exist_ok=True)
        Image.new("RGB", (60, 40 + number), (number * 4, 90, 90)).save(folder / "sub" / f"{number:02}.png")
    entries = listing.entries(Location.of(folder), ArchiveConfig(), lambda _: None)
    rows = []
    for number, entry in enumerate(sorted(entries, key=lambda entry: entry.image_id)):
        row = {"image_id": entry.image_id, "uri": entry.uri, "version": entry.version, "error": "", "width_px": 60}
        row |= {"height_px": 40 + number, "metadata": {"artist": f"artist {number % 9}"}}
        for head, names in (("type", TYPES), ("genre", GENRES)):
            scores = random.dirichlet(np.ones(len(names)))
            if number % 3:
                scores[names.index(truth[head][number])] += 1
            scores /= scores.sum()
            best = int(scores.argmax())
            row |= {head: names[best], f"{head}_score": float(scores[best])}
            row[f"{head}_scores"] = dict(zip(names, map(float, scores), strict=True))
        rows.append(row)
    rows[58] |= {"error": "truncated", "type": None, "genre": None}
    made = layout.create_store(tmp_path_factory.mktemp("store"))
    Records.create(made).append(
        schema.table({name: [row.get(name) for row in rows] for name in schema.RECORD.names}, schema.RECORD)
    )
    return made


def labels(path: Path, truth: dict[str, list[str]], columns: tuple[str, ...] = ("type", "genre")) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *columns])
        writer.writerows([f"{n:02}.png", *(truth[name][n] for name in columns)] for n in range(COUNT))
        writer.writerow(["not-here.png", *("painting" for _ in columns)])
    return str(path)


def test_metrics_are_scikit_learns(store: Store, truth: dict[str, list[str]], tmp_path: Path) -> None:
    told = evaluate(store, labels(tmp_path / "labels.csv", truth), resamples=200)
    assert told["n"] == COUNT - 1
    rows = {row["image_id"]: row for row in Records.open(store).delta().to_pyarrow_table().to_pylist()}
    good = [n for n in range(COUNT) if not rows[f"sub/{n:02}.png"]["error"]]
    for head, names in (("type", TYPES), ("genre", GENRES)):
        expected = [truth[head][n] for n in good]
        said = [rows[f"sub/{n:02}.png"][head] for n in good]
        f1 = sklearn.f1_score(expected, said, labels=list(names), average=None)
        for name, value in zip(names, f1, strict=True):
            assert told["classes"][name]["f1"]["value"] == pytest.approx(value)
            assert told["classes"][name]["n"] == expected.count(name)
        assert told["metrics"][head]["mcc"]["value"] == pytest.approx(sklearn.matthews_corrcoef(expected, said))
        matrix = told["confusion"][head]
        order = matrix["classes"]
        assert matrix["matrix"] == sklearn.confusion_matrix(expected, said, labels=order).tolist()
        mistakes = [entry for entry in told["mistakes"] if entry["head"] == head]
        assert len(mistakes) == sum(one != two for one, two in zip(expected, said, strict=True))
    scores = [entry["score"] for entry in told["mistakes"]]
    assert scores == sorted(scores, reverse=True)


def test_intervals_resample_artists(
    store: Store, truth: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []
    usual = classification.bootstrap

    def spied(*arguments, **more):
        given.append(list(arguments[3]))
        return usual(*arguments, **more)

    monkeypatch.setattr(classification, "bootstrap", spied)
    evaluate(store, labels(tmp_path / "labels.csv", truth, ("type",)), resamples=10)
    assert set(given[0]) == {f"artist {number}" for number in range(9)}


def test_labels_that_the_model_does_not_know_are_told(
    store: Store, truth: dict[str, list[str]], tmp_path: Path
) -> None:
    other = {"type": ["print" if n < 5 else name for n, name in enumerate(truth["type"])]}
    told = evaluate(store, labels(tmp_path / "labels.csv", other, ("type",)), resamples=10)
    assert told["unknown"] == {"print": 5}
    assert told["n"] == COUNT - 6
    assert set(told["metrics"]) == {"type"}
    with pytest.raises(ConfigError, match=r"expected a column type or genre with labels of images of .*, found none"):
        evaluate(store, labels(tmp_path / "none.csv", {"artist": ["x"] * COUNT}, ("artist",)))


def test_mistakes_are_a_picture(store: Store, truth: dict[str, list[str]], tmp_path: Path) -> None:
    told = evaluate(store, labels(tmp_path / "labels.csv", truth), resamples=10)
    shown = save_sheet(
        store, [told["mistakes"][0] | {"uri": "file:///gone.png"}, *told["mistakes"][:7]], tmp_path / "m.png"
    )
    assert shown == 8
    picture = Image.open(tmp_path / "m.png")
    width, height = sheet.CELL_PX + sheet.MARGIN_PX, sheet.CELL_PX + sheet.CAPTION_PX + sheet.MARGIN_PX
    assert picture.size == (5 * width + sheet.MARGIN_PX, 2 * height + sheet.MARGIN_PX)
    with pytest.raises(ConfigError, match=r"expected a name that ends with \.jpg"):
        save_sheet(store, told["mistakes"], tmp_path / "m.gif")
