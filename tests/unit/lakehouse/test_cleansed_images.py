from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from lakehouse.cleansed_images import (
    build_cleansed_rows,
    build_staging_key,
    count_verdicts,
    select_sample_thumbnails,
)
from lakehouse.cleansing import Verdict
from lakehouse.quality import CLEAN, REJECTED, SUSPECT
from lakehouse.schemas import CLEANSED_IMAGES

CLEAN_VERDICT = Verdict(
    CLEAN,
    None,
    "jpeg",
    40,
    30,
    6,
    False,
    120.5,
    30.25,
    99.0,
    -(2**63),
    b"jpeg",
    40,
    30,
    b"thumbnail",
)


def make_images(*image_ids: str) -> pa.Table:
    return pa.table(
        {
            "image_id": image_ids,
            "ingest_date": [date(2026, 11, 2)] * len(image_ids),
            "landed_at": [datetime(2026, 11, 2, tzinfo=UTC)] * len(image_ids),
            "original_key": [f"raw/{image_id}" for image_id in image_ids],
            "fingerprint": [f"print of {image_id}" for image_id in image_ids],
        }
    )


def make_rows(*verdicts: Verdict) -> pa.Table:
    images = make_images(*(f"{number}" for number in range(len(verdicts))))
    keys = ((verdict, f"s{number}", f"t{number}") for number, verdict in enumerate(verdicts))
    return build_cleansed_rows(
        images, [(verdict, s, t) if verdict.status != REJECTED else (verdict, None, None) for verdict, s, t in keys]
    )


def test_a_row_holds_the_image_its_verdict_and_its_keys() -> None:
    (row,) = build_cleansed_rows(make_images("a"), [(CLEAN_VERDICT, "staging/s", "staging/t")]).to_pylist()
    assert row["fingerprint"] == "print of a"
    assert (row["status"], row["perceptual_hash"], row["orientation"]) == (CLEAN, -(2**63), 6)
    assert (row["standard_key"], row["thumbnail_key"]) == ("staging/s", "staging/t")
    assert list(row) == CLEANSED_IMAGES.names


def test_a_rejected_image_has_a_row_without_measures_or_pictures() -> None:
    (row,) = make_rows(Verdict(REJECTED, "empty")).to_pylist()
    assert (row["status"], row["reason"]) == (REJECTED, "empty")
    measured = set(CLEANSED_IMAGES.names) - {"image_id", "ingest_date", "landed_at", "status", "reason", "fingerprint"}
    assert {row[name] for name in measured} == {None}


def test_as_many_verdicts_as_images_are_needed() -> None:
    with pytest.raises(ValueError, match="zip"):
        build_cleansed_rows(make_images("a", "b"), [(CLEAN_VERDICT, None, None)])


def test_another_picture_of_an_image_has_another_key() -> None:
    image_id = "ab" * 32
    key = build_staging_key("thumbnails", image_id, "0123456789abcdef" * 4)
    assert key == f"staging/thumbnails/ab/{image_id}-0123456789ab.jpg"
    assert key != build_staging_key("thumbnails", image_id, "f123456789abcdef" * 4)


def test_verdicts_are_counted_by_status_and_by_reason() -> None:
    rows = make_rows(
        CLEAN_VERDICT, CLEAN_VERDICT, Verdict(SUSPECT, "dark"), Verdict(REJECTED, "empty"), Verdict(REJECTED, "empty")
    )
    assert count_verdicts(rows) == {CLEAN: 2, REJECTED: 2, SUSPECT: 1, "rejected: empty": 2, "suspect: dark": 1}
    assert count_verdicts(rows.slice(9)) == {}


def test_the_sample_is_a_few_clean_thumbnails_the_same_each_time() -> None:
    rows = make_rows(*[Verdict(SUSPECT, "dark"), Verdict(REJECTED, "empty"), *[CLEAN_VERDICT] * 9])
    sample = select_sample_thumbnails(rows)
    assert sample == ["t10", "t2", "t3", "t4", "t5", "t6"]
    assert select_sample_thumbnails(rows.take(list(reversed(range(11))))) == sample
