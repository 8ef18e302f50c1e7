"""What is in an archive, whatever people and programs do to folders."""

import os
import stat
import subprocess
import tracemalloc
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from artray.archive import listing
from artray.archive.listing import Entry
from artray.config import ArchiveConfig
from artray.errors import ConfigError
from artray.location import Location

ALL = ArchiveConfig(include=("*",))


def listed(root: Path | str, cfg: ArchiveConfig = ALL, problems: list[str] | None = None) -> list[Entry]:
    return list(listing.entries(Location.of(root), cfg, (problems if problems is not None else []).append))


def ids(root: Path | str, cfg: ArchiveConfig = ALL, problems: list[str] | None = None) -> list[str]:
    return [entry.image_id for entry in listed(root, cfg, problems)]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_of_a_folder_come_first_each_with_size_and_version(tmp_path: Path) -> None:
    touch(tmp_path / "b.jpg", tmp_path / "a" / "z.jpg", tmp_path / "a" / "b" / "y.jpg", tmp_path / "c.jpg")
    (tmp_path / "b.jpg").write_bytes(b"12345")
    os.utime(tmp_path / "b.jpg", ns=(1, 1_000_000_007))
    found = listed(tmp_path)
    assert [entry.image_id for entry in found] == ["b.jpg", "c.jpg", "a/z.jpg", "a/b/y.jpg"]
    assert found[0] == Entry("b.jpg", str(tmp_path / "b.jpg"), 5, "1000000007-5")


def test_an_empty_folder_is_an_archive_without_images(tmp_path: Path) -> None:
    listing.check(Location.of(tmp_path))
    assert ids(tmp_path) == []


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "file.jpg")
    for place, message in (
        (tmp_path / "nothing", "got nothing there"),
        (tmp_path / "file.jpg", "got a file"),
        (tmp_path / "file.jpg" / "x", "got a file"),
        (tmp_path / ("a" * 300), "File name too long"),
    ):
        with pytest.raises(ConfigError, match=message):
            listing.check(Location.of(place))
        with pytest.raises(ConfigError, match=message):
            listed(place)


def test_names_that_programs_trip_over(tmp_path: Path) -> None:
    names = [
        *("a b.jpg", "a\nb.jpg", "a'b\".jpg", "%20.jpg", "..jpg", "...jpg", "-rf.jpg", "$HOME.jpg", "*.jpg", "[1].jpg"),
        *(
            "a\\b.jpg",
            "a?b.jpg",
            "a#b.jpg",
            "file:.jpg",
            "a\x1b[31m.jpg",
            "素描.jpg",
            "~.jpg",
            "a;b.jpg",
            ".hidden.jpg",
        ),
    ]
    touch(*(tmp_path / name for name in names))
    found = listed(tmp_path)
    assert sorted(entry.image_id for entry in found) == sorted(names)
    assert {entry.uri for entry in found} == {str(tmp_path / name) for name in names}


def test_composed_and_decomposed_names_are_two(tmp_path: Path) -> None:
    names = {unicodedata.normalize(form, "Dürer.jpg") for form in ("NFC", "NFD")}
    touch(*(tmp_path / name for name in names))
    assert len(names) == 2
    assert set(ids(tmp_path)) == names


def test_names_that_are_no_text_stay_apart(tmp_path: Path) -> None:
    names = [b"D\xfcrer.jpg", b"D\xfdrer.jpg", b"\xff\xfe.jpg"]
    for name in names:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"x")
    found = listed(tmp_path)
    assert len({entry.image_id for entry in found}) == 3
    assert all(entry.uri.startswith("file:///") and entry.image_id.encode() for entry in found)
    # somebody's own file with just the name that is made up for one of them is yet another
    touch(tmp_path / found[0].image_id)
    assert len(set(ids(tmp_path))) == 4


