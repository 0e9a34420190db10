"""Cleansed images: each image's verdict.

One row is one image: `clean`, `suspect` or `rejected` with a reason, its measures and perceptual hash, and the keys
of its standard image and thumbnail in `staging/`, which carry no metadata. Comes from the first arrivals in
`raw_images`; read by everything that looks at pictures. Another limit judges the stored measures anew; only another
recipe opens images again.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa

from adapters.isolated_cleansing import cleanse_isolated
from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Markdown, Wanted
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


def select_firsts(lake: Lake, day: date) -> Wanted:
    """Return the images whose first arrival was on the day."""
    columns = ["image_id", "ingest_date", "landed_at", "original_key", "size_bytes", "is_first"]
    raw = lake.tables.read("raw_images", day=day, columns=columns)
    firsts = raw.filter(raw.column("is_first")).drop_columns(["is_first"])
    return Wanted(fingerprint_images(firsts, lake.settings.cleansing, lake.settings.quality))


def cleanse_images(lake: Lake, stale: pa.Table) -> pa.Table:
    """Find out all about each image and write its standard image and thumbnail."""
    kept = lake.compute.pipe(
        stale.select(["image_id", "original_key", "size_bytes"]).to_pylist(),
        read=partial(_read_original, lake),
        work=partial(cleanse_isolated, recipe=lake.settings.cleansing),
        write=partial(_write_pictures, lake),
        size_bytes=_get_size,
    )
    return build_cleansed_rows(stale, list(kept), lake.settings.quality)


def _read_original(lake: Lake, row: Mapping[str, Any]) -> bytes:
    return lake.objects.read(row["original_key"])


def _get_size(row: Mapping[str, Any]) -> int:
    return int(row["size_bytes"])


def _write_pictures(lake: Lake, row: Mapping[str, Any], image: CleansedImage) -> KeptImage:
    """Write what was made of an image, and return the rest with the keys."""
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
    return rejudge_rows(stale, held, lake.settings.quality)


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
