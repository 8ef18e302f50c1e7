"""What lies where in a store.

STORE/store.json            format version, embedding dimension
STORE/lease.json            which run writes at present
STORE/records/              a Delta Lake table: Parquet parts and a transaction log
STORE/runs/RUN_ID.json      profile, cards, versions, counts, timings of a run
STORE/runs/RUN_ID/          its manifest and work list
STORE/corrections/          what people put right; see artray.store.corrections
STORE/duplicates/           groups of copies; see artray.store.duplicates
STORE/vectors/              the vector index: derived, rebuilt from records at any time
STORE/methods/NAME/         embeddings by another method: a store of its own, whose records have these alone
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.fs

from artray import __version__, schema
from artray.errors import ConfigError
from artray.location import Location

OWN: Final = ("records", "runs", "corrections", "duplicates", "vectors", "methods", "lease.json")
METHODS: Final = "methods"
ENCODED: Final = re.compile("%[0-9A-Fa-f]{2}")


@dataclass(frozen=True)
class Store:
    """A store's parts by name."""

    location: Location

    @property
    def uri(self) -> str:
        """Path or ``s3://bucket/prefix``."""
        return self.location.uri

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine (or of a file system mounted on it)."""
        return not self.location.is_s3

    @property
    def records(self) -> Location:
        """The Delta table."""
        return self.location / "records"

    @property
    def records_uri(self) -> str:
        """The Delta table's path or URI."""
        return self.records.uri

    @property
    def storage_options(self) -> dict[str, str]:
        """What deltalake needs to reach the table."""
        return self.location.storage_options

    @property
    def filesystem(self) -> pyarrow.fs.FileSystem:
        """The pyarrow file system of the store."""
        return self.location.filesystem

    @property
    def root(self) -> str:
        """The store's path inside :attr:`filesystem`."""
        return self.location.root

    @property
    def local_path(self) -> Path | None:
        """The folder, where it is one."""
        return self.location.path if self.is_local else None

    @property
    def vectors_path(self) -> Path:
        """Where Milvus Lite keeps its files: always a local folder, a cache where the store is on S3."""
        if self.is_local:
            return self.location.path / "vectors"
        cache = Path(os.environ.get("ARTRAY_CACHE") or Path.home() / ".cache" / "artray")
        return cache / "vectors" / self.location.key

    def method(self, name: str) -> "Store":
        """The store of another method's embeddings, which may not be there."""
        return Store(self.location / METHODS / name)

    def methods(self) -> list[str]:
        """The names of the methods that have embeddings."""
        names = (self.location / METHODS).names()
        return [name for name in names if self.method(name).read_json("store.json") is not None]

    @property
    def is_method(self) -> bool:
        """Whether it holds a method's embeddings, and labels and boxes are in the store above it."""
        return "method" in (self.read_json("store.json") or {})

    @property
    def embedding(self) -> dict[str, Any]:
        """What store.json says of the embeddings: card, fingerprint, dimension and metric; empty without any."""
        return (self.read_json("store.json") or {}).get("embedding") or {}

    def run(self, run_id: str) -> Location:
        """The folder of a run."""
        return self.location / "runs" / run_id

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A small document of the store, or None."""
        return (self.location / name).read_json()

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        """Replace a small document of the store."""
        (self.location / name).write_json(document)

    def runs(self, latest: int | None = None) -> list[dict[str, Any]]:
        """The reports of all runs, or of so many of the latest, oldest first: a run's id begins with its time."""
        folder = self.location / "runs"
        names = [name for name in folder.names() if name.endswith(".json") and not name.startswith(".")]
        reports = [(folder / name).read_json() for name in (names if latest is None else names[-latest:])]
        return sorted((r for r in reports if r), key=lambda r: str(r.get("started_at", "")))


def open_store(uri: str | os.PathLike[str]) -> Store:
    """An existing store.

    Raises:
        ConfigError: there is none, or a newer artray wrote it.
    """
    store = Store(Location.of(uri))
    _check_name(store)
    described = store.read_json("store.json")
    if described is None:
        raise ConfigError(f"{uri}: no artray store here; make one with: artray process ARCHIVE {uri}")
    version = described.get("format_version")
    if isinstance(version, int) and version < schema.FORMAT_VERSION:
        raise ConfigError(
            f"{uri}: expected store format {schema.FORMAT_VERSION}, got {version}, of a trial version of artray; "
            "process the archive into a new store"
        )
    if not isinstance(version, int) or version > schema.FORMAT_VERSION:
        raise ConfigError(
            f"{uri}: store format {version} is newer than this artray ({__version__}) reads; upgrade artray"
        )
    return store


def create_store(uri: str | os.PathLike[str], **told: Any) -> Store:
    """The store at ``uri``, made if there is none.

    Args:
        uri: where.
        told: what store.json says of a new one besides.

    Raises:
        ConfigError: the folder holds something that is not a store, or cannot be one.
    """
    store = Store(Location.of(uri))
    _check_name(store)
    if store.is_local and store.location.path.is_file():
        raise ConfigError(f"{uri}: expected a folder, got a file; name another place for the store")
    if store.read_json("store.json") is not None:
        return open_store(uri)
    strangers = [name for name in store.location.names() if name not in OWN]
    if strangers:
        raise ConfigError(f"{uri}: expected an empty folder or a store, found {strangers[0]}; name another place")
    store.location.make()
    store.write_json("store.json", {"format_version": schema.FORMAT_VERSION, "artray": __version__} | told)
    return store


def _check_name(store: Store) -> None:
    """Refuse a place of whose name Delta Lake, which takes it for a URL, would use a part only.

    Raises:
        ConfigError: it holds % and two digits, or on S3 a # or ?.
    """
    if ENCODED.search(store.uri) or (store.location.is_s3 and set("#?") & set(store.uri)):
        raise ConfigError(
            f"{store.uri}: expected a place without % and two digits, and on S3 without # and ?, in its name, "
            "which Delta Lake takes apart; name another place"
        )
