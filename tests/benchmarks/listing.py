"""Listing: a prefix of a million keys must take no more memory than one of ten thousand.

    python -m tests.benchmarks.listing KEYS      one measurement, as JSON

A server of this machine answers ListObjectsV2 with pages that it makes up, as no S3 server here holds a million
objects; everything from boto3 on is the real thing, up to the manifest in Parquet.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from artray.archive import listing
from artray.archive.s3 import PAGE_KEYS
from artray.config import ArchiveConfig
from artray.location import Location
from artray.pipeline.plan import write_manifest

KEYS: Final = (10_000, 1_000_000)
GROWTH_MAX: Final = 0.15
ENTRY: Final = (
    "<Contents><Key>archive/{0:03d}/work-{1:07d}.jpg</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{1:032x}&quot;</ETag><Size>{1}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
PAGE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>bucket</Name><Prefix>archive/</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
    "<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>"
    "<NextContinuationToken>{next}</NextContinuationToken>{entries}</ListBucketResult>"
)
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "made", "AWS_SECRET_ACCESS_KEY": "made", "AWS_REGION": "us-east-1"}


def run(tell: Callable[[str], None], sizes: Sequence[int] = KEYS) -> dict[str, Any]:
    """Peak memory of listing each number of keys, each in a process of its own, and its growth."""
    measured = []
    for keys in sorted(sizes):
        command = [sys.executable, "-m", "tests.benchmarks.listing", str(keys)]
        measured.append(one := json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        tell(f"listing: {keys:,} keys: {one['peak_bytes'] / 2**20:,.0f} MiB, {one['s']:.0f} s")
    peaks = [one["peak_bytes"] for one in measured]
    return {"runs": measured, "growth": (peaks[-1] - peaks[0]) / peaks[0], "growth_max": GROWTH_MAX}


def measure(keys: int) -> dict[str, Any]:
    """List so many keys into a manifest; the most memory that this process has held by then, and the seconds."""
    with serving(keys) as endpoint, tempfile.TemporaryDirectory() as folder:
        os.environ.update(CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint})
        archive, target = Location.of("s3://bucket/archive"), Location(str(Path(folder) / "manifest.parquet"))
        begun = time.monotonic()
        found = listing.entries(archive, ArchiveConfig(), lambda _: None)
        manifest = write_manifest(found, target, [], lambda _: None)
        seconds = time.monotonic() - begun
    if manifest.images != keys:
        raise RuntimeError(f"expected {keys} images, got {manifest.images}")
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"keys": keys, "peak_bytes": peak_bytes, "s": seconds}


@contextmanager
def serving(keys: int) -> Iterator[str]:
    """The endpoint of a server whose bucket has so many keys below ``archive/``."""

    class Pages(BaseHTTPRequestHandler):
        """Answers ListObjectsV2 and nothing else."""

        def do_GET(self) -> None:
            """One page; the token is the number of its first key."""
            asked = parse_qs(urlsplit(self.path).query)
            start = int(asked.get("continuation-token", ["0"])[0])
            stop = min(keys, start + PAGE_KEYS)
            entries = "".join(ENTRY.format(number // 10_000, number) for number in range(start, stop))
            more = "true" if stop < keys else "false"
            body = PAGE.format(count=stop - start, more=more, next=stop, entries=entries).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def markdown(measured: dict[str, Any]) -> str:
    """A section with a table."""
    rows = "\n".join(
        f"| {one['keys']:,} | {one['peak_bytes'] / 2**20:,.0f} | {one['s']:.0f} |" for one in measured["runs"]
    )
    growth, most = measured["growth"], measured["growth_max"]
    return (
        "## Memory: listing an S3 prefix into the manifest\n\n"
        "Resident memory of the process, the made-up server of the keys included; everything from boto3 on is real.\n\n"
        f"| keys | peak, MiB | s |\n|---:|---:|---:|\n{rows}\n\n"
        f"Growth: {growth:+.1%}; at most {most:.0%}: {'met' if growth <= most else 'missed'}."
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]))) + "\n")
