"""Weights: files named by URI, verified by SHA-256 before anything reads them, loaded as tensors and nothing else."""

import contextlib
import hashlib
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from artray.errors import ConfigError, TransientError
from artray.models import pickled
from artray.models.cards import Weights

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES: Final = 8 * 2**30
"""No file of weights may be larger."""

CHUNK_BYTES: Final = 2**20
TIMEOUT_S: Final = 30.0
"""How long a server may say nothing."""

REMOTE: Final = ("s3://", "https://", "torchvision://")
"""What is downloaded when it is needed."""

PREFIX_DIGITS: Final = 8
"""torchvision's file names end with the first digits of their SHA-256."""


def fetch(weights: Weights, owner: str = "weights") -> Path:
    """The local file of some weights, verified; downloaded to the cache if it is not there yet.

    Args:
        weights: where they are and what they must be.
        owner: who wants them, for messages ("card NAME").

    Raises:
        ConfigError: no such file, a scheme that is not known, weights still to be trained, or another hash.
        TransientError: S3 or a server does not answer.
    """
    scheme, _, rest = weights.uri.partition("://")
    if scheme == "train":
        raise ConfigError(
            f"{owner}: these weights are yours to train ({rest}), or to download where the card's notes "
            "say where: name their file in a card of yours"
        )
    if scheme == "package":
        return verified(_package_file(rest, owner), weights.sha256, owner)
    if scheme == "file":
        return verified(Path(urllib.parse.unquote(rest)), weights.sha256, owner)
    if scheme == "torchvision":
        return _torchvision(rest, weights.sha256, owner)
    if scheme in ("s3", "https"):
        return _cached(weights.uri, weights.sha256, f"{weights.sha256}{_suffix(weights.uri)}", owner)
    raise ConfigError(
        f"{owner}: uri: expected package://, file://, s3://, https:// or torchvision://, got {weights.uri!r}"
    )


def check_here(weights: Weights, owner: str) -> None:
    """Find out what can be found out without a download: that the file is there, and is the right one.

    Raises:
        ConfigError: it is not.
    """
    if not weights.uri.startswith(REMOTE):
        fetch(weights, owner)


def cache_folder() -> Path:
    """``$ARTRAY_CACHE/weights``, by default ``~/.cache/artray/weights``."""
    home = os.environ.get("ARTRAY_CACHE")
    return (Path(home) if home else Path.home() / ".cache" / "artray") / "weights"


def verified(path: Path, sha256: str | None, owner: str) -> Path:
    """The file, if it has the hash; ``sha256`` may be its first digits.

    Raises:
        ConfigError: it cannot be read, is too large, or has another hash; names both.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{owner}: expected weights of at most {MAX_BYTES:,} bytes: {path}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
    except OSError as error:
        raise ConfigError(f"{owner}: cannot read its weights: {path} ({error.strerror})") from error
    _compare(digest.hexdigest(), sha256, owner, str(path))
    return path


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """The tensors of a ``.safetensors``, ``.pt``, ``.pth`` or ``.pkl`` file, on the CPU; no code in it is ever run.

    A state dict below the key ``state_dict`` or ``model`` is taken out of what surrounds it.

    Raises:
        ConfigError: another kind of file, a damaged one, or one that holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth"):
        return _read_torch(path)
    if path.suffix == ".pkl":
        return _read_pickled(path)
    raise ConfigError(f"weights {path}: expected a .safetensors, .pt, .pth or .pkl file")


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """As :func:`read_tensors`, as float32 arrays; of a ``.safetensors`` file it needs no torch.

    Raises:
        ConfigError: likewise.
    """
    if path.suffix != ".safetensors":
        return {name: tensor.float().numpy() for name, tensor in read_tensors(path).items()}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: array.astype(np.float32) for name, array in load_file(path).items()}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ConfigError(f"weights {path}: not a sound safetensors file: {_line(error)}") from error


