"""Rows of `cleansed_images`, and what is shown of them.

A row carries two fingerprints: `decoding_fingerprint` of what its measures and pictures were made from, and
`fingerprint` of that and of what they were judged by. Where the first one holds, a row that is stale is judged anew,
and no image is opened.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from lakehouse.cleansing import CleansedImage
from lakehouse.fingerprints import with_fingerprints
from lakehouse.quality import CLEAN, CleansingRecipe, QualitySettings, judge
from lakehouse.schemas import CLEANSED_IMAGES

DECODING_VERSION = "2"
"""Raised when an image would give other measures or pictures; makes every row stale."""
JUDGING_VERSION = "1"
"""Raised when the same measures would give another verdict; makes every row be judged anew."""
CODE_VERSION = f"{DECODING_VERSION}.{JUDGING_VERSION}"
_SAMPLE = 6


@dataclass(frozen=True)
class KeptImage:
    """What cleansing made of one image, once its pictures are written.

    Attributes:
        image: The facts, without pictures.
        standard_key: Key of the standard image; None if there is none.
        thumbnail_key: Key of the thumbnail; None if there is none.
    """

    image: CleansedImage
    standard_key: str | None = None
    thumbnail_key: str | None = None


def build_staging_key(kind: str, image_id: str, picture_sha256: str) -> str:
    """Return the key of a picture made from an image: another picture of the same image has another key.

    Args:
        kind: `standard` or `thumbnails`.
        image_id: The image.
        picture_sha256: sha256 of the picture's bytes.
    """
    return f"staging/{kind}/{image_id[:2]}/{image_id}-{picture_sha256[:12]}.jpg"


def fingerprint_images(images: pa.Table, recipe: CleansingRecipe, quality: QualitySettings) -> pa.Table:
    """Return images with both fingerprints.

    Args:
        images: `image_id, landed_at` and anything else, one row per image.
        recipe: How they are decoded.
        quality: What they are judged by.
    """
    decoding = with_fingerprints(images, ["image_id"], DECODING_VERSION, asdict(recipe))
    decoding = decoding.rename_columns({"fingerprint": "decoding_fingerprint"})
    settings = {"cleansing": asdict(recipe), "quality": asdict(quality)}
    return with_fingerprints(decoding, ["image_id", "landed_at"], CODE_VERSION, settings)


def build_cleansed_rows(images: pa.Table, kept: Sequence[KeptImage], quality: QualitySettings) -> pa.Table:
    """Return the rows of images.

    Args:
        images: `image_id, ingest_date, landed_at, decoding_fingerprint, fingerprint`, one row per image.
        kept: What cleansing made of each.
        quality: What they are judged by.
    """
    rows = []
    for image, made in zip(images.to_pylist(), kept, strict=True):
        facts = vars(made.image)
        keys = {"standard_key": made.standard_key, "thumbnail_key": made.thumbnail_key}
        rows.append(image | facts | keys | judge(facts, quality)._asdict())
    return pa.Table.from_pylist(rows, schema=CLEANSED_IMAGES)


def rejudge_rows(stale: pa.Table, held: pa.Table, quality: QualitySettings) -> pa.Table:
    """Return the rows of images whose measures and pictures stand, judged anew.

    Args:
        stale: `image_id, landed_at, fingerprint` of the images, one row per image.
        held: At least their rows of `cleansed_images` as they stand.
        quality: What they are judged by.
    """
    standing = {row["image_id"]: row for row in held.to_pylist()}
    rows = []
    for image in stale.select(["image_id", "landed_at", "fingerprint"]).to_pylist():
        row = standing[image["image_id"]]
        rows.append(row | image | judge(row, quality)._asdict())
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
