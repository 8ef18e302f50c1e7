"""A folder or an S3 prefix behind one door.

S3 is configured as everywhere else, by the AWS environment variables and files (``AWS_ENDPOINT_URL`` for a server of
one's own); nothing about it is in a profile.
"""

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs

from artray.errors import ConfigError, TransientError

READS: Final = 20
"""How often an object that is replaced while it is read is read anew."""

USER_ERRNOS: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
)
USER_S3_CODES: Final = ("NO_SUCH_BUCKET", "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")
"""As pyarrow names them in its messages."""


@dataclass(frozen=True)
class Location:
    """Where an archive or a store lies; cheap to make, safe to send to another process.

    Args:
        uri: a path, or ``s3://bucket/prefix``; no trailing slash.
    """

    uri: str

    @classmethod
    def of(cls, text: str | os.PathLike[str]) -> "Location":
        """What a user typed, made absolute.

        Raises:
            ConfigError: another scheme, or no bucket.
        """
        text = os.fspath(text)
        if text.startswith("s3://"):
            bucket = text.removeprefix("s3://").split("/")[0]
            if len(bucket) < 3:
                raise ConfigError(f"{text}: expected s3://bucket/prefix with a bucket of at least three characters")
            return cls(text.rstrip("/"))
        if "://" in text:
            raise ConfigError(f"{text}: expected a path or s3://bucket/prefix")
        if not text or "\0" in text:
            raise ConfigError(f"path: expected a path or s3://bucket/prefix, got {text!r}")
        return cls(_absolute(text))

    @property
    def is_s3(self) -> bool:
        """Whether it is an S3 prefix."""
        return self.uri.startswith("s3://")

    @property
    def path(self) -> Path:
        """The local folder; only where it is one."""
        if self.is_s3:
            raise ConfigError(f"{self.uri}: expected a local path")
        return Path(self.uri)

    @property
    def root(self) -> str:
        """The path inside :attr:`filesystem`."""
        return self.uri.removeprefix("s3://")

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        """``("bucket", "a/b/")``; the prefix is "" or ends with a slash."""
        bucket, _, prefix = self.root.partition("/")
        return bucket, f"{prefix}/" if prefix else ""

    @cached_property
    def filesystem(self) -> fs.FileSystem:
        """The pyarrow file system of it."""
        return s3_filesystem() if self.is_s3 else fs.LocalFileSystem()

    @property
    def storage_options(self) -> dict[str, str]:
        """What deltalake needs to reach it; commits use S3's conditional put."""
        if not self.is_s3:
            return {}
        options = {"conditional_put": "etag"}
        if endpoint := s3_endpoint():
            options |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http://")).lower()}
        return options

    def __truediv__(self, name: str) -> "Location":
        return Location(f"{self.uri}/{name}")

    def __str__(self) -> str:
        return self.uri

    @property
    def key(self) -> str:
        """16 hexadecimal digits that name it."""
        return hashlib.sha256(os.fsencode(self.uri)).hexdigest()[:16]

    def exists(self) -> bool:
        """Whether there is a file or a folder with this name."""
        with transient(self.uri):
            return bool(self.filesystem.get_file_info(self.root).type != fs.FileType.NotFound)

    def make(self) -> None:
        """Create the folder; a no-op on S3, which has none."""
        if not self.is_s3:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{self.uri}: cannot be created ({error.strerror})") from error

    def read_bytes(self) -> bytes:
        """All bytes of a file, all of them of the old or all of the new one where it is replaced meanwhile.

        Raises:
            FileNotFoundError: there is none.
            TransientError: it does not stay the same for long enough to be read.
        """
        for _ in range(READS):
            with transient(self.uri), self.filesystem.open_input_stream(self.root) as stream:
                data = bytes(stream.read())
            # an object's size is asked for before it is read: of one that grew in between, the end is missing
            if not self.is_s3 or self._size() in (len(data), None):
                return data
        raise TransientError(f"{self.uri}: is replaced over and over while it is read; run again")

    def _size(self) -> int | None:
        """Bytes of a file; None where it is gone."""
        with transient(self.uri):
            size: int | None = self.filesystem.get_file_info(self.root).size
        return size

    def write_bytes(self, data: bytes) -> None:
        """Replace a file; a reader sees the old or the new one, never a half."""
        if self.is_s3:
            with transient(self.uri), self.filesystem.open_output_stream(self.root) as stream:
                stream.write(data)
            return
        # A process id would not do: in two containers it is the same.
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        with transient(self.uri):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(self.path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def output(self) -> Iterator[Any]:
        """A stream that becomes the file's content when it is closed; its folder is made."""
        with transient(self.uri):
            if not self.is_s3:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.filesystem.open_output_stream(self.root) as stream:
                yield stream

    def read_json(self) -> dict[str, Any] | None:
        """A small JSON document, or None where there is none."""
        try:
            document = json.loads(self.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ConfigError(f"{self.uri}: expected JSON ({error}); restore or remove the file") from error
        return document if isinstance(document, dict) else None

    def write_json(self, document: dict[str, Any]) -> None:
        """Replace a small JSON document."""
        self.write_bytes(json.dumps(document, indent=2, sort_keys=True, default=str).encode())

    def remove(self) -> None:
        """Delete a file; nothing happens where there is none."""
        with transient(self.uri), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.root)

    def names(self) -> list[str]:
        """The names of the entries directly below, sorted; empty where there is nothing."""
        with transient(self.uri):
            found = self.filesystem.get_file_info(fs.FileSelector(self.root, allow_not_found=True))
        return sorted(info.base_name for info in found)


def _absolute(text: str) -> str:
    """A path as it is kept: absolute, without . and .. where these only lead round in folders that are no links."""
    try:
        path = str(Path(text).expanduser().absolute())
    except RuntimeError as error:
        raise ConfigError(f"{text}: {str(error).rstrip('.').lower()}; write the path out") from error
    plain = os.path.normpath(path)
    return plain if os.path.realpath(plain) == os.path.realpath(path) else path


def s3_endpoint() -> str:
    """The URL of an S3 server of one's own, without a trailing slash; "" for Amazon's.

    Raises:
        ConfigError: it is not an http:// or https:// URL.
    """
    endpoint = (os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "").rstrip("/")
    if endpoint and not endpoint.lower().startswith(("http://", "https://")):
        raise ConfigError(f"AWS_ENDPOINT_URL: expected http://HOST:PORT or https://HOST, got {endpoint}")
    return endpoint


def s3_filesystem() -> fs.S3FileSystem:
    """S3 as pyarrow sees it, from the AWS environment."""
    endpoint = s3_endpoint()
    if not endpoint:
        return fs.S3FileSystem()
    scheme, _, host = endpoint.partition("://")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return fs.S3FileSystem(endpoint_override=host, scheme=scheme.lower(), region=region)


@contextlib.contextmanager
def transient(what: str) -> Iterator[None]:
    """Turn what a storage raises into our errors, which name ``what``; a missing file stays FileNotFoundError.

    Raises:
        ConfigError: trying again would not help: no permission, no folder, or no possible name.
        TransientError: anything else.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what}: expected a path in UTF-8; rename the folder") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno in USER_ERRNOS:
            raise ConfigError(f"{what}: cannot be used: {os.strerror(error.errno)}; name another place") from error
        if any(code in str(error) for code in USER_S3_CODES):
            raise ConfigError(f"{what}: {first_line(error)}; check its name and your permissions") from error
        raise TransientError(f"{what}: storage failed: {first_line(error)}; run again to resume") from error


def first_line(error: BaseException, limit: int = 300) -> str:
    """An error's message as one short line."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
