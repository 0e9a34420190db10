"""Submissions: where the images that somebody hands in land, and what is said of them beside them."""

import json
import re
from datetime import date
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from lakehouse.arrivals import LANDING
from lakehouse.sources import Source

MAX_IMAGE_BYTES = 50_000_000
"""The largest image that is taken from a URL or a presigned upload."""
CONTENT_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".avif": "image/avif",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
}
"""Media type of each suffix that an image's name may have."""
_LONGEST_NAME = 50
"""Letters, of four bytes at most: a file's name may have 255 bytes."""


def build_landing_key(source: str, day: date, name: str, distinction: str = "") -> str:
    """Return the key under which a file lands.

    Args:
        source: Who lands it.
        day: The present UTC date.
        name: Name of the file, with the folders it was in; characters that no key may hold become underscores.
        distinction: Told apart by this from another file of that name, put before the suffix.
    """
    printable = "".join(letter if letter.isprintable() else "_" for letter in name)
    path = PurePosixPath(*[part for part in PurePosixPath(printable).parts if part not in {"/", "..", "."}])
    # A folder of objects takes a name that ends so for a file that is still being written.
    path = path.with_name(re.sub(r"#(?=\d+$)", "_", path.name))
    if distinction:
        path = path.with_name(f"{path.stem}-{distinction}{path.suffix}")
    return f"{LANDING}{source}/{day:%Y/%m/%d}/{path}"


def build_upload_key(source: str, day: date, upload_id: str, name: str) -> str:
    """Return the key under which an upload lands, of which its name decides the suffix alone.

    Args:
        source: Who lands it.
        day: The present UTC date.
        upload_id: What no other upload has.
        name: Name of the file.

    Raises:
        ValueError: If the source's name is none, or the file's name has no suffix of an image.
    """
    find_content_type(name)
    return build_landing_key(Source(source).name, day, f"{upload_id}{_find_suffix(name)}")


def find_content_type(name: str) -> str:
    """Return the media type that a file's name says.

    Raises:
        ValueError: If it has no suffix of an image.
    """
    suffix = _find_suffix(name)
    if suffix not in CONTENT_TYPES:
        raise ValueError(f"the name {name!r} ends in none of {', '.join(CONTENT_TYPES)}")
    return CONTENT_TYPES[suffix]


def _find_suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def build_fetched_name(url: str, format_name: str) -> str:
    """Return the name under which an image from a URL lands: the last part of its path, with an image's suffix.

    Without one it could end in `.json`, and be taken for a sidecar.

    Args:
        url: Where the image came from.
        format_name: What its bytes are: `jpeg`, `png`, ...
    """
    name = PurePosixPath(unquote(urlsplit(url).path)).name.strip(". ") or "image"
    path = PurePosixPath(name)
    if _find_suffix(name) in CONTENT_TYPES:
        return f"{path.stem[:_LONGEST_NAME]}{path.suffix}"
    return f"{name[:_LONGEST_NAME]}.{format_name}"


def build_origin_sidecar(url: str) -> bytes:
    """Return a sidecar that says which URL an image came from, without its query, which may hold secrets."""
    return json.dumps({"origin_url": re.split(r"[?#]", url, maxsplit=1)[0]}, ensure_ascii=False).encode()
