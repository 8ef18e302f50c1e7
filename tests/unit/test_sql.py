"""SQL over a store: right answers, and nothing else, whatever the statement tries."""

import time
from pathlib import Path

import duckdb
import pytest

from artray.errors import ConfigError
from artray.store import find, sandbox, sql
from artray.store.layout import Store
from tests import made_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store.store(tmp_path_factory.mktemp("it's a [store]"), 200, batch=100)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory):
    made = made_store.store(tmp_path_factory.mktemp("it's"), 200, batch=100)
    with sql.Session(made, threads=1, memory="256MB") as opened:
        yield opened


def test_counts_are_those_of_the_rows(session: sql.Session) -> None:
    # of 200 rows, nos. 96 and 193 have vanished; nos. 49, 99, 149 and 199 failed
    answer = session.query("SELECT count(*) AS n, count(*) FILTER (error <> '') AS failed FROM works")
    assert answer == (["n", "failed"], [[198, 4]], False)


def test_objects_are_one_row_per_box(session: sql.Session) -> None:
    answer = session.query("SELECT (SELECT count(*) FROM objects) = (SELECT sum(len(objects)) FROM works)")
    assert answer.rows == [[True]]
    described = {row[0] for row in session.query("DESCRIBE objects").rows}
    assert described >= {"image_id", "class_name", "category", "score", "x1_px", "y2_px", "source"}


def test_metadata_is_a_map(session: sql.Session) -> None:
    answer = session.query("SELECT metadata['artist'], metadata FROM works ORDER BY image_id LIMIT 1")
    assert answer.rows == [["Vincent van Gogh", {"artist": "Vincent van Gogh", "year": "1500", "title": "Work no. 0"}]]


def test_values_are_what_json_knows(session: sql.Session) -> None:
    answer = session.query(
        "SELECT 'nan'::DOUBLE, TIMESTAMPTZ '2024-01-02 03:04:05Z', 'a'::BLOB, sum(1), 0.25::DECIMAL(4, 2), [1, NULL], "
        "{'a': 1}, NULL, processed_at FROM works WHERE image_id = '00/0000000.jpg' GROUP BY processed_at"
    )
    assert answer.rows == [
        [None, "2024-01-02T03:04:05+00:00", "61", 1, 0.25, [1, None], {"a": 1}, None, "2024-01-01T00:00:00+00:00"]
    ]


def test_equal_names_and_more_rows_than_asked_for(session: sql.Session) -> None:
    assert session.query("SELECT 1 AS a, 2 AS a") == (["a", "a"], [[1, 2]], False)
    assert session.query("SELECT 1 WHERE false").rows == []
    answer = session.query("FROM range(10)", max_rows=3)
    assert answer.rows == [[0], [1], [2]]
    assert answer.more
    assert not session.query("FROM range(3)", max_rows=3).more


@pytest.mark.parametrize("name", ["it's", "a b", "a#b?", "a[b]*{c}"])
def test_a_store_under_any_path(tmp_path: Path, name: str) -> None:
    made = made_store.store(tmp_path / name, 60, batch=30)
    assert sql.query(made, "SELECT count(*) FROM works WHERE error = ''").rows == [[59]]
    assert find.find(made, find.Filters(error="none"), limit=0).count == 59


FILES = (
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'made.csv'",
    "FROM read_parquet('/tmp/other.parquet')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM parquet_metadata('/etc/passwd')",
    "SELECT (SELECT count(*) FROM read_text('/etc/passwd'))",
    "WITH t AS (FROM query('FROM read_text(''/etc/passwd'')')) FROM t",
    "FROM query_table('/etc/passwd')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
    "DESCRIBE SELECT * FROM read_text('/etc/passwd')",
    "SUMMARIZE SELECT * FROM glob('*')",
    "COPY works TO '/tmp/hostile-artray-copied.csv'",
    "COPY works FROM '/etc/passwd'",
    "EXPLAIN ANALYZE COPY works TO '/tmp/hostile-artray-copied.csv'",
    "EXPORT DATABASE '/tmp/hostile-artray-exported'",
    "ATTACH '/tmp/hostile-artray-attached.db'",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '/tmp/hostile-artray-log')",
)
SETTINGS = (
    "INSTALL httpfs",
    "LOAD json",
    "PRAGMA version",
    "PRAGMA enable_profiling",
    "SET threads = 4",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SELECT getenv('HOME')",
    "FROM duckdb_settings()",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://a', 's3')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM checkpoint()",
    "CREATE TABLE made AS SELECT 1",
    "CREATE SECRET (TYPE s3)",
    "INSERT INTO works VALUES (1)",
    "UPDATE works SET type = 'drawing'",
    "DELETE FROM works",
    "DROP VIEW works",
    "CALL enable_logging()",
    "USE main",
    "BEGIN",
    "PREPARE made AS SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW works",
    "",
    "-- nothing",
    ";",
    "SELECT * FROM session",  # no Python variable of the process is a table
)