def _read_safetensors(path: Path) -> dict[str, "Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ConfigError(f"weights {path}: not a sound safetensors file: {_line(error)}") from error
    return tensors


def _read_pickled(path: Path) -> dict[str, "Tensor"]:
    import torch

    return {name: torch.from_numpy(array) for name, array in pickled.read_arrays(path).items()}


def _read_torch(path: Path) -> dict[str, "Tensor"]:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"weights {path}: expected tensors only, and a whole file: {_line(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ConfigError(f"weights {path}: expected a mapping of names to tensors")
    return {str(name): tensor for name, tensor in content.items()}


def _package_file(rest: str, owner: str) -> Path:
    """A file that an installed package ships; the package itself is not imported (one of them loads TensorFlow)."""
    package, _, inside = rest.partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise ConfigError(f"{owner}: expected the Python package {package!r} to be installed; its weights are in it")
    path = (Path(folders[0]) / inside).resolve()
    if not path.is_relative_to(Path(folders[0]).resolve()):
        raise ConfigError(f"{owner}: uri: expected a file inside the package {package!r}, got {inside!r}")
    return path


def _torchvision(name: str, sha256: str | None, owner: str) -> Path:
    """Weights by torchvision's own name; their file name ends with the first digits of their hash."""
    from torchvision.models import get_weight

    try:
        url = str(get_weight(name).url)
    except (AttributeError, KeyError, ValueError) as error:
        raise ConfigError(f"{owner}: expected a name of torchvision's weights, got {name!r}") from error
    file_name = url.rpartition("/")[2]
    digits = Path(file_name).stem.rpartition("-")[2]
    if sha256 is None and len(digits) != PREFIX_DIGITS:
        raise ConfigError(f"{owner}: torchvision gives no hash for {name}; put its sha256 into the card")
    return _cached(url, sha256 or digits, file_name, owner)


def _cached(uri: str, sha256: str | None, file_name: str, owner: str) -> Path:
    """The cache's copy; downloaded under another name first, and named only when its hash is right."""
    target = cache_folder() / file_name
    if target.is_file():
        return verified(target, sha256, owner)
    with _writable(target, owner) as file, _opened(uri, owner) as stream:
        _compare(_copy(stream, file, uri, owner), sha256, owner, uri)
    return target


@contextlib.contextmanager
def _writable(target: Path, owner: str) -> Iterator[IO[bytes]]:
    """A temporary file that becomes the target at the end, or vanishes if anything goes wrong."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    except OSError as error:
        raise ConfigError(f"{owner}: cannot write to {target.parent} ({error.strerror}); set ARTRAY_CACHE") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(uri: str, owner: str) -> Iterator[IO[bytes]]:
    """A download as a stream of bytes; whatever fails while it is read is a TransientError."""
    from http.client import HTTPException

    from botocore.exceptions import BotoCoreError, ClientError

    try:
        with contextlib.closing(_s3(uri) if uri.startswith("s3://") else _https(uri)) as stream:
            yield stream
    except (OSError, HTTPException, BotoCoreError, ClientError) as error:
        raise TransientError(
            f"{owner}: weights not reachable: {uri}: {_line(error)}; check the network and run again, or download the "
            f"file elsewhere and name its path in the card"
        ) from error


def _s3(uri: str) -> Any:
    """An object's body; the endpoint and the credentials are those of the AWS environment."""
    import boto3
    from botocore.config import Config

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = boto3.client("s3", config=Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S))
    return client.get_object(Bucket=bucket, Key=key)["Body"]


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects from https to https and to nothing else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"refused a redirect to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _https(uri: str) -> Any:
    if not uri.startswith("https://"):
        raise urllib.error.URLError("expected https")
    # the scheme is checked above
    request = urllib.request.Request(uri, headers={"User-Agent": "artray"})  # noqa: S310
    return urllib.request.build_opener(_HttpsOnly).open(request, timeout=TIMEOUT_S)


def _copy(stream: IO[bytes], file: IO[bytes], uri: str, owner: str) -> str:
    """Copy a stream, and say its SHA-256."""
    digest, total = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        total += len(chunk)
        if total > MAX_BYTES:
            raise ConfigError(f"{owner}: expected weights of at most {MAX_BYTES:,} bytes: {uri}")
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest()


def _digest(file: IO[bytes]) -> Any:
    """``hashlib.file_digest`` for Python 3.10."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest


def _compare(got: str, expected: str | None, owner: str, where: str) -> None:
    if not expected or not got.startswith(expected):
        raise ConfigError(
            f"{owner}: sha256: expected {expected}, got {got} of {where}; it is damaged, or not the file that was meant"
        )


def _suffix(uri: str) -> str:
    return Path(urllib.parse.urlsplit(uri).path).suffix


def _line(error: BaseException) -> str:
    """A message's first line: a library's further ones are advice that does not hold here."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
