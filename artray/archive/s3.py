"""S3 through boto3: paged listings, and objects read only if they are still the version that was listed."""

from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from typing import Any, NoReturn

from artray.errors import ConfigError, RowError, TransientError
from artray.location import first_line

DENIED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
MISSING = {"NoSuchKey", "404"}
PAGE_KEYS = 1_000
"""The most that S3 lists at a time."""

NO_BUCKET = {"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed"}
"""There is no such bucket, or not in this region."""

FROZEN = "InvalidObjectState"
"""It lies in an archive class such as Glacier, from which it must be restored before it can be read."""


@lru_cache(maxsize=1)
def client() -> Any:
    """One client per process: it is thread-safe, and making one is slow."""
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "standard", "total_max_attempts": 5}
    return boto3.client("s3", config=Config(retries=retries, max_pool_connections=64, connect_timeout=10))


def pages(bucket: str, prefix: str) -> Iterator[list[dict[str, Any]]]:
    """The objects below a prefix, up to 1,000 at a time, in the order of their keys.

    Raises:
        ConfigError: no such bucket, no credentials, or no permission.
        TransientError: S3 does not answer.
    """
    from botocore import exceptions as boto
    from botocore.exceptions import BotoCoreError, ClientError

    wrong = (boto.ParamValidationError, boto.ProfileNotFound, boto.PartialCredentialsError, boto.ConfigParseError)
    try:
        for page in (
            client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": PAGE_KEYS})
        ):
            if "Contents" in page:
                yield page["Contents"]
    except boto.NoCredentialsError as error:
        raise ConfigError(f"s3://{bucket}: no AWS credentials; set AWS_ACCESS_KEY_ID or a profile") from error
    except (*wrong, ValueError) as error:  # ValueError: AWS_ENDPOINT_URL is no URL
        raise ConfigError(f"s3://{bucket}/{prefix}: {first_line(error)}") from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in NO_BUCKET or code in DENIED:
            raise ConfigError(f"s3://{bucket}/{prefix}: {code}; check its name and your permissions") from error
        raise TransientError(f"s3://{bucket}/{prefix}: listing failed: {first_line(error)}") from error
    except BotoCoreError as error:
        raise TransientError(f"s3://{bucket}/{prefix}: listing failed: {first_line(error)}") from error


def read(uri: str, version: str, max_bytes: int) -> bytes:
    """All bytes of an object, if it is still the version that was listed.

    Raises:
        RowError: missing, denied, unreadable, changed, too_large.
        TransientError: S3 does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        answer = client().get_object(Bucket=bucket, Key=key, IfMatch=f'"{version}"')
        with closing(answer["Body"]) as body:
            if answer["ContentLength"] > max_bytes:
                raise RowError("too_large", f"{answer['ContentLength']:,} bytes; the limit is {max_bytes:,}")
            return bytes(body.read())
    except ClientError as error:
        _row_error(error)
    except BotoCoreError as error:
        raise TransientError(f"{uri}: reading failed: {first_line(error)}") from error
    except OSError as error:
        raise TransientError(f"{uri}: reading broke off: {first_line(error)}") from error


def _row_error(error: Any) -> NoReturn:
    code = str(error.response["Error"]["Code"])
    if code in MISSING:
        raise RowError("missing", "deleted since it was listed") from error
    if code in ("PreconditionFailed", "412"):
        raise RowError("changed", "replaced since it was listed; the next run takes the new version") from error
    if code in DENIED:
        raise RowError("denied", f"S3 answered {code}") from error
    if code == FROZEN:
        raise RowError("unreadable", "in a storage class that must be restored first, such as Glacier") from error
    raise TransientError(f"s3: reading failed: {first_line(error)}") from error