def test_only_files_are_images(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mknod(tmp_path / "socket.jpg", stat.S_IFSOCK | 0o600)
    (tmp_path / "folder.jpg").mkdir()
    assert ids(tmp_path) == ["a.jpg"]


def test_links(tmp_path: Path) -> None:
    archive, outside = tmp_path / "archive", tmp_path / "outside"
    touch(archive / "a.jpg", archive / "sub" / "b.jpg", outside / "c.jpg")
    (archive / "to file.jpg").symlink_to(outside / "c.jpg")
    (archive / "to folder").symlink_to(outside)
    (archive / "to nothing.jpg").symlink_to("gone.jpg")
    (archive / "to itself.jpg").symlink_to("to itself.jpg")
    (archive / "through a file.jpg").symlink_to("a.jpg/x")
    (archive / "sub" / "up").symlink_to(archive)
    (outside / "back").symlink_to(archive)
    problems: list[str] = []
    found = {entry.image_id: entry for entry in listed(archive, problems=problems)}
    assert set(found) == {
        *("a.jpg", "sub/b.jpg", "to file.jpg", "to folder/c.jpg"),
        *("to nothing.jpg", "to itself.jpg", "through a file.jpg"),
    }
    assert problems == []
    assert found["to file.jpg"].size_bytes == 1
    for name in ("to nothing.jpg", "to itself.jpg", "through a file.jpg"):
        assert found[name].error == "missing"
        assert found[name].error_detail.startswith("link leads to nothing: ")


def test_folders_that_link_to_one_another_come_to_an_end(tmp_path: Path) -> None:
    folders = [tmp_path / f"{number:02d}" for number in range(9)]
    for folder in folders:
        touch(folder / "a.jpg")
        for other in folders:
            if other != folder:
                (folder / f"to {other.name}").symlink_to(other)
    problems: list[str] = []
    found = ids(tmp_path, problems=problems)
    # 9 folders, 8 links of each, 7 of each of these to where nobody has been, then 6; without an end it were 9! ways
    assert len(found) == 9 * (1 + 8 * (1 + 7 * (1 + 6)))
    assert len(problems) == 1
    assert "more than 3 links" in problems[0]


def nested(root: Path, name: str, times: int) -> None:
    """Folders in folders, with a file in the last, deeper than a path could name."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(times):
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("z.jpg", os.O_CREAT, dir_fd=folder))
    os.close(folder)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed by rm: Python's own way is recursive, and fails where folders are nested so deeply."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path], check=True)


def test_deeper_than_pythons_calls(deep: Path) -> None:
    nested(deep, "d", 1500)
    assert ids(deep) == ["d/" * 1500 + "z.jpg"]


def test_deeper_than_a_path_may_be_long(deep: Path) -> None:
    touch(deep / "a.jpg")
    nested(deep, "d" * 255, 20)  # 20 times 255 characters; PATH_MAX is 4,096
    problems: list[str] = []
    found = listed(deep, problems=problems)
    assert found[0].image_id == "a.jpg"
    assert len(problems) + len(found) == 2  # the rest cannot be named: it is told of, or is an entry with an error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_without_permission_is_told_of(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "shut" / "b.jpg")
    (tmp_path / "shut").chmod(0)
    problems: list[str] = []
    assert ids(tmp_path, problems=problems) == ["a.jpg"]
    assert problems == [f"{tmp_path}/shut: cannot be listed (Permission denied); its images are left as they are"]


class Fading:
    """A folder in which things happen between its listing and the look at its files; the rest is the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, happens: object) -> None:
        scandir = os.scandir

        def listed_then(path: bytes) -> "os.ScandirIterator[bytes]":  # type: ignore[name-defined]
            found = list(scandir(path))
            happens()  # type: ignore[operator]
            return _Found(found)  # type: ignore[return-value]

        monkeypatch.setattr(os, "scandir", listed_then)


class _Found(list):  # type: ignore[type-arg]
    def __enter__(self) -> Iterator[object]:
        return iter(self)

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...


def test_a_file_that_goes_away_meanwhile_is_not_in_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    Fading(monkeypatch, lambda: (tmp_path / "a.jpg").unlink(missing_ok=True))
    problems: list[str] = []
    assert ids(tmp_path, problems=problems) == ["b.jpg"]  # its record, if any, is marked as vanished, not replaced
    assert problems == []


def test_a_folder_that_goes_away_meanwhile_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "sub" / "b.jpg", tmp_path / "z.jpg")
    found = listing.entries(Location.of(tmp_path), ALL, (problems := []).append)
    assert next(found).image_id == "z.jpg"
    (tmp_path / "sub" / "b.jpg").unlink()
    (tmp_path / "sub").rmdir()
    assert list(found) == []
    assert "No such file or directory" in problems[0]


def test_a_storage_that_does_not_tell_leaves_records_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stale:
        name, path = b"a.jpg", os.fsencode(tmp_path) + b"/a.jpg"

        def stat(self) -> os.stat_result:
            raise OSError(116, "Stale file handle")

        def is_symlink(self) -> bool:
            return False

    monkeypatch.setattr(os, "scandir", lambda _: _Found([Stale()]))
    problems: list[str] = []
    assert ids(tmp_path, problems=problems) == []
    assert problems == [f"{tmp_path}/a.jpg: cannot be looked at (Stale file handle); it is left as it is"]


