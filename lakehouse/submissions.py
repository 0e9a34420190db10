"""Submissions: where the images that somebody hands in land."""

import re
from datetime import date
from pathlib import PurePosixPath

from lakehouse.arrivals import LANDING


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
