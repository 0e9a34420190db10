"""Cleansed images: each image's verdict.

One row is one image: `clean`, `suspect` or `rejected` with a reason, its measures and perceptual hash, and the keys
of its standard image and thumbnail in `staging/`, which carry no metadata. Comes from the first arrivals in
`raw_images`; read by everything that looks at pictures.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

import pyarrow as pa

from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Markdown, Wanted
from lakehouse.cleansed_images import build_cleansed_rows, build_staging_key, count_verdicts, select_sample_thumbnails
from lakehouse.cleansing import Verdict, cleanse_image
from lakehouse.fingerprints import with_fingerprints

CODE_VERSION = "1"


def select_firsts(lake: Lake, day: date) -> Wanted:
    """Return the images whose first arrival was on the day."""
    columns = ["image_id", "ingest_date", "landed_at", "original_key", "is_first"]
    raw = lake.tables.read("raw_images", day=day, columns=columns)
    firsts = raw.filter(raw.column("is_first")).drop_columns(["is_first"])
    return Wanted(with_fingerprints(firsts, ["image_id", "landed_at"], CODE_VERSION, asdict(lake.settings.cleansing)))


def cleanse_images(lake: Lake, stale: pa.Table) -> pa.Table:
    """Judge each image and write its standard image and thumbnail."""
    verdicts = lake.compute.map(lambda row: _cleanse_one(lake, row), stale.to_pylist())
    return build_cleansed_rows(stale, list(verdicts))


def _cleanse_one(lake: Lake, row: Mapping[str, Any]) -> tuple[Verdict, str | None, str | None]:
    """Return the verdict without its pictures, and the keys under which these were written."""
    verdict = cleanse_image(lake.objects.read(row["original_key"]), lake.settings.cleansing)
    return (
        verdict.without_pictures(),
        _write_picture(lake, "standard", row["image_id"], verdict.standard_jpeg),
        _write_picture(lake, "thumbnails", row["image_id"], verdict.thumbnail_jpeg),
    )


def _write_picture(lake: Lake, kind: str, image_id: str, jpeg: bytes | None) -> str | None:
    if jpeg is None:
        return None
    key = build_staging_key(kind, image_id, hashlib.sha256(jpeg).hexdigest())
    lake.objects.create(key, jpeg)
    return key


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
    preview=preview_verdicts,
)
