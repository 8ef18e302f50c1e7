"""S3 answers with codes; rows and users get words."""

import socket
from io import BytesIO

import pytest
from botocore.stub import Stubber

from artray.archive import reading, s3
from artray.errors import ConfigError, RowError, TransientError


def put(bucket: str, key: str, body: bytes) -> str:
    return str(s3.client().put_object(Bucket=bucket, Key=key, Body=body)["ETag"]).strip('"')


def kind(uri: str, version: str, max_bytes: int = 1000) -> str:
    with pytest.raises(RowError) as caught:
        reading.read(uri, version, max_bytes)
    return caught.value.kind


@pytest.mark.parametrize("key", ["a.jpg", "a b/%41#?.jpg", "x//y.jpg", "素描.jpg"])
def test_what_was_listed_is_read(s3_bucket: str, key: str) -> None:
    assert reading.read(f"s3://{s3_bucket}/{key}", put(s3_bucket, key, b"data"), 4) == b"data"


def test_objects_change_go_away_or_are_too_large(s3_bucket: str) -> None:
    uri, version = f"s3://{s3_bucket}/a.jpg", put(s3_bucket, "a.jpg", b"data")
    assert kind(uri, version, 3) == "too_large"
    assert kind(f"s3://{s3_bucket}/b.jpg", version) == "missing"
    assert kind(f"s3://{s3_bucket}/e.jpg", put(s3_bucket, "e.jpg", b"")) == "empty"
    put(s3_bucket, "a.jpg", b"DATA")
    assert kind(uri, version) == "changed"
    s3.client().delete_object(Bucket=s3_bucket, Key="a.jpg")
    assert kind(uri, version) == "missing"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDenied", "denied"),
        ("NoSuchKey", "missing"),
        ("412", "changed"),
        ("InvalidObjectState", "unreadable"),  # in Glacier
        ("SlowDown", None),
        ("ExpiredToken", None),
        ("InternalError", None),
    ],
)
def test_codes(s3_bucket: str, code: str, expected: str | None) -> None:
    with Stubber(s3.client()) as stub:
        stub.add_client_error("get_object", code, "in words")
        if expected:
            assert kind(f"s3://{s3_bucket}/a", "v") == expected
        else:
            with pytest.raises(TransientError, match="in words"):
                reading.read(f"s3://{s3_bucket}/a", "v", 1)


def test_a_connection_that_breaks_off(s3_bucket: str) -> None:
    from botocore.response import StreamingBody

    with Stubber(s3.client()) as stub:
        stub.add_response("get_object", {"ContentLength": 4, "Body": StreamingBody(BytesIO(b"da"), 4)})
        with pytest.raises(TransientError, match=r"s3://.*: reading failed: 2 read, but total bytes expected is 4"):
            reading.read(f"s3://{s3_bucket}/a", "v", 10)


def pages(bucket: str) -> None:
    list(s3.pages(bucket, "x/"))


@pytest.mark.parametrize("code", ["NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "PermanentRedirect"])
def test_listings_that_the_user_must_mend(s3_bucket: str, code: str) -> None:
    with Stubber(s3.client()) as stub:
        stub.add_client_error("list_objects_v2", code, "in words")
        with pytest.raises(ConfigError, match=f"s3://{s3_bucket}/x/: {code}"):
            pages(s3_bucket)


def test_listings_that_may_work_later(s3_bucket: str) -> None:
    with Stubber(s3.client()) as stub:
        stub.add_client_error("list_objects_v2", "SlowDown", "in words")
        with pytest.raises(TransientError, match="listing failed"):
            pages(s3_bucket)


def test_settings_that_the_user_must_mend(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="bucket name"):
        pages("Not a bucket!")
    for name, value, message in (
        ("AWS_PROFILE", "nobody", "profile"),
        ("AWS_ENDPOINT_URL", "localhost:9000", "endpoint"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            s3.client.cache_clear()
            with pytest.raises(ConfigError, match=f"(?i){message}"):
                pages(s3_bucket)
    s3.client.cache_clear()


def test_without_credentials(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it remembers credentials
    s3.client.cache_clear()
    with pytest.raises(ConfigError, match="no AWS credentials"):
        pages(s3_bucket)


def test_a_server_that_is_not_there(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{probe.getsockname()[1]}")
    monkeypatch.setattr("time.sleep", lambda _: None)  # boto waits between its attempts
    s3.client.cache_clear()
    with pytest.raises(TransientError, match="listing failed"):
        pages(s3_bucket)
    with pytest.raises(TransientError, match="reading failed"):
        reading.read(f"s3://{s3_bucket}/a", "v", 1)
