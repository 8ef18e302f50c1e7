"""A folder or an S3 prefix behind one door, and whose fault it is when the door is shut."""

import errno
import os
import pickle
import threading
from pathlib import Path

import pytest

from artray import location
from artray.errors import ConfigError, TransientError
from artray.location import Location


def test_what_a_user_types_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for text in ("a", "./a", "a/", "b/../a", "x/./../a", str(tmp_path / "a"), Path("a")):
        assert Location.of(text).uri == str(tmp_path / "a"), text
    assert Location.of("~/a").uri == str(tmp_path / "home" / "a")
    assert Location.of("/").uri == "/"


def test_dots_after_a_link_lead_where_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "away")
    # near/link/.. is far, not near
    assert Location.of(tmp_path / "near" / "link" / "..").path.samefile(tmp_path / "far")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got ''"),
        ("a\0b", "got"),
        ("http://x/y", "expected a path or s3://bucket/prefix"),
        ("gs://bucket/y", "expected a path or s3://bucket/prefix"),
        ("s3://", "at least three characters"),
        ("s3:///x", "at least three characters"),
        ("s3://ab/x", "at least three characters"),
        ("~nobody-of-this-name/x", "home directory; write the path out"),
    ],
)
def test_what_is_no_place_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Location.of(text)


def test_s3_prefixes_end_with_a_slash_when_asked_for() -> None:
    assert Location.of("s3://bucket/a/b/").bucket_and_prefix == ("bucket", "a/b/")
    assert Location.of("s3://bucket/").bucket_and_prefix == ("bucket", "")
    assert (Location.of("s3://bucket/a") / "b").root == "bucket/a/b"
    with pytest.raises(ConfigError, match="expected a local path"):
        _ = Location.of("s3://bucket/a").path


def test_locations_travel_and_have_keys() -> None:
    here = Location("/some/where")
    assert here.filesystem is not None
    assert pickle.loads(pickle.dumps(here)) == here
    assert len(here.key) == 16
    assert here.key != (here / "x").key
    assert Location(os.fsdecode(b"/some/\xff")).key  # not UTF-8


def test_files_are_written_read_listed_and_removed(tmp_path: Path) -> None:
    here = Location.of(tmp_path / "it's # 100% ümlaut")
    assert here.names() == []
    assert not here.exists()
    (here / "sub" / "b.txt").write_bytes(b"1")
    (here / "a.txt").write_bytes(b"old")
    (here / "a.txt").write_bytes(b"new")
    with (here / "c" / "d").output() as stream:
        stream.write(b"2")
    assert here.names() == ["a.txt", "c", "sub"]  # no leftovers of writing
    assert (here / "a.txt").read_bytes() == b"new"
    assert (here / "c" / "d").read_bytes() == b"2"
    (here / "a.txt").remove()
    (here / "a.txt").remove()
    assert not (here / "a.txt").exists()
    with pytest.raises(FileNotFoundError):
        (here / "a.txt").read_bytes()


def test_documents(tmp_path: Path) -> None:
    document = Location.of(tmp_path) / "x.json"
    assert document.read_json() is None
    document.write_json({"b": 1, "a": Path("p"), "é": "\udcff"})
    assert document.read_json() == {"b": 1, "a": "p", "é": "\udcff"}
    document.write_bytes(b"[1]")
    assert document.read_json() is None
    for data in (b"", b"{", b"\xff"):
        document.write_bytes(data)
        with pytest.raises(ConfigError, match=r"expected JSON .*restore or remove the file"):
            document.read_json()


def test_a_reader_never_sees_half_a_document(tmp_path: Path) -> None:
    document = Location.of(tmp_path) / "x.json"
    document.write_json({"all": "0" * 100_000})

    def write() -> None:
        for digit in "123456":
            document.write_json({"all": digit * 100_000})

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = document.read_json()
        assert found is not None
        assert len(found["all"]) == 100_000
        assert len(set(found["all"])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_what_the_user_must_mend_is_no_transient_failure(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError, match="Not a directory; name another place"):
        (Location.of(file) / "x").read_json()
    with pytest.raises(ConfigError, match="File exists"):
        (Location.of(file) / "x").write_bytes(b"")
    with pytest.raises(ConfigError, match="Not a directory"), (Location.of(file) / "x" / "y").output():
        pass
    with pytest.raises(ConfigError, match="File name too long"):
        Location.of(tmp_path / ("a" * 300)).read_bytes()
    with pytest.raises(ConfigError, match="in UTF-8"):
        Location(os.fsdecode(b"/tmp/\xff")).exists()
    with pytest.raises(ConfigError, match="cannot be created"):
        Location.of(file / "x").make()


def test_what_passes_is_transient() -> None:
    with (
        pytest.raises(TransientError, match=r"place: storage failed: .*run again to resume"),
        location.transient("place"),
    ):
        raise OSError(errno.EIO, "input/output error")
    with pytest.raises(ConfigError, match=r"place: .*check its name"), location.transient("place"):
        raise OSError("AWS Error NO_SUCH_BUCKET during PutObject operation")
    with pytest.raises(FileNotFoundError), location.transient("place"):
        raise FileNotFoundError


def test_s3_is_configured_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    place = Location.of("s3://bucket/x")
    assert Location.of("/x").storage_options == {}
    assert place.storage_options == {"conditional_put": "etag"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000/")
    assert place.storage_options["AWS_ENDPOINT_URL"] == "http://localhost:9000"
    assert place.storage_options["AWS_ALLOW_HTTP"] == "true"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.museum.example")  # as everywhere, it goes before the other
    assert place.storage_options["AWS_ALLOW_HTTP"] == "false"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "localhost:9000")
    with pytest.raises(ConfigError, match=r"AWS_ENDPOINT_URL: expected http://HOST:PORT"):
        _ = place.filesystem


def test_the_same_on_s3(s3_bucket: str) -> None:
    here = Location.of(f"s3://{s3_bucket}/it's # 100% ümlaut")
    assert here.names() == []
    assert here.read_json() is None
    here.make()
    (here / "a.json").write_json({"a": 1})
    with (here / "sub" / "b").output() as stream:
        stream.write(b"2")
    assert here.names() == ["a.json", "sub"]
    assert (here / "a.json").read_json() == {"a": 1}
    assert (here / "sub" / "b").read_bytes() == b"2"
    (here / "a.json").remove()
    (here / "a.json").remove()
    assert here.names() == ["sub"]


def test_a_bucket_that_is_not_there(s3_bucket: str) -> None:
    nowhere = Location.of(f"s3://{s3_bucket}-not/x")
    assert (nowhere / "a.json").read_json() is None
    with pytest.raises(ConfigError, match="check its name and your permissions"):
        (nowhere / "a.json").write_json({})


def test_a_reader_never_sees_half_an_object(s3_bucket: str) -> None:
    """One that is replaced by a longer one between being measured and being read would lose its end."""
    document, ended = Location(f"s3://{s3_bucket}/growing.json"), threading.Event()
    document.write_json({"text": ""})

    def write() -> None:
        length = 0
        while not ended.is_set():
            length = (length + 977) % 20_000
            document.write_json({"text": "x" * length})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(150):
            found = document.read_json()
            assert found is not None
            assert set(found["text"]) <= {"x"}
    finally:
        ended.set()
        writer.join()
