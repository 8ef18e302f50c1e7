"""What a picture's header says; its pixels are not decoded."""

import io
import os
import warnings
from typing import IO
from urllib.parse import unquote_to_bytes

from PIL import Image

from artray.archive import rasters, reading
from artray.archive.listing import Entry
from artray.config import ArchiveConfig
from artray.detect.datasets.frames import Seen
from artray.errors import RowError
from artray.location import first_line


def seen(entry: Entry) -> Seen:
    """A picture's size and orientation.

    Raises:
        RowError: it cannot be read, or Pillow knows no such picture.
        TransientError: the storage does not answer.
    """
    if entry.error:
        raise RowError(entry.error, entry.error_detail)
    try:
        with warnings.catch_warnings(), _opened(entry) as stream:
            warnings.simplefilter("ignore")  # of pictures of many pixels, which are not decoded here
            with Image.open(stream) as image:
                return Seen(image.size, rasters.orientation(image))
    except RowError:
        raise
    except FileNotFoundError as error:
        raise RowError("missing", "gone since it was listed") from error
    except PermissionError as error:
        raise RowError("denied", "no permission to read it") from error
    except Image.DecompressionBombError as error:
        raise RowError("too_large", first_line(error)) from error
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises of damaged headers
        raise RowError("corrupt", "no picture that can be read") from error


def _opened(entry: Entry) -> IO[bytes]:
    if entry.uri.startswith("s3://"):
        return io.BytesIO(reading.read(entry.uri, entry.version, ArchiveConfig().max_file_bytes))
    encoded = entry.uri.startswith("file://")
    path = unquote_to_bytes(entry.uri.removeprefix("file://")) if encoded else os.fsencode(entry.uri)
    return open(path, "rb")  # noqa: PTH123 (a path of any bytes)
