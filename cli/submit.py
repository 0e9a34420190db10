"""`farmy submit`: put images into landing."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import is_watched, json_option, notices, print_table, report
from lakehouse.errors import NotFoundError, StorageError
from lakehouse.submissions import build_landing_key


@dataclass(frozen=True)
class Submission:
    """One file that was handed in.

    Attributes:
        token: Identity of the image, to ask `farmy label` with.
        file: The file.
        object_key: Where it landed.
        is_new: Whether it landed just now; False if the same bytes lay there already.
    """

    token: str
    file: str
    object_key: str
    is_new: bool


def _check_source(_context: click.Context, _parameter: click.Parameter, source: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", source):
        raise click.BadParameter(f"{source!r} is not lower case letters, digits, - and _, as a source's name is")
    return source


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--source",
    default="submit",
    show_default=True,
    callback=_check_source,
    help="Who lands them: the first folder below landing/.",
)
@json_option
def submit(paths: Sequence[str], source: str, *, as_json: bool) -> None:
    """Put files and whole folders into landing, and print a token for each.

    Whatever a file is, it lands: what it is worth is cleansing's to say.

    Example: farmy submit ~/photos field.jpg --source phone
    """
    with Lake(load_settings()) as lake:
        files = list(_find_files(paths))
        today = datetime.now(UTC).date()
        with notices.status("", spinner="dots") as status:
            submissions = []
            for number, (file, name) in enumerate(files, start=1):
                if is_watched():
                    status.update(f"Landing {number} of {len(files)}: {name}")
                submissions.append(land_file(lake, file, name, source, today))
    report(as_json, {"images": [submission.__dict__ for submission in submissions]}, _show)


def land_file(lake: Lake, file: Path, name: str, source: str, today: date) -> Submission:
    """Put one file into landing; the same bytes under the same name on one day land once.

    Raises:
        StorageError: If the file cannot be read or the object cannot be written.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise StorageError(
            f"Could not read {file}: {error.strerror}. What came before it has landed; mend that and submit again."
        ) from error
    image_id = hashlib.sha256(data).hexdigest()
    key = build_landing_key(source, today, name)
    is_new = lake.objects.create(key, data)
    if not is_new and lake.objects.read(key) != data:
        key = build_landing_key(source, today, name, image_id[:12])
        is_new = lake.objects.create(key, data)
    lake.index.record_submission(image_id, key)
    return Submission(image_id, str(file), key, is_new)


def _find_files(paths: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield each file and the name it lands under: its path from the folder that was given."""
    for path in paths:
        if path.startswith(("http://", "https://")):
            raise NotFoundError(f"{path} is an address: fetch it first, `farmy submit` takes files and folders.")
        place = Path(path).expanduser()
        try:
            if place.is_dir():
                files = sorted(file for file in _walk(place) if file.is_file())
                yield from ((file, file.relative_to(place).as_posix()) for file in files)
                continue
        except OSError as error:
            raise StorageError(
                f"Could not read the folder {place}: {error.strerror}. Nothing of it has landed."
            ) from error
        if not place.exists():
            raise NotFoundError(f"There is no file or folder {place}. Nothing of it has landed.")
        yield place, place.name


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what lies below a folder; unlike `rglob` it does not pass over folders that cannot be read."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield entry


def _show(result: dict[str, Any]) -> None:
    print_table(None, result["images"])