def test_images_by_their_endings_whatever_the_case(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a.JPG", "b.Tiff", "c.jp2", "d.txt", "e", "jpg", "f.jpg.part", "g.HEIC")))
    assert ids(tmp_path, ArchiveConfig()) == ["a.JPG", "b.Tiff", "c.jp2", "g.HEIC"]


def test_what_file_managers_leave_is_never_an_image(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("._a.jpg", "s/._a.jpg", "@eaDir/a.jpg", "s/@eaDir/x/a.jpg", "s/a.jpg")))
    assert ids(tmp_path, ArchiveConfig()) == ["s/a.jpg"]
    assert ids(tmp_path, ALL) == ["s/a.jpg"]


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        (("*.TIF",), (), ["a.tif", "s/b.TIF"]),
        (("s/*",), (), ["s/[x].jpg", "s/b.TIF", "s/t/c.jpg"]),  # * crosses folders
        (("s/*",), ("S/T/*",), ["s/[x].jpg", "s/b.TIF"]),
        (("*",), ("*.jpg",), ["a.tif", "s/b.TIF"]),
        (("s/[[]x].jpg",), (), ["s/[x].jpg"]),
        (("nothing",), (), []),
    ],
)
def test_patterns(tmp_path: Path, include: tuple[str], exclude: tuple[str], wanted: list[str]) -> None:
    touch(*(tmp_path / name for name in ("a.tif", "s/b.TIF", "s/t/c.jpg", "s/[x].jpg")))
    assert sorted(ids(tmp_path, ArchiveConfig(include=include, exclude=exclude))) == wanted


def test_the_root_of_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    class OnlyEtc(_Found):
        pass

    def etc(path: bytes) -> object:
        names = (b"/", b"/etc") if path in (b"/", b"/etc") else ()
        return OnlyEtc(
            [c for c in real(path) if c.path in (b"/etc", b"/etc/hostname", b"/etc/passwd")] if names else []
        )

    monkeypatch.setattr(os, "scandir", etc)
    monkeypatch.setattr(listing, "check", lambda _: None)
    assert "etc/passwd" in ids("/")


def test_a_hundred_thousand_images_in_one_folder_take_little_memory(tmp_path: Path) -> None:
    one = tmp_path / "00000.jpg"
    one.write_bytes(b"")
    for number in range(1, 100_000):
        os.link(one, f"{tmp_path}/{number:05d}.jpg") if number % 30_000 else one.with_name(f"x{number}.jpg").touch()
        if not number % 30_000:
            one = tmp_path / f"x{number}.jpg"  # a file may have 65,000 names at most
    tracemalloc.start()
    try:
        count = sum(1 for _ in listing.entries(Location.of(tmp_path), ArchiveConfig(), print))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak_bytes < 100_000 * 400  # of each its name, once


def put(bucket: str, *keys: str, body: bytes = b"x") -> None:
    from artray.archive import s3

    for key in keys:
        s3.client().put_object(Bucket=bucket, Key=key, Body=body)


def test_s3_pages_are_one_list(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from artray.archive import s3

    assert s3.PAGE_KEYS == 1_000
    monkeypatch.setattr(s3, "PAGE_KEYS", 10)
    keys = [f"art/{number:04d}.jpg" for number in range(25)]
    put(s3_bucket, "ar/t.jpg", "art/", "art2/a.jpg")
    put(s3_bucket, *keys)
    found = listed(f"s3://{s3_bucket}/art")
    assert [f"art/{entry.image_id}" for entry in found] == keys
    assert found[0] == Entry("0000.jpg", f"s3://{s3_bucket}/art/0000.jpg", 1, "9dd4e461268c8034f5c8564e155c67a6")


def test_s3_a_folder_whose_name_begins_alike_is_another(s3_bucket: str) -> None:
    put(s3_bucket, "art/a.jpg", "art2/b.jpg", "art.jpg", "art/sub/", "art/", "art/c/d.jpg")
    for text in ("art", "art/"):
        assert ids(f"s3://{s3_bucket}/{text}") == ["a.jpg", "c/d.jpg"]  # without the markers of folders
    assert "art2/b.jpg" in ids(f"s3://{s3_bucket}")


def test_s3_odd_keys(s3_bucket: str) -> None:
    names = ("a b", "%20", "a+b", "a'b\"", "x//y", "/z", "素描", "a#b?c", "a&b<", "..", "a/../b")
    keys = [f"{name}.jpg" for name in names]
    put(s3_bucket, *(f"odd/{key}" for key in keys))
    found = listed(f"s3://{s3_bucket}/odd")
    assert sorted(entry.image_id for entry in found) == sorted(keys)
    assert {entry.uri for entry in found} == {f"s3://{s3_bucket}/odd/{key}" for key in keys}


def test_s3_what_is_no_archive_is_named(s3_bucket: str) -> None:
    put(s3_bucket, "art/a.jpg")
    for uri, message in (
        (f"s3://{s3_bucket}/nothing", "found no keys"),
        (f"s3://{s3_bucket}/ar", "found no keys"),
        (f"s3://{s3_bucket}-not/art", "NoSuchBucket"),
        ("s3://Not_a bucket!/art", "bucket"),
    ):
        with pytest.raises(ConfigError, match=message):
            listing.check(Location.of(uri))


def test_s3_a_marker_alone_is_an_empty_archive(s3_bucket: str) -> None:
    put(s3_bucket, "art/", body=b"")
    listing.check(Location.of(f"s3://{s3_bucket}/art"))
    assert ids(f"s3://{s3_bucket}/art") == []
