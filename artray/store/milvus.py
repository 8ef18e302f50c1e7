"""Milvus as artray uses it: one collection, its fields, its filters, and how to reach it.

A local folder of Milvus Lite or a server, through the same client. Milvus Lite is one process at a time.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from artray.errors import ConfigError, StoreBusyError, TransientError
from artray.location import first_line

MAX_TEXT: Final = 65_535
FIELDS: Final = ("image_id", "processed_at", "embedding")
BUILD: Final = {"M": 16, "efConstruction": 100}


def key(image_id: str) -> str:
    r"""The primary key of an image: 32 hexadecimal digits, whatever its name looks like.

    >>> len(key("a/ü'\".jpg"))
    32
    """
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def create(client: Any, name: str, dim: int, metric: str = "IP") -> None:
    """Make the collection of vectors of ``dim`` values, compared by inner product or by L2."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=32)
    schema.add_field("processed_at", DataType.INT64)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dim)
    for field in ("image_id", "type", "genre", "objects"):
        schema.add_field(field, DataType.VARCHAR, max_length=MAX_TEXT)
    parameters = client.prepare_index_params()
    parameters.add_index("embedding", index_type="HNSW", metric_type=metric, params=BUILD)
    client.create_collection(name, schema=schema, index_params=parameters)


def entity(row: dict[str, Any], processed_at_us: int, embedding: NDArray[np.float32]) -> dict[str, Any]:
    """A record as the collection holds it: names in lower case, those of objects between bars, ``|animals|dog|``."""
    objects = row["objects"] or []
    names = sorted({str(o[field]).lower() for o in objects for field in ("class_name", "category") if o[field]})
    return {
        "key": key(row["image_id"]),
        "image_id": row["image_id"],
        "processed_at": processed_at_us,
        "embedding": embedding,
        "type": (row["type"] or "").lower(),
        "genre": (row["genre"] or "").lower(),
        "objects": f"|{'|'.join(names)}|"[:MAX_TEXT],
    }


def expression(type_name: str | None, genre: str | None, names: Iterable[str]) -> str:
    """A Milvus filter: this type, this genre, and at least one object of each class or category.

    >>> expression("Painting", None, ["dog"])
    'type == "painting" and objects like "%|dog|%"'

    Raises:
        ConfigError: a name that is not :func:`expressible`.
    """
    names = list(names)
    for text in (type_name or "", genre or "", *names):
        if not expressible(text):
            raise ConfigError(f"filter: {text!r} cannot stand in a Milvus filter")
    parts = [f'{field} == "{value.lower()}"' for field, value in (("type", type_name), ("genre", genre)) if value]
    return " and ".join(parts + [f'objects like "%|{name.lower()}|%"' for name in names])


def expressible(text: str) -> bool:
    """Whether a name can stand in a Milvus filter, which has no bound parameters in Milvus Lite.

    >>> expressible("persons (others)"), expressible('" or true or "')
    (True, False)
    """
    return text.isprintable() and not set(text) & set("\"'\\%_|{}")


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Milvus's errors as a TransientError in one line."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        raise TransientError(f"{what}: Milvus failed: {first_line(error)}; run again") from error


def server(uri: str) -> Any:
    """A client of a Milvus server.

    Raises:
        TransientError: none answers.
    """
    from pymilvus import MilvusClient

    with failing(uri):
        return MilvusClient(uri)


def lite(path: Path) -> Any:
    """A client of Milvus Lite on a local folder, made if there is none.

    Raises:
        StoreBusyError: another process has it open.
        TransientError: it did not start.
    """
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet("milvus_lite.server_manager", "pymilvus"):
        try:
            return MilvusClient(str(path))
        except MilvusException as error:
            if held(path):
                raise StoreBusyError(
                    f"{path}: another process has the vectors open (a running job, or artray serve); wait until it "
                    "has ended, or give a Milvus server as store.milvus_uri"
                ) from error
            raise TransientError(f"{path}: Milvus Lite did not start: {first_line(error)}") from error


def release(path: Path) -> None:
    """Stop this process's Milvus Lite on a folder, which closing a client does not."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(str(path))


def held(path: Path) -> bool:
    """Whether a process has Milvus Lite open on this folder; False where the system cannot tell."""
    try:
        import fcntl

        with (path / "LOCK").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ImportError):
        return False
    return False


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Keep libraries from printing the traceback of an error that they raise as well."""
    logs = [logging.getLogger(name) for name in loggers]
    before = [log.disabled for log in logs]
    try:
        for log in logs:
            log.disabled = True
        yield
    finally:
        for log, disabled in zip(logs, before, strict=True):
            log.disabled = disabled
