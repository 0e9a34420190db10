"""`farmy submit`: put images into landing."""

import hashlib
import os
import re
import stat
import sys
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.progress import track

from adapters.lake import Lake
from adapters.objects import Objects
from adapters.settings import load_settings
from cli.output import is_watched, json_option, notices, print_table, report
from lakehouse.addresses import show_url
from lakehouse.arrivals import MAX_OBJECT_BYTES
from lakehouse.errors import FarmyError, NotFoundError, StorageError
from lakehouse.sources import SIDECAR_SUFFIX, Source, find_subject, is_sidecar
from lakehouse.submissions import build_fetched_name, build_landing_key, build_origin_sidecar

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FETCHERS = 4
"""URLs that are fetched at once; as many images are held in memory."""


@dataclass(frozen=True)
class Submission:
    """What became of one file or URL that was handed in.

    Attributes:
        item: The file, or the URL without its query.
        token: Identity of the image, to ask `farmy label` with; None if it did not land.
        object_key: Where it landed; None if it did not.
        is_new: Whether it landed just now; False if the same bytes lay there already.
        reason: Why it did not land; None if it did.
    """

    item: str
    token: str | None = None
    object_key: str | None = None
    is_new: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class _Item:
    """A file or URL that was handed in, not yet read.

    Attributes:
        shown: What it is called in the answer.
        read: Reads it; raises a `FarmyError` if that is not possible.
        is_slow: Whether it is worth reading while others are.
    """

    shown: str
    read: Callable[[Lake], "_Image"]
    is_slow: bool = False


@dataclass(frozen=True)
class _Image:
    """What is to land.

    Attributes:
        name: The name it lands under.
        data: Its bytes.
        sidecar: The bytes of the sidecar that lands beside it, if there is one.
    """

    name: str
    data: bytes
    sidecar: bytes | None


