"""Proves what artray promises of a store, or says which row breaks a promise."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from artray.errors import ERROR_KINDS
from artray.store import views
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.vectors import configured, opened

NORM_TOLERANCE: Final = 1e-3
EXAMPLES: Final = 3


@dataclass(frozen=True)
class Promise:
    """One promise, and whether it is kept."""

    name: str
    ok: bool
    detail: str


KINDS: Final = ", ".join(f"'{kind}'" for kind in ("", *ERROR_KINDS))

ROWS: Final[dict[str, str]] = {
    "one row per image": "SELECT image_id FROM stored GROUP BY image_id HAVING count(*) > 1",
    "every row has a known state": f"SELECT image_id FROM stored WHERE error IS NULL OR error NOT IN ({KINDS})",  # noqa: S608
    "a good row is whole": (
        "SELECT image_id FROM stored WHERE error = '' AND (width_px IS NULL OR height_px IS NULL OR "
        "content_sha256 IS NULL OR perceptual_hash IS NULL OR thumbnail IS NULL OR chroma IS NULL OR "
        "embedding IS NULL OR mean_rgb IS NULL OR objects IS NULL OR models IS NULL OR run_id IS NULL OR "
        "processed_at IS NULL)"
    ),
    "a failed row has a reason and no results": (
        "SELECT image_id FROM stored WHERE error != '' AND (coalesce(error_detail, '') = '' OR type IS NOT NULL OR "
        "genre IS NOT NULL OR mean_rgb IS NOT NULL OR embedding IS NOT NULL OR objects IS NOT NULL OR "
        "perceptual_hash IS NOT NULL OR thumbnail IS NOT NULL OR chroma IS NOT NULL)"
    ),
    "embeddings have unit norm": (
        "SELECT image_id FROM stored WHERE embedding IS NOT NULL AND NOT "  # noqa: S608
        f"coalesce(abs(sqrt(list_sum(list_transform(embedding, lambda x: x * x))) - 1) < {NORM_TOLERANCE}, false)"
    ),
    "mean colours have three values in [0, 255]": (
        "SELECT image_id FROM stored WHERE mean_rgb IS NOT NULL AND NOT (len(mean_rgb) = 3 AND "
        "len(list_filter(mean_rgb, lambda x: coalesce(x BETWEEN 0 AND 255, false))) = 3)"
    ),
    "thumbnails have 32 x 32 values, and no chroma is negative": (
        "SELECT image_id FROM stored WHERE (thumbnail IS NOT NULL AND octet_length(thumbnail) != 1024) OR "
        "(chroma IS NOT NULL AND NOT (isfinite(chroma) AND chroma >= 0))"
    ),
    "scores are in [0, 1] and the named class has the highest": (
        "SELECT image_id FROM stored WHERE (type IS NOT NULL AND NOT coalesce(type_score BETWEEN 0 AND 1 AND "
        "type_score = type_scores[type] AND type_score = list_max(map_values(type_scores)) AND "
        "list_min(map_values(type_scores)) >= 0, false)) OR (genre IS NOT NULL AND NOT coalesce("
        "genre_score BETWEEN 0 AND 1 AND genre_score = genre_scores[genre] AND "
        "genre_score = list_max(map_values(genre_scores)) AND list_min(map_values(genre_scores)) >= 0, false))"
    ),
    "disagreements are in [0, 1]": (
        "SELECT image_id FROM stored WHERE NOT (coalesce(type_disagreement BETWEEN 0 AND 1, true) AND "
        "coalesce(genre_disagreement BETWEEN 0 AND 1, true))"
    ),
    "boxes lie within their image": (
        "SELECT image_id FROM stored WHERE len(list_filter(objects, lambda o: NOT coalesce(o.score BETWEEN 0 AND 1 AND "
        "o.x1_px >= 0 AND o.y1_px >= 0 AND o.x1_px <= o.x2_px AND o.y1_px <= o.y2_px AND "
        "o.x2_px <= width_px AND o.y2_px <= height_px, false))) > 0"
    ),
}
"""Promise to a query of the image_ids that break it."""

METHOD_ROWS: Final[dict[str, str]] = {
    **{name: ROWS[name] for name in ("one row per image", "every row has a known state")},
    "a good row has an embedding of the card's length, of finite numbers": (
        "SELECT image_id FROM stored WHERE error = '' AND (models IS NULL OR run_id IS NULL OR processed_at IS NULL OR "
        "NOT coalesce(len(embedding) = {dimension} AND "
        "list_bool_and(list_transform(embedding, lambda x: isfinite(x))), false))"
    ),
    "a failed row has a reason and no embedding": (
        "SELECT image_id FROM stored WHERE error != '' AND (coalesce(error_detail, '') = '' OR embedding IS NOT NULL)"
    ),
}
"""The same of the records of another method's embeddings."""


