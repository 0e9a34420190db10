"""Cleansed images: each image's verdict.

One row is one image: `clean`, `suspect` or `rejected` with a reason, its measures and perceptual hash, and the keys
of its standard image and thumbnail in `staging/`, which carry no metadata. Comes from the first arrivals in
`raw_images`; read by everything that looks at pictures. Another limit judges the stored measures anew; only another
recipe opens images again.
"""

import base64
import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adapters import inbox
from adapters.isolated_cleansing import cleanse_isolated
from adapters.lake import Lake
from adapters.logs import log_context
from farmy_assets.day_runs import DayStage, Markdown, Wanted
from lakehouse.arrivals import Hint
from lakehouse.cleansed_images import (
    CODE_VERSION,
    KeptImage,
    build_cleansed_rows,
    build_staging_key,
    count_verdicts,
    fingerprint_images,
    rejudge_rows,
    select_sample_thumbnails,
)
from lakehouse.cleansing import CleansedImage
from lakehouse.errors import FarmyError, find_outage
from lakehouse.quality import CLEAN, CleansingRecipe

_log = logging.getLogger("farmy.verdicts")


def select_firsts(lake: Lake, day: date) -> Wanted:
    """Return the images whose first arrival was on the day, but those that were taken back."""
    columns = ["image_id", "ingest_date", "landed_at", "object_key", "original_key", "size_bytes"]
    raw = lake.tables.read("raw_images", day=day, columns=[*columns, "is_first", "withdrawal"])
    firsts = raw.filter(pc.field("is_first") & pc.field("withdrawal").is_null()).select(columns)
    return Wanted(fingerprint_images(firsts, lake.settings.cleansing, lake.settings.quality))


def cleanse_images(lake: Lake, stale: pa.Table) -> pa.Table:
    """Find out all about each image and write its standard image and thumbnail.

    An original that cannot be read keeps no other image waiting: its row stays as it is, if there is one, and a hint
    has the day run again.

    Raises:
        FarmyError: If none of several originals could be read: then it is not the originals that fail.
    """
    made = list(
        lake.compute.pipe(
            stale.select(["image_id", "original_key", "size_bytes"]).to_pylist(),
            read=partial(_read_original, lake),
            work=partial(_cleanse, recipe=lake.settings.cleansing),
            write=partial(_write_pictures, lake),
            size_bytes=_get_size,
        )
    )
    failures = [result for result in made if isinstance(result, FarmyError)]
    outage = find_outage(failures, len(made))
    if outage is not None:
        raise outage
    is_made = pa.array([isinstance(result, KeptImage) for result in made], pa.bool_())
    kept = [result for result in made if isinstance(result, KeptImage)]
    rows = _log_verdicts(build_cleansed_rows(stale.filter(is_made), kept, lake.settings.quality))
    if not failures:
        return rows
    unread = stale.filter(pc.invert(is_made))
    _note_unread(lake, unread, failures)
    return pa.concat_tables([rows, _read_standing(lake, unread)])


def _read_standing(lake: Lake, images: pa.Table) -> pa.Table:
    """Return the rows that a day holds of images, which stay stale."""
    day = images.column("ingest_date")[0].as_py()
    return lake.tables.read("cleansed_images", day=day, where={"image_id": images.column("image_id").to_pylist()})


def _note_unread(lake: Lake, unread: pa.Table, failures: Sequence[FarmyError]) -> None:
    """Leave hints at the images whose originals could not be read; reading them from landing mends a lost one."""
    hints: dict[date, list[Hint]] = {}
    for row, failure in zip(unread.to_pylist(), failures, strict=True):
        _log.error("The original could not be read, and is tried again: %s", failure)
        hint = Hint(row["object_key"], row["size_bytes"], "its original could not be read")
        hints.setdefault(row["ingest_date"], []).append(hint)
    inbox.note_hints(lake, hints)


def _read_original(lake: Lake, row: Mapping[str, Any]) -> bytes | FarmyError:
    try:
        return lake.objects.read(row["original_key"])
    except FarmyError as error:
        return error


def _cleanse(data: bytes | FarmyError, recipe: CleansingRecipe) -> CleansedImage | FarmyError:
    return data if isinstance(data, FarmyError) else cleanse_isolated(data, recipe)


def _get_size(row: Mapping[str, Any]) -> int:
    return int(row["size_bytes"])


def _write_pictures(lake: Lake, row: Mapping[str, Any], image: CleansedImage | FarmyError) -> KeptImage | FarmyError:
    """Write what was made of an image, and return the rest with the keys."""
    if isinstance(image, FarmyError):
        return image
    return KeptImage(
        image.without_pictures(),
        _write_picture(lake, "standard", row["image_id"], image.standard_jpeg),
        _write_picture(lake, "thumbnails", row["image_id"], image.thumbnail_jpeg),
    )


def _write_picture(lake: Lake, kind: str, image_id: str, jpeg: bytes | None) -> str | None:
    if jpeg is None:
        return None
    key = build_staging_key(kind, image_id, hashlib.sha256(jpeg).hexdigest())
    lake.objects.create(key, jpeg)
    return key


def rejudge_images(lake: Lake, stale: pa.Table, held: pa.Table) -> pa.Table:
    """Judge the stored measures by the limits as they are now."""
    return _log_verdicts(rejudge_rows(stale, held, lake.settings.quality))


def _log_verdicts(rows: pa.Table) -> pa.Table:
    """Log each image that is not clean, and return the rows."""
    doubtful = rows.select(["image_id", "status", "reason"]).filter(pc.field("status") != CLEAN)
    for row in doubtful.to_pylist():
        with log_context(image_id=row["image_id"], reason=row["reason"]):
            _log.info("The image is %s: %s.", row["status"], row["reason"])
    return rows


def preview_verdicts(lake: Lake, rows: pa.Table) -> dict[str, Any]:
    """Return the day's verdicts and a few of its pictures."""
    pictures = (base64.b64encode(lake.objects.read(key)).decode() for key in select_sample_thumbnails(rows))
    shown = " ".join(f"![thumbnail](data:image/jpeg;base64,{picture})" for picture in pictures)
    return {**count_verdicts(rows), "sample": Markdown(shown)}


STAGE = DayStage(
    table="cleansed_images",
    description=__doc__,
    group="images",
    deps=("raw_images",),
    kind="python",
    code_version=CODE_VERSION,
    select=select_firsts,
    compute=cleanse_images,
    amends_by="decoding_fingerprint",
    amend=rejudge_images,
    preview=preview_verdicts,
)
