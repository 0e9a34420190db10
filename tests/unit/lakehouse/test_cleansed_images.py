from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from lakehouse import cleansed_images
from lakehouse.cleansed_images import (
    KeptImage,
    build_cleansed_rows,
    build_staging_key,
    count_verdicts,
    fingerprint_images,
    rejudge_rows,
    select_sample_thumbnails,
)
from lakehouse.cleansing import CleansedImage, cleanse_image
from lakehouse.fingerprints import CODE, SETTINGS, name_difference
from lakehouse.quality import (
    CLEAN,
    REJECTED,
    SUSPECT,
    CleansingRecipe,
    QualitySettings,
    RejectedLimits,
    SuspectLimits,
)
from lakehouse.schemas import CLEANSED_IMAGES
from tests.unit.lakehouse.image_files import encode, load_picture

RECIPE, QUALITY = CleansingRecipe(), QualitySettings()
GOOD = cleanse_image(encode(load_picture()), RECIPE).without_pictures()
WARNED = replace(GOOD, decoder_warning="extraneous bytes")
EMPTY = CleansedImage(failure="empty")
DULL = QualitySettings(suspect=SuspectLimits(min_contrast=127))
"""Limits that no image keeps."""
REFUSED = QualitySettings(rejected=RejectedLimits(min_contrast=127))


def make_images(*image_ids: str) -> pa.Table:
    return pa.table(
        {
            "image_id": pa.array(image_ids, pa.string()),
            "ingest_date": pa.array([date(2026, 11, 2)] * len(image_ids), pa.date32()),
            "landed_at": pa.array([datetime(2026, 11, 2, tzinfo=UTC)] * len(image_ids), pa.timestamp("us", "UTC")),
            "original_key": pa.array([f"raw/{image_id}" for image_id in image_ids], pa.string()),
        }
    )


def select(*image_ids: str, recipe: CleansingRecipe = RECIPE, quality: QualitySettings = QUALITY) -> pa.Table:
    return fingerprint_images(make_images(*image_ids), recipe, quality)


def make_rows(*images: CleansedImage) -> pa.Table:
    kept = [
        KeptImage(image) if image.failure else KeptImage(image, f"s{number}", f"t{number}")
        for number, image in enumerate(images)
    ]
    return build_cleansed_rows(select(*map(str, range(len(images)))), kept, QUALITY)


def list_prints(rows: pa.Table, name: str) -> list[str]:
    prints: list[str] = rows.column(name).to_pylist()
    return prints


def test_a_row_holds_the_image_its_verdict_and_its_keys() -> None:
    images = select("a")
    (row,) = build_cleansed_rows(images, [KeptImage(GOOD, "staging/s", "staging/t")], QUALITY).to_pylist()
    assert list(row) == CLEANSED_IMAGES.names
    assert (row["status"], row["reason"], row["failure"]) == (CLEAN, None, None)
    assert (row["standard_key"], row["thumbnail_key"]) == ("staging/s", "staging/t")
    assert {name: row[name] for name in vars(GOOD) if name in row} == {
        name: value for name, value in vars(GOOD).items() if name in row
    }
    assert [row[name] for name in ("decoding_fingerprint", "fingerprint")] == [
        images.column(name)[0].as_py() for name in ("decoding_fingerprint", "fingerprint")
    ]


def test_every_fact_of_an_image_has_its_column() -> None:
    assert set(vars(GOOD)) - set(CLEANSED_IMAGES.names) == {"standard_jpeg", "thumbnail_jpeg"}


def test_time_and_device_and_a_coarse_place_have_their_columns() -> None:
    taken = datetime(2026, 11, 2, 9, 30, 15)  # noqa: DTZ001 - the camera's clock has no zone
    image = replace(
        GOOD, captured_at_local=taken, captured_utc_offset_min=-60, camera_make="M", camera_model="F1", geohash="u09t"
    )
    (row,) = make_rows(image).to_pylist()
    assert (row["captured_at_local"], row["captured_utc_offset_min"]) == (taken, -60)
    assert (row["camera_make"], row["camera_model"], row["geohash"]) == ("M", "F1", "u09t")


def test_a_rejected_image_has_a_row_without_measures_or_pictures() -> None:
    (row,) = make_rows(EMPTY).to_pylist()
    assert (row["status"], row["reason"], row["failure"]) == (REJECTED, "empty", "empty")
    known = {
        "image_id",
        "ingest_date",
        "landed_at",
        "status",
        "reason",
        "failure",
        "fingerprint",
        "decoding_fingerprint",
    }
    assert {row[name] for name in set(CLEANSED_IMAGES.names) - known} == {None}


def test_an_image_that_is_refused_keeps_its_pictures_for_better_days() -> None:
    (row,) = build_cleansed_rows(select("a"), [KeptImage(GOOD, "s", "t")], REFUSED).to_pylist()
    assert (row["status"], row["reason"], row["failure"]) == (REJECTED, "low_contrast", None)
    assert (row["standard_key"], row["thumbnail_key"]) == ("s", "t")


def test_as_many_kept_images_as_rows_are_needed() -> None:
    with pytest.raises(ValueError, match="zip"):
        build_cleansed_rows(select("a", "b"), [KeptImage(GOOD)], QUALITY)


def test_another_limit_changes_the_fingerprint_and_not_what_was_decoded() -> None:
    before, after = select("a", "b"), select("a", "b", quality=DULL)
    assert list_prints(before, "decoding_fingerprint") == list_prints(after, "decoding_fingerprint")
    assert not set(list_prints(before, "fingerprint")) & set(list_prints(after, "fingerprint"))


