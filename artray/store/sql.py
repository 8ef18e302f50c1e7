"""SQL over a store: anybody's SELECT, bounded in time, memory and rows.

    answer = sql.query(store, "SELECT type, count(*) FROM works GROUP BY type")

A statement runs in a process of its own (artray.store.sandbox). :class:`Session` keeps that process for further
statements over the same version of the records; :func:`query` asks once.
"""

import json
import os
import re
import selectors
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Final, NamedTuple

import pyarrow as pa

from artray.errors import ConfigError, TransientError
from artray.store import views
from artray.store.layout import Store
from artray.store.records import Records

START_S: Final = 60.0
MAX_BYTES: Final = 64 * 2**20
"""The most that an answer may hold."""

UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
START: Final = f"import sys; sys.path.insert(0, {ROOT!r}); from artray.store.sandbox import main; main()"


class Answer(NamedTuple):
    """What a statement selects."""

    columns: list[str]
    rows: list[list[Any]]  # values as JSON knows them
    more: bool = False  # the statement has more rows than were asked for


class LateError(Exception):
    """The process did not answer in time."""


class Session:
    """A bounded process that answers SELECT statements over one version of the records; a context manager.

    Args:
        store: which store.
        memory: the most that a statement may use, such as "1GB"; nothing is spilled to disk.
        threads: how many DuckDB may use.

    Raises:
        ConfigError: ``memory`` is not an amount, or the store has no records.
    """

    def __init__(self, store: Store, *, memory: str = "1GB", threads: int | None = None) -> None:
        records = Records.open(store)
        self.version, self.memory, self.is_local = records.version, memory, store.is_local
        self._request: dict[str, Any] = {
            "files": views.parts(records),
            "store": store.uri,
            "version": records.version,
            "memory_bytes": _amount(memory),
            "threads": threads or min(8, os.cpu_count() or 1),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Session":
        self._started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.wait()

    def query(self, statement: str, *, timeout_s: float = 30.0, max_rows: int = 10_000) -> Answer:
        """The rows that a SELECT statement yields.

        Raises:
            ConfigError: it is not a SELECT, it is wrong, or it needs more time or memory than allowed.
        """
        request = {"statement": statement, "max_rows": max_rows, "max_bytes": MAX_BYTES}
        process = self._started()
        try:
            head, data = _ask(process, request, time.monotonic() + timeout_s)
        except LateError as error:
            self.close()
            raise ConfigError(
                f"sql: stopped after {timeout_s:g} s; select less, or allow more with --timeout"
            ) from error
        except (EOFError, OSError) as error:
            self.close()
            raise self._starved() from error
        if head.get("kind") == "memory":
            self.close()  # the next statement starts with a process that holds nothing
            raise self._starved()
        if "error" in head:
            self._check_parts(str(head["error"]))
            raise ConfigError(f"sql: {_one_line(str(head['error']))}")
        return Answer(list(head["columns"]), _rows(data), bool(head["more"]))

    def _check_parts(self, message: str) -> None:
        """Find out whether it is the parts that are at fault, and not the statement.

        Raises:
            TransientError: they are.
        """
        gone = next((file for file in self._request["files"] if not os.path.exists(file)), None)  # noqa: PTH110
        if gone or views.DAMAGED.search(message):
            uri = self._request["store"]
            reason = f"{gone} is gone" if gone else _one_line(message)
            raise TransientError(f"{uri}: the records cannot be read: {reason}; {views.ASK_AGAIN} {uri}")

    def _starved(self) -> ConfigError:
        return ConfigError(f"sql: needs more than {self.memory} of memory; select less, or allow more with --memory")

    def _started(self) -> "subprocess.Popen[bytes]":
        """The process, started if there is none."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(secrets=not self.is_local),
            cwd="/" if os.name == "posix" else None,
            start_new_session=True,
        )
        try:
            _ask(self._process, self._request, time.monotonic() + START_S)
        except (LateError, EOFError, OSError) as error:
            self.close()
            self._check_parts("")
            raise TransientError("sql: the process for statements did not start; run again") from error
        return self._process


def query(
    store: Store, statement: str, *, timeout_s: float = 30.0, memory: str = "1GB", max_rows: int = 10_000
) -> Answer:
    """The rows that a SELECT statement over the views ``works`` and ``objects`` yields.

    Raises:
        ConfigError: it is not a SELECT, it is wrong, or it needs more time or memory than allowed.
    """
    with Session(store, memory=memory) as session:
        return session.query(statement, timeout_s=timeout_s, max_rows=max_rows)


def _environment(secrets: bool) -> dict[str, str]:
    """What the process may know: how to import, and how to reach S3 where the store is there."""
    wanted = re.compile(
        r"(LANG|LC_.*|PATH|PYTHONPATH|SYSTEMROOT|LD_LIBRARY_PATH" + (r"|AWS_.*|HOME)" if secrets else ")")
    )
    known = {name: value for name, value in os.environ.items() if wanted.fullmatch(name)}
    return known | {"ARROW_DEFAULT_MEMORY_POOL": "system"}  # the others reserve a gigabyte that nobody uses


def _ask(process: "subprocess.Popen[bytes]", request: dict[str, Any], until: float) -> tuple[dict[str, Any], bytes]:
    """Send a request and read its answer.

    Raises:
        LateError: the answer was not complete at ``until``.
        EOFError: the process ended.
    """
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 (both are pipes)
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    received, head = bytearray(), None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while head is None or len(received) < head["bytes"]:
            if not selector.select(max(0.0, until - time.monotonic())):
                raise LateError
            received += os.read(process.stdout.fileno(), 2**20) or _ended()
            if head is None and (end := received.find(b"\n")) >= 0:
                head = json.loads(received[:end])
                del received[: end + 1]
    return head, bytes(received)


def _ended() -> bytes:
    raise EOFError


def _rows(data: bytes) -> list[list[Any]]:
    """An Arrow stream's rows, in values that JSON knows."""
    table = pa.ipc.open_stream(data).read_all()
    columns = [column.to_pylist(maps_as_pydicts="lossy") for column in table.columns]
    return [[views.plain(value) for value in row] for row in zip(*columns, strict=True)]


def _one_line(message: str) -> str:
    """DuckDB's message with its hint, less the picture of where in the statement it is."""
    return " ".join(message.split("\n\nLINE ", maxsplit=1)[0].split())[:500]


def _amount(text: str) -> int:
    """Bytes of "1GB" and the like.

    >>> _amount("1.5 GiB")
    1610612736
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B?)\s*", text.upper())
    if not match or match[2] not in UNITS or float(match[1]) * UNITS[match[2]] < 16 * 10**6:
        raise ConfigError(f"memory: expected an amount from 16MB, such as 512MB or 1GB, got {text!r}")
    return int(float(match[1]) * UNITS[match[2]])
