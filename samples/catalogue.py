"""The photographs in the repository: who made them, what each shows, and where in the picture it is.

`photographs/CREDITS.tsv` has a row per photograph; `photographs/SUBJECTS.tsv` a row per photograph that shows a class.
The others are surfaces to lay subjects on. `photographs/masks/` has a black-and-white picture, white on the subject,
for each photograph whose subject can be cut out.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from lakehouse.errors import NotFoundError

ALLOWED_LICENCES = frozenset({"public-domain", "CC0-1.0"})
CLASS_IDS = ("animal", "container", "fish", "structure", "tool")

_PHOTOGRAPHS = Path(__file__).parent / "photographs"


@dataclass(frozen=True)
class Credit:
    """Where one photograph comes from.

    Attributes:
        file: Name of the file in `samples/photographs/`.
        licence: One of `ALLOWED_LICENCES`.
        author: Who made it.
        source_page: The page that the distributor names as its source.
        via: The package that it was taken from, and where that states the licence.
    """

    file: str
    licence: str
    author: str
    source_page: str
    via: str


@dataclass(frozen=True)
class Subject:
    """What one photograph shows.

    Attributes:
        photograph: Name of the file in `samples/photographs/`.
        class_id: One of `CLASS_IDS`.
        is_held_out: Whether models are scored on it and never trained on it.
        boxes: Left, top, width and height of every subject, as fractions of the photograph, 0 to 1.
    """

    photograph: str
    class_id: str
    is_held_out: bool
    boxes: tuple[tuple[float, float, float, float], ...]


def read_credits() -> tuple[Credit, ...]:
    """Return the credit of every photograph, by file name."""
    return tuple(Credit(**row) for row in _read_rows("CREDITS.tsv"))


@cache
def read_subjects() -> tuple[Subject, ...]:
    """Return what every photograph that shows a class shows, by file name."""
    return tuple(
        Subject(
            photograph=row["photograph"],
            class_id=row["class_id"],
            is_held_out=row["is_held_out"] == "yes",
            boxes=tuple(_parse_box(text) for text in row["boxes"].split(";")),
        )
        for row in _read_rows("SUBJECTS.tsv")
    )


@cache
def load_photograph(name: str) -> Image.Image:
    """Return one photograph as an RGB image, which callers must not change.

    Raises:
        NotFoundError: There is no photograph of that name.
    """
    path = _PHOTOGRAPHS / name
    if not path.is_file():
        raise NotFoundError(
            f"cannot load the photograph {name!r}: samples/photographs has none of that name; "
            "see its CREDITS.tsv for those it has"
        )
    with Image.open(path) as image:
        return image.convert("RGB")


@cache
def load_mask(name: str) -> Image.Image | None:
    """Return which pixels of a photograph are its subject (255, others 0), or None if it cannot be cut out."""
    path = _PHOTOGRAPHS / "masks" / Path(name).with_suffix(".png").name
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return image.convert("L")


def _read_rows(table: str) -> list[dict[str, str]]:
    with (_PHOTOGRAPHS / table).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def _parse_box(text: str) -> tuple[float, float, float, float]:
    x, y, width, height = (float(number) for number in text.split())
    return x, y, width, height
