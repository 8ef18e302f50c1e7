"""The process in which a user's SQL runs: nothing to find, nothing to write, little to use up.

DuckDB's own limits stop most of what a statement should not do, but not all: ``range(1000000000)`` takes 20 GB under
a memory limit of 1 GB and does not listen to an interrupt. So a statement runs in a process that the operating system
bounds and that its parent (artray.store.sql) kills when its time is up. It speaks JSON lines on stdin; every answer
is one JSON line, and an Arrow stream of as many bytes as that line says.
"""

import io
import json
import os
import sys
from typing import IO, Any, Final

MARGIN_BYTES: Final = 256 * 2**20
"""What threads' stacks, allocators and the answer take besides the statement's own memory."""

TABLE_FUNCTIONS: Final = frozenset(
    {
        *("duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_tables", "duckdb_types", "duckdb_views"),
        *("generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "summary", "unnest"),
        *("pragma_show", "pragma_table_info", "pragma_version"),
    }
)
"""What may stand in FROM besides tables; everything else reads files, memory or settings, or hides further SQL."""


class RefusedError(Exception):
    """The statement is not one that may run."""


def main() -> None:
    """Serve statements until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    request = json.loads(sys.stdin.readline())
    connection = prepare(request)
    answer(answers, {"ready": True})
    for line in sys.stdin:
        serve(connection, json.loads(line), answers)


def prepare(request: dict[str, Any]) -> Any:
    """A locked connection with the views, in a process that can neither write a file nor grow.

    Args:
        request: store, files (its Parquet parts) or version (where the parts are on S3), memory_bytes, threads.
    """
    import duckdb

    from artray.location import Location
    from artray.store import duplicates, views
    from artray.store.layout import Store, open_store

    records = None
    if not request["files"]:
        from artray.store.records import Records

        records = Records.open(open_store(request["store"]), request["version"])
    connection = duckdb.connect(config={"threads": request["threads"], "memory_limit": f"{request['memory_bytes']}B"})
    views.define(connection, request["files"], records)
    connection.register("duplicates", duplicates.table(Store(Location.of(request["store"]))))
    _lock(connection, request["files"])
    _bound(_data_bytes() + request["memory_bytes"] + MARGIN_BYTES)
    return connection


def _lock(connection: Any, files: list[str]) -> None:
    """No file but the parts, no extension, no spilling to disk, no Python object; and no way back."""
    connection.execute("SET TimeZone = 'UTC'")
    allowed = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
    for setting in (
        f"allowed_paths = [{allowed}]",
        "temp_directory = ''",
        "max_temp_directory_size = '0B'",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def _bound(data_bytes: int) -> None:
    """Let the operating system refuse memory beyond ``data_bytes``, files of any size, and core dumps."""
    try:
        import resource
    except ImportError:  # Windows: DuckDB's own limit and the parent's clock remain
        return
    for limit, value in ((resource.RLIMIT_DATA, data_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (most, most))


def _data_bytes() -> int:
    """What this process has taken so far, in the measure that RLIMIT_DATA counts."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 (a proc file)
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData:"))
    except OSError:
        return 512 * 2**20  # no /proc: about what Python, DuckDB and Arrow take


def serve(connection: Any, request: dict[str, Any], answers: IO[bytes]) -> None:
    """Answer one statement; whatever goes wrong is an answer, too."""
    try:
        head, data = run(connection, request["statement"], request["max_rows"], request["max_bytes"])
    except MemoryError:
        head, data = {"error": "out of memory", "kind": "memory"}, b""
    except Exception as error:  # noqa: BLE001 (a library's error of any kind is the statement's)
        kind = "memory" if type(error).__name__ == "OutOfMemoryException" else "statement"
        head, data = {"error": str(error), "kind": kind}, b""
    answer(answers, head, data)


def answer(answers: IO[bytes], head: dict[str, Any], data: bytes = b"") -> None:
    """Write one answer."""
    answers.write(json.dumps(head | {"bytes": len(data)}).encode() + b"\n" + data)
    answers.flush()


def run(connection: Any, statement: str, max_rows: int, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    """The statement's first rows as an Arrow stream, and whether there are more."""
    import pyarrow as pa

    check(connection, statement)
    reader = connection.sql(statement).to_arrow_reader(2048)
    out, rows, more = io.BytesIO(), 0, False
    names = [str(index) for index in range(len(reader.schema.names))]  # names may be equal; positions are not
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    with pa.ipc.new_stream(out, schema) as writer:
        for batch in reader:
            kept = batch.slice(0, max_rows - rows)
            more = len(kept) < len(batch) or out.tell() + kept.nbytes > max_bytes
            if out.tell() + kept.nbytes > max_bytes:
                break
            writer.write_batch(kept.rename_columns(names))
            rows += len(kept)
            if more:
                break
    return {"columns": list(reader.schema.names), "more": more, "rows": rows}, out.getvalue()


def check(connection: Any, statement: str) -> None:
    """Refuse everything but one SELECT (SHOW, DESCRIBE and SUMMARIZE are such) from tables and harmless functions.

    Raises:
        RefusedError: it is something else.
    """
    statements = connection.extract_statements(statement)
    kinds = [found.type.name for found in statements]
    if kinds != ["SELECT"]:
        found = " and ".join(kinds[:3]) or "none"
        raise RefusedError(f"expected one SELECT statement, got {found}; a store is read-only here")
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()[0][0])
    if tree.get("error"):
        raise RefusedError(str(tree.get("error_message")))
    names = {name.lower() for name in functions(tree)}
    if wrong := sorted(names - TABLE_FUNCTIONS):
        raise RefusedError(f"{wrong[0]}() is not available; select from works, objects or duplicates")


def functions(tree: dict[str, Any]) -> list[str]:
    """The names of all table functions in a serialized statement."""
    found, open_nodes = [], [tree]
    while open_nodes:
        node: Any = open_nodes.pop()
        if isinstance(node, dict) and node.get("type") == "TABLE_FUNCTION":
            found.append(str(node.get("function", {}).get("function_name")))
        if isinstance(node, dict | list):
            open_nodes.extend(node.values() if isinstance(node, dict) else node)
    return found