def check_source(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """Check an option that names a source."""
    try:
        return Source(name).name
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("items", nargs=-1, required=True, metavar="PATH_OR_URL...")
@click.option(
    "--source",
    default="submit",
    show_default=True,
    callback=check_source,
    help="Who lands them: the first folder below landing/.",
)
@json_option
def submit(items: Sequence[str], source: str, *, as_json: bool) -> int:
    r"""Put files, whole folders and images by URL into landing, and print a token for each.

    A - reads a list of them from standard input, one a line. Whatever a file is, it lands: what it is worth is
    cleansing's to say. What does not land has the reason in its row, and the exit code is 1.

    \b
    Examples:
      farmy submit ~/photos field.jpg --source phone
      farmy submit https://example.org/cow.jpg --source scraper
      farmy submit - --source scraper < urls.txt
    """
    texts = [text for item in items for text in (_read_list() if item == "-" else [item])]
    given = set(texts)
    today = datetime.now(UTC).date()
    with Lake(load_settings()) as lake:
        found = [found for text in texts for found in _find_items(text, given)]
        rows = [
            asdict(_land_item(lake, item, read, source, today))
            for item, read in track(
                _begin_reading(lake, found),
                "Landing",
                total=len(found),
                console=notices,
                transient=True,
                disable=not is_watched(),
            )
        ]
    report(as_json, {"images": rows}, _show)
    return int(any(row["reason"] is not None for row in rows))


def _read_list() -> list[str]:
    """Return the lines of standard input, without empty ones and comments."""
    lines = [os.fsdecode(line).strip() for line in sys.stdin.buffer]
    return [line for line in lines if line and not line.startswith("#")]


def _find_items(text: str, given: Container[str]) -> Iterator[_Item]:
    """Yield what a URL, a file or a folder stands for.

    Args:
        text: The URL or path.
        given: All URLs and paths that were handed in.
    """
    if _URL.match(text):
        yield _Item(show_url(text), partial(_fetch, text), is_slow=True)
        return
    place = _find_place(text)
    try:
        if text and place.is_dir():  # an empty text would be the working folder
            yield from _find_files(place)
        elif not (is_sidecar(text) and find_subject(text) in given):
            yield _Item(_show_path(place), partial(_read_file, place, place.name))
    except OSError as error:
        message = f"Could not read the folder {_show_path(place)}: {error.strerror}. Nothing of it has landed."
        yield _Item(_show_path(place), partial(_fail, StorageError(message)))


def _find_place(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # nobody of that name has a home
        return Path(text)


def _find_files(folder: Path) -> list[_Item]:
    """Return the files below a folder, without the sidecars of others; each lands under its path from the folder."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(_walk(folder)) if file.is_file()}
    return [
        _Item(_show_path(file), partial(_read_file, file, name))
        for name, file in files.items()
        if not (is_sidecar(name) and find_subject(name) in files)
    ]


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what lies below a folder; unlike `rglob` it does not pass over folders that cannot be read."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield entry


def _begin_reading(lake: Lake, items: Sequence[_Item]) -> Iterator[tuple[_Item, Callable[[], _Image]]]:
    """Yield items in their order, each with what returns its image; reading the slow ones begins ahead of that."""
    with ThreadPoolExecutor(_FETCHERS) as pool:
        begun: deque[tuple[_Item, Callable[[], _Image]]] = deque()
        for item in items:
            begun.append((item, pool.submit(item.read, lake).result if item.is_slow else partial(item.read, lake)))
            if len(begun) == _FETCHERS:
                yield begun.popleft()
        yield from begun


def _fail(error: FarmyError, _lake: Lake) -> _Image:
    raise error


def _fetch(url: str, lake: Lake) -> _Image:
    fetched = lake.url_fetcher.fetch(url)
    return _Image(build_fetched_name(fetched.url, fetched.format), fetched.data, build_origin_sidecar(url))


def _read_file(file: Path, name: str, _lake: Lake) -> _Image:
    if is_sidecar(name):
        raise NotFoundError(
            f"{_show_path(file)} is a sidecar, and a sidecar lands with its image: submit that, with this beside it."
        )
    try:
        _check_file(file)
        sidecar = file.with_name(f"{file.name}{SIDECAR_SUFFIX}")
        return _Image(name, file.read_bytes(), sidecar.read_bytes() if sidecar.is_file() else None)
    except (FileNotFoundError, ValueError) as error:  # ValueError: a NUL, which no path holds
        raise NotFoundError(f"There is no file or folder {_show_path(file)}.") from error
    except OSError as error:
        raise StorageError(
            f"Could not read {_show_path(file)}: {error.strerror}. Mend that and submit it again."
        ) from error


def _check_file(file: Path) -> None:
    facts = file.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise NotFoundError(f"{_show_path(file)} is no file that can be read as a whole.")
    if facts.st_size > MAX_OBJECT_BYTES:
        raise StorageError(
            f"{_show_path(file)} has {facts.st_size / 1e6:.0f} MB, and {MAX_OBJECT_BYTES / 1e6:.0f} MB are the most. "
            "Make it smaller, or leave it out."
        )


def _show_path(path: Path) -> str:
    """Return a path that can be printed, whatever bytes it has."""
    return os.fsencode(path).decode(errors="replace")


def _land_item(lake: Lake, item: _Item, read: Callable[[], _Image], source: str, today: date) -> Submission:
    try:
        return _land(lake, item.shown, read(), source, today)
    except FarmyError as error:
        return Submission(item.shown, reason=str(error))


def _land(lake: Lake, shown: str, image: _Image, source: str, today: date) -> Submission:
    """Put one image into landing, after its sidecar; the same of both under the same name on one day land once."""
    key = build_landing_key(source, today, image.name)
    if _is_taken(lake.objects, key, image):
        distinction = hashlib.sha256(image.data + (image.sidecar or b"")).hexdigest()[:12]
        key = build_landing_key(source, today, image.name, distinction)
    if image.sidecar is not None:
        _create(lake.objects, f"{key}{SIDECAR_SUFFIX}", image.sidecar)
    is_new = _create(lake.objects, key, image.data)
    token = hashlib.sha256(image.data).hexdigest()
    lake.index.record_submission(token, key)
    return Submission(shown, token, key, is_new)


def _is_taken(objects: Objects, key: str, image: _Image) -> bool:
    """Tell whether another image, or another sidecar than this image's, has the key."""
    return _has_other(objects, key, image.data) or (
        image.sidecar is not None and _has_other(objects, f"{key}{SIDECAR_SUFFIX}", image.sidecar)
    )


def _has_other(objects: Objects, key: str, data: bytes) -> bool:
    try:
        return objects.read(key) != data
    except NotFoundError:
        return False


def _create(objects: Objects, key: str, data: bytes) -> bool:
    """Write an object unless it lies there already; tell whether it was written."""
    is_new = objects.create(key, data)
    if not is_new and _has_other(objects, key, data):
        raise StorageError(f"Something else landed as {key} at the same moment. Submit it again.")
    return is_new


def _show(result: dict[str, Any]) -> None:
    print_table(None, result["images"])
