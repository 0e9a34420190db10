"""Rows of `cleansed_images`, and what is shown of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from lakehouse.cleansing import Verdict
from lakehouse.quality import CLEAN
from lakehouse.schemas import CLEANSED_IMAGES

_SAMPLE = 6


def build_staging_key(kind: str, image_id: str, picture_sha256: str) -> str:
    """Return the key of a picture made from an image: another picture of the same image has another key.

    Args:
        kind: `standard` or `thumbnails`.
        image_id: The image.
        picture_sha256: sha256 of the picture's bytes.
    """
    return f"staging/{kind}/{image_id[:2]}/{image_id}-{picture_sha256[:12]}.jpg"


def build_cleansed_rows(images: pa.Table, cleansed: Sequence[tuple[Verdict, str | None, str | None]]) -> pa.Table:
    """Return the rows of images.

    Args:
        images: `image_id, ingest_date, landed_at, fingerprint`, one row per image.
        cleansed: For each image its verdict and the keys of its standard image and thumbnail.
    """
    rows = [
        image | asdict(verdict) | {"standard_key": standard_key, "thumbnail_key": thumbnail_key}
        for image, (verdict, standard_key, thumbnail_key) in zip(images.to_pylist(), cleansed, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CLEANSED_IMAGES)


def count_verdicts(rows: pa.Table) -> dict[str, int]:
    """Return how many images there are of each status, and of each reason as `status: reason`."""
    statuses = Counter(rows.column("status").to_pylist())
    reasons = Counter(
        f"{status}: {reason}"
        for status, reason in zip(rows.column("status").to_pylist(), rows.column("reason").to_pylist(), strict=True)
        if reason
    )
    return dict(sorted(statuses.items())) | dict(sorted(reasons.items()))


def select_sample_thumbnails(rows: pa.Table) -> list[str]:
    """Return the keys of a few clean thumbnails, the same ones each time."""
    pairs = zip(rows.column("status").to_pylist(), rows.column("thumbnail_key").to_pylist(), strict=True)
    return sorted(key for status, key in pairs if status == CLEAN and key)[:_SAMPLE]