@pytest.mark.parametrize("statement", [*FILES, *SETTINGS])
def test_hostile_statements_are_refused(session: sql.Session, statement: str) -> None:
    with pytest.raises(ConfigError, match=r"^sql: [^\n]+$"):
        session.query(statement)
    assert session.query("SELECT count(*) FROM works").rows == [[198]]
    assert not list(Path("/tmp").glob("hostile-artray-*"))


@pytest.mark.parametrize("statement", FILES[:7])
def test_files_are_out_of_reach_without_the_check_of_functions_too(store: Store, statement: str) -> None:
    connection = duckdb.connect()
    sandbox._lock(connection, [])
    with pytest.raises(duckdb.Error):
        connection.execute(statement)
    with pytest.raises(duckdb.Error, match="locked"):
        connection.execute("SET enable_external_access = true")


ENDLESS = (
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
    "SELECT count(*) FROM range(1000000000000) WHERE range % 7 = 8",
    "SELECT count(*) FROM works a, works b, works c, works d, works e",
)


@pytest.mark.parametrize("statement", ENDLESS)
def test_a_statement_without_end_is_stopped(session: sql.Session, statement: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=r"stopped after 0\.5 s.*--timeout"):
        session.query(statement, timeout_s=0.5)
    assert time.monotonic() - begun < 30
    assert session.query("SELECT 1").rows == [[1]]


GREEDY = (
    "SELECT range(1000000000)",  # DuckDB alone takes 20 GB for this under a limit of 1 GB
    "SELECT repeat('x', 2000000000)",
    "SELECT list(range) FROM range(1000000000)",
    "SELECT string_agg(repeat('x', 1000), '') FROM range(10000000)",
    "FROM (SELECT repeat('a', 1000000) AS x FROM range(100000)) ORDER BY x",
)


@pytest.mark.parametrize("statement", GREEDY)
def test_a_statement_that_wants_all_memory_is_stopped(session: sql.Session, statement: str) -> None:
    with pytest.raises(ConfigError, match=r"needs more than 256MB of memory"):
        session.query(statement)
    assert session.query("SELECT 1").rows == [[1]]


def test_an_answer_is_bounded_too(session: sql.Session) -> None:
    answer = session.query("SELECT repeat('x', 10000) FROM range(10000)")  # 100 MB
    assert answer.more
    assert sum(len(row[0]) for row in answer.rows) <= sql.MAX_BYTES


def test_a_wrong_statement_is_one_line_with_a_hint(session: sql.Session) -> None:
    with pytest.raises(ConfigError, match=r"^sql: .*(type_score|Candidate)[^\n]*$"):
        session.query("SELECT type_scor FROM works")
    with pytest.raises(ConfigError, match=r"^sql: .*syntax error[^\n]*$"):
        session.query("SELEKT 1")


def test_the_process_can_not_write_a_file_and_knows_no_secret(session: sql.Session, monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert "AWS_SECRET_ACCESS_KEY" not in sql._environment(secrets=False)
    assert sql._environment(secrets=True)["AWS_SECRET_ACCESS_KEY"] == "s"
    if Path("/proc/self/limits").exists():
        limits = Path(f"/proc/{session._started().pid}/limits").read_text(encoding="ascii")
        assert "Max file size             0                    0" in limits


def test_memory_is_an_amount(store: Store) -> None:
    with pytest.raises(ConfigError, match="memory: expected an amount"):
        sql.Session(store, memory="lots")
    with pytest.raises(ConfigError, match="from 16MB"):
        sql.Session(store, memory="1")