def verify(store: Store, archive: str | None = None) -> dict[str, Any]:
    """Check every promise, as ``artray verify --json`` prints it.

    Args:
        store: which store.
        archive: also compare with what is there now.

    Raises:
        ConfigError: there are no records, or no such archive.
    """
    found = _checked(store, _row_promises(store), archive)
    for name in store.methods():
        method = store.method(name)
        of_method = _checked(method, _row_promises(method), archive)
        found += [replace(promise, name=f"method {name}: {promise.name}") for promise in of_method]
    return {"ok": all(promise.ok for promise in found), "promises": [asdict(promise) for promise in found]}


def _row_promises(store: Store) -> dict[str, str]:
    """The promises of a store's rows, or of a method's."""
    if not store.is_method:
        return ROWS
    dimension = int(store.embedding.get("dimension") or 0)
    return {name: query.replace("{dimension}", str(dimension)) for name, query in METHOD_ROWS.items()}


def _checked(store: Store, promises: Mapping[str, str], archive: str | None) -> list[Promise]:
    records = Records.open(store)
    found = [_parts(store, records)]
    if not found[0].ok:  # what is left cannot be read as a whole
        return found + [Promise(name, False, "not checked: a part is not there") for name in promises]
    found += [*_rows(records, promises), *_vectors(store, records)]
    return found + ([] if archive is None else list(_archive(store, records, archive)))


def _rows(records: Records, promises: Mapping[str, str]) -> Iterator[Promise]:
    with views.opened(records) as database:
        total = database.execute("SELECT count(*) FROM stored").fetchall()[0][0]
        for name, query in promises.items():
            breaking = [row[0] for row in database.execute(f"{query} ORDER BY 1 LIMIT 1000").fetchall()]
            yield _promise(name, breaking, f"{total:,} rows")


def _promise(name: str, breaking: list[str], kept: str) -> Promise:
    if not breaking:
        return Promise(name, True, kept)
    more = f" and {len(breaking) - EXAMPLES:,} more" if len(breaking) > EXAMPLES else ""
    return Promise(name, False, f"broken by {', '.join(map(repr, breaking[:EXAMPLES]))}{more}")


def _parts(store: Store, records: Records) -> Promise:
    """Every file that the log names is there, in its size."""
    actions = records.delta().get_add_actions(flatten=True)
    paths, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
    found = store.filesystem.get_file_info([(store.records / path).root for path in paths])
    broken = [path for path, size, info in zip(paths, sizes, found, strict=True) if info.size != size]
    return _promise("every part is there", broken, f"{len(paths):,} parts")


def _vectors(store: Store, records: Records) -> Iterator[Promise]:
    """Nothing is promised of vectors that the latest run was told to leave out."""
    cfg = configured(store)
    if not cfg.index:
        return
    with opened(store, cfg=cfg) as index:
        count, lag = index.count, index.lag(records)
    hint = f"; run: artray index {store.uri}" if lag else ""
    yield Promise("every embedding can be searched", lag == 0, f"{count:,} vectors, {lag:,} to bring up to date{hint}")


def _archive(store: Store, records: Records, archive: str) -> Iterator[Promise]:
    """The records against a listing made now, with the include and exclude patterns of the last run."""
    from tempfile import TemporaryDirectory

    from artray.archive import listing
    from artray.config import ArchiveConfig
    from artray.location import Location
    from artray.pipeline.plan import Planner, write_manifest

    source = Location.of(archive)
    listing.check(source)
    runs = store.runs(1)
    cfg = ArchiveConfig.model_validate(runs[-1]["profile"]["archive"]) if runs else ArchiveConfig()
    problems: list[str] = []
    with TemporaryDirectory() as folder:
        target = Location(f"{folder}/manifest.parquet")
        manifest = write_manifest(listing.entries(source, cfg, problems.append), target, problems, lambda _: None)
        with Planner(manifest, records, None) as planner:
            kept = f"{manifest.images:,} images"
            yield _promise("every image of the archive has a row", planner.unrecorded(), kept)
            yield _promise("every row is of the image's present version", planner.outdated(), kept)
            gone = planner.vanished().column("image_id").to_pylist()
            yield _promise("every row without an image is marked as vanished", gone, kept)
            back = planner.returned().column("image_id").to_pylist()
            yield _promise("no row of an image that is there is marked as vanished", back, kept)
    if problems:
        yield _promise("every folder can be listed", problems, kept)
