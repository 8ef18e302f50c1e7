"""What holds of any input: tables come back, names stay apart, cuts lose nothing, terminals are safe."""

import json
import math
import tempfile
import unicodedata
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from artray import config, console, schema
from artray.archive import listing, reading
from artray.archive.listing import local_uri, text
from artray.config import ArchiveConfig
from artray.errors import ConfigError, InvariantError
from artray.location import Location
from artray.pipeline.plan import Work, parts
from artray.pipeline.worker import pack, unpack

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOAT = st.floats(0, 1, width=32)
SCORES = st.none() | st.dictionaries(TEXT, FLOAT, max_size=4)
BOX = st.fixed_dictionaries(
    dict.fromkeys(("class_name", "category", "source"), TEXT)
    | dict.fromkeys(("score", "x1_px", "y1_px", "x2_px", "y2_px"), FLOAT)
)
MOMENT = st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc))
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.none() | TEXT,
    pa.int64(): st.none() | st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.none() | st.integers(-(2**31), 2**31 - 1),
    pa.float32(): st.none() | FLOAT,
    pa.bool_(): st.none() | st.booleans(),
    pa.binary(): st.none() | st.binary(max_size=8),
    pa.list_(pa.float32()): st.none() | st.lists(FLOAT, max_size=4),
    pa.list_(schema.OBJECT): st.none() | st.lists(BOX, max_size=3),
    pa.timestamp("us", tz="UTC"): MOMENT,
    pa.map_(pa.string(), pa.string()): st.none() | st.dictionaries(TEXT, st.none() | TEXT, max_size=3),
    schema.SCORES: SCORES,
}
ROW = st.fixed_dictionaries({f.name: VALUES[f.type] if f.nullable else TEXT for f in schema.RECORD})


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Maps as dicts, as they went in."""
    maps = {field.name for field in schema.RECORD if pa.types.is_map(field.type)}
    return {name: dict(value) if name in maps and value is not None else value for name, value in row.items()}


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, max_size=4))
def test_any_record_comes_back_from_arrow_and_from_parquet(rows: list[dict[str, Any]]) -> None:
    batch = {name: [row[name] for row in rows] for name in schema.RECORD.names}
    table = schema.table(batch, schema.RECORD)
    assert table.schema == schema.RECORD
    assert [plain(row) for row in table.to_pylist()] == rows
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    assert pq.read_table(pa.BufferReader(sink.getvalue()), schema=schema.RECORD).equals(table)
    again = schema.batch(table)
    assert schema.table(again, schema.RECORD).equals(table)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(schema.RECORD.names),
    st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.lists(st.text())),
)
def test_any_value_fits_or_is_refused_by_name(name: str, value: Any) -> None:
    batch = {"image_id": ["a"], "uri": ["b"]} | {name: [value]}
    try:
        assert schema.table(batch, schema.RECORD).num_rows == 1
    except InvariantError as error:
        assert str(error).startswith(f"{name}: ")  # noqa: PT017 (either is right)


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 10), st.integers(1, 150))
def test_slices_lose_nothing_and_are_bounded(sizes: list[int], rows: int, size: int) -> None:
    cuts = list(schema.slices(sizes, rows, size))
    assert [index for cut in cuts for index in range(cut.start, cut.stop)] == list(range(len(sizes)))
    for cut in cuts:
        assert 1 <= cut.stop - cut.start <= rows
        assert sum(sizes[cut]) <= size or cut.stop - cut.start == 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20))
def test_parts_lose_nothing_and_never_mix(new: int, recorded: int, rows: int) -> None:
    cuts = list(parts(Work(Location("w"), new + recorded, recorded, 0), rows))
    assert [index for start, stop in cuts for index in range(start, stop)] == list(range(new + recorded))
    assert all(stop - start <= rows and (stop <= new or start >= new) for start, stop in cuts)


NAME = st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"\0", b"n").replace(b"/", b"s"))


@settings(max_examples=30, deadline=None)
@given(st.sets(NAME.filter(lambda name: name not in (b".", b"..")), min_size=1, max_size=5))
def test_files_of_any_name_are_listed_apart_and_read(names: set[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            Path(folder, name.decode("utf-8", "surrogateescape")).write_bytes(b"data of " + name)
        found = list(listing.entries(Location.of(folder), ArchiveConfig(include=("*",)), print))
        kept = {name for name in names if not name.lower().startswith(b"._")}  # what file managers leave
        assert {reading.read(entry.uri, entry.version, 100) for entry in found} == {b"data of " + name for name in kept}
        assert len({entry.image_id for entry in found}) == len(kept)
        for entry in found:
            entry.image_id.encode()
            entry.uri.encode()


@given(NAME, NAME)
def test_names_have_one_text_each(first: bytes, second: bytes) -> None:
    assert (text(first) == text(second)) == (first == second)
    assert text(text(first).encode()) != text(first) or text(first).encode() == first
    assert (local_uri(first) == local_uri(second)) == (first == second) or local_uri(first).startswith("file://")


@given(st.text())
def test_any_text_is_safe_on_a_terminal(value: str) -> None:
    shown = console.safe(value)
    shown.encode()
    assert not any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in shown)
    assert len(shown.splitlines()) <= 1


SIDES = st.integers(1, 9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.none() | st.tuples(SIDES, SIDES), max_size=6), st.integers(1, 3))
def test_any_pixels_cross_processes_as_they_are(sizes: list[tuple[int, int] | None], cut: int) -> None:
    random = np.random.default_rng(0)
    pixels = [None if size is None else random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    rows = [
        {"image_id": f"{at}", "uri": "u", "error": "" if p is not None else "corrupt"} for at, p in enumerate(pixels)
    ]
    batch = {name: [row[name] for row in rows] for name in ("image_id", "uri", "error")} | {"pixels": pixels}
    batches = [{name: column[at : at + cut] for name, column in batch.items()} for at in range(0, len(rows), cut)]
    back = [p for found in unpack(pack(batches)) for p in found["pixels"]]
    assert len(back) == len(pixels)
    assert all((a is None and b is None) or np.array_equal(a, b) for a, b in zip(pixels, back, strict=True))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = [f"{name}.{key}" for name, section in config.Profile(name="x") if name != "name" for key, _ in section]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*KEYS, "name", "decode", "nothing", "decode.nothing.x"]), JUNK | st.text())
def test_any_override_is_taken_or_refused_in_one_line(key: str, value: Any) -> None:
    written = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)
    try:
        profile = config.load("bundled", [f"{key}={written}"])
    except ConfigError as error:
        assert len(console.safe(error).splitlines()) == 1  # noqa: PT017 (either is right)
        return
    document = profile.model_dump(mode="json")
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert math.isfinite(profile.decode.timeout_s)
