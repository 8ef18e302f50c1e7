"""Columns and their types: what fits, and a clear error for what does not."""

from datetime import datetime, timezone

import pyarrow as pa
import pytest

from artray import schema
from artray.errors import InvariantError


def test_a_record_is_all_that_the_stages_yield_less_pixels() -> None:
    assert schema.RECORD.names == [
        *("image_id", "uri", "size_bytes", "version", "metadata"),
        *("width_px", "height_px", "content_sha256", "error", "error_detail"),
        *("perceptual_hash", "thumbnail", "chroma"),
        *("type", "type_score", "type_scores", "type_disagreement"),
        *("genre", "genre_score", "genre_scores", "genre_disagreement", "mean_rgb", "embedding"),
        *("objects", "models", "run_id", "processed_at", "vanished_at"),
    ]


def test_columns_are_typed_even_where_all_is_empty() -> None:
    for batch in ({}, {"image_id": [], "uri": []}):
        table = schema.table(batch, schema.RECORD)
        assert table.schema == schema.RECORD
        assert table.num_rows == 0
    table = schema.table({"image_id": ["a"], "uri": ["b"], "objects": [[]]}, schema.RECORD)
    assert table.schema == schema.RECORD  # not list<null>, which no other part of the table would fit
    assert table.column("objects").to_pylist() == [[]]
    assert table.column("embedding").to_pylist() == [None]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("size_bytes", 2**70),
        ("size_bytes", "many"),
        ("uri", "\udcff"),  # what Python makes of a file name that is no UTF-8
        ("metadata", {None: "x"}),
        ("metadata", 5),
        ("objects", [5]),
        ("mean_rgb", "grey"),
        ("embedding", [[1.0]]),
        ("processed_at", "today"),
        ("image_id", None),
    ],
)
def test_values_that_do_not_fit_are_named(column: str, value: object) -> None:
    batch = {"image_id": ["a"], "uri": ["b"]} | {column: [value]}
    with pytest.raises(InvariantError, match=column):
        schema.table(batch, schema.RECORD)


def test_columns_of_different_lengths_are_no_batch() -> None:
    with pytest.raises(InvariantError, match=r"columns differ in length: \{'a': 1, 'b': 2\}"):
        schema.rows({"a": [1], "b": [1, 2]})
    assert schema.rows({}) == 0
    assert schema.rows({"a": []}) == 0


def test_a_batch_comes_back_from_its_table() -> None:
    found = {
        **dict.fromkeys(("class_name", "category", "source"), "x"),
        **dict.fromkeys(("score", "x1_px", "y1_px", "x2_px", "y2_px"), 0.5),
    }
    batch = {
        "image_id": ["a"],
        "uri": ["b"],
        "metadata": [{"k": "v"}],
        "objects": [[found]],
        "processed_at": [datetime(2024, 1, 1, tzinfo=timezone.utc)],
    }
    back = schema.batch(schema.table(batch, schema.RECORD))
    assert list(back) == schema.RECORD.names
    assert dict(back["metadata"][0]) == {"k": "v"}
    assert {name: back[name] for name in ("image_id", "objects", "processed_at")} == {
        name: batch[name] for name in ("image_id", "objects", "processed_at")
    }


def test_join_keeps_order() -> None:
    assert schema.join(pa.schema([("a", pa.int8())]), pa.schema([("b", pa.int8())])).names == ["a", "b"]


def test_slices_never_stall_on_a_row_that_is_too_large() -> None:
    assert list(schema.slices([], 2, 10)) == []
    assert list(schema.slices([99], 2, 10)) == [slice(0, 1)]
    assert list(schema.slices([1] * 5, 2, 10)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(schema.slices([6, 6, 4], 9, 10)) == [slice(0, 1), slice(1, 3)]  # 6 + 6 > 10, 6 + 4 = 10