@pytest.mark.parametrize(
    "recipe",
    [
        CleansingRecipe(standard_edge_px=1024),
        CleansingRecipe(standard_quality=80),
        CleansingRecipe(geohash_length=3),
        CleansingRecipe(max_pixels=1000),
        CleansingRecipe(max_seconds=1),
    ],
)
def test_another_recipe_changes_both_fingerprints(recipe: CleansingRecipe) -> None:
    before, after = select("a", "b"), select("a", "b", recipe=recipe)
    for name in ("decoding_fingerprint", "fingerprint"):
        assert not set(list_prints(before, name)) & set(list_prints(after, name))


def test_another_time_of_arrival_changes_the_row_and_not_what_was_decoded() -> None:
    images = make_images("a")
    later = images.set_column(
        images.column_names.index("landed_at"),
        "landed_at",
        pa.array([datetime(2026, 11, 2, 8, tzinfo=UTC)], pa.timestamp("us", "UTC")),
    )
    before, after = (fingerprint_images(table, RECIPE, QUALITY) for table in (images, later))
    assert list_prints(before, "decoding_fingerprint") == list_prints(after, "decoding_fingerprint")
    assert list_prints(before, "fingerprint") != list_prints(after, "fingerprint")


def test_images_have_different_fingerprints() -> None:
    for name in ("decoding_fingerprint", "fingerprint"):
        assert len(set(list_prints(select("a", "b", "c"), name))) == 3


def test_what_was_decoded_alike_is_judged_anew_with_all_else_as_it_was() -> None:
    held = make_rows(GOOD, WARNED, EMPTY)
    stale = select("0", "1", "2", quality=REFUSED)

    rows = rejudge_rows(stale, held, REFUSED)

    assert list_prints(rows, "fingerprint") == list_prints(stale, "fingerprint")
    assert [(row["status"], row["reason"]) for row in rows.to_pylist()] == [
        (REJECTED, "low_contrast"),
        (REJECTED, "low_contrast"),
        (REJECTED, "empty"),
    ]
    judged = ["status", "reason", "fingerprint"]
    assert rows.drop_columns(judged).equals(held.drop_columns(judged))
    assert rejudge_rows(select("0", "1", "2"), rows, QUALITY).equals(held)


def test_only_the_images_that_are_asked_for_are_judged() -> None:
    held = make_rows(GOOD, WARNED)
    assert list_prints(rejudge_rows(select("1", quality=DULL), held, DULL), "image_id") == ["1"]
    assert rejudge_rows(select(), held, QUALITY).schema == CLEANSED_IMAGES


def name_difference_of(before: pa.Table, after: pa.Table) -> set[str]:
    pairs = zip(list_prints(before, "fingerprint"), list_prints(after, "fingerprint"), strict=True)
    return {name_difference(held, wanted) for held, wanted in pairs}


def test_another_limit_and_another_recipe_are_told_as_settings() -> None:
    before = select("a", "b")
    assert name_difference_of(before, select("a", "b", quality=DULL)) == {SETTINGS}
    assert name_difference_of(before, select("a", "b", recipe=CleansingRecipe(standard_edge_px=512))) == {SETTINGS}


@pytest.mark.parametrize("version", ["DECODING_VERSION", "CODE_VERSION"])
def test_a_raised_version_is_told_as_code(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = select("a", "b")
    monkeypatch.setattr(cleansed_images, "CODE_VERSION", "another")
    monkeypatch.setattr(cleansed_images, version, "another")
    after = select("a", "b")
    assert name_difference_of(before, after) == {CODE}
    is_decoded_again = list_prints(before, "decoding_fingerprint") != list_prints(after, "decoding_fingerprint")
    assert is_decoded_again == (version == "DECODING_VERSION")


def test_judging_anew_takes_the_time_of_arrival_as_it_is_now() -> None:
    held = make_rows(GOOD)
    images = make_images("0").drop_columns(["landed_at"])
    moment = datetime(2026, 11, 2, 8, tzinfo=UTC)
    moved = images.append_column("landed_at", pa.array([moment], pa.timestamp("us", "UTC")))
    (row,) = rejudge_rows(fingerprint_images(moved, RECIPE, QUALITY), held, QUALITY).to_pylist()
    assert row["landed_at"] == moment


def test_another_picture_of_an_image_has_another_key() -> None:
    image_id = "ab" * 32
    key = build_staging_key("thumbnails", image_id, "0123456789abcdef" * 4)
    assert key == f"staging/thumbnails/ab/{image_id}-0123456789ab.jpg"
    assert key != build_staging_key("thumbnails", image_id, "f123456789abcdef" * 4)


def test_verdicts_are_counted_by_status_and_by_reason() -> None:
    rows = make_rows(GOOD, GOOD, WARNED, EMPTY, EMPTY)
    assert count_verdicts(rows) == {
        CLEAN: 2,
        REJECTED: 2,
        SUSPECT: 1,
        "rejected: empty": 2,
        "suspect: decoder_warning": 1,
    }
    assert count_verdicts(rows.slice(9)) == {}


def test_the_sample_is_a_few_clean_thumbnails_the_same_each_time() -> None:
    rows = make_rows(WARNED, EMPTY, *[GOOD] * 9)
    sample = select_sample_thumbnails(rows)
    assert sample == ["t10", "t2", "t3", "t4", "t5", "t6"]
    assert select_sample_thumbnails(rows.take(list(reversed(range(11))))) == sample
