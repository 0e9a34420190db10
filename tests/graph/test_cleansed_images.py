"""What makes an image be judged again, and what makes it be decoded again: told by outcomes and by what is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from adapters import inbox
from adapters.lake import Lake
from farmy_assets import cleansed_images, image_catalog, near_duplicates, raw_images
from farmy_assets.day_runs import DayOutcome, count_stale, update_day
from lakehouse.errors import FarmyError
from lakehouse.quality import CleansingRecipe, QualitySettings, RejectedLimits, SuspectLimits
from tests.graph.lakes import DAY_1, land, make_picture, open_lake
from tests.unit.lakehouse.image_files import write_exif, write_position, write_text

SUSPICIOUS = QualitySettings(suspect=SuspectLimits(min_edge_px=5000))
REFUSING = QualitySettings(rejected=RejectedLimits(min_edge_px=5000))
SMALLER = CleansingRecipe(standard_edge_px=256)
JUDGED = ["status", "reason", "fingerprint"]
STAGES = (raw_images.STAGE, cleansed_images.STAGE)
FOLLOWING = (near_duplicates.STAGE, image_catalog.STAGE)


def land_some(lake: Lake) -> None:
    """Land three pictures and a broken file."""
    for number in (1, 2, 3):
        land(lake, f"{number}.jpg", make_picture(number), DAY_1)
    land(lake, "broken.jpg", make_picture(4)[:900], DAY_1)


def update(lake: Lake, *, force: bool = False) -> DayOutcome:
    """Bring a day of images up to date as a run does; return what was done to them."""
    inbox.note_all_arrivals(lake)
    return [update_day(lake, stage, DAY_1, run_id="test", force=force) for stage in STAGES][-1]


def follow(lake: Lake) -> dict[str, DayOutcome]:
    """Do the same with the tables that follow from them; return what was done to each."""
    outcomes = [update(lake), *(update_day(lake, stage, DAY_1, run_id="test") for stage in FOLLOWING)]
    return {outcome.table: outcome for outcome in outcomes}


def count(outcome: DayOutcome) -> tuple[int, int, int]:
    """Return how many images were decoded, judged again and left as they were."""
    return outcome.computed, outcome.amended, outcome.unchanged


@contextmanager
def reopen(lake: Lake, **settings: Any) -> Iterator[Lake]:
    with open_lake(lake.settings.home, **settings) as reopened:
        yield reopened


def delete_originals(lake: Lake) -> None:
    lake.objects.delete([fact.key for fact in lake.objects.list("raw/")])


def read_rows(lake: Lake) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.tables.read("cleansed_images").sort_by("image_id").to_pylist()
    return rows


def count_statuses(lake: Lake) -> dict[str, int]:
    statuses = [row["status"] for row in read_rows(lake)]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def take_out(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_another_limit_judges_every_image_again_without_opening_one(lake: Lake) -> None:
    land_some(lake)
    assert count(update(lake)) == (4, 0, 0)
    before = read_rows(lake)
    delete_originals(lake)

    for quality, statuses in (
        (SUSPICIOUS, {"rejected": 1, "suspect": 3}),
        (REFUSING, {"rejected": 4}),
        (lake.settings.quality, {"clean": 3, "rejected": 1}),
    ):
        with reopen(lake, quality=quality) as changed:
            assert count_stale(changed, cleansed_images.STAGE, DAY_1) == 4
            outcome = update(changed)
            assert "0 computed, 4 amended, 0 dropped" in str(outcome)
            assert {status: outcome.preview[status] for status in statuses} == statuses
            assert count_statuses(changed) == statuses
            after = read_rows(changed)
            assert [take_out(row, JUDGED) for row in after] == [take_out(row, JUDGED) for row in before]
            assert count(update(changed)) == (0, 0, 4)
    assert after == before
    keys = [row[name] for row in after for name in ("standard_key", "thumbnail_key") if row[name]]
    assert len(keys) == 6
    assert all(lake.objects.read(key).startswith(b"\xff\xd8") for key in keys)


def test_what_follows_from_a_verdict_follows_it_there_and_back(lake: Lake) -> None:
    land_some(lake)
    first = follow(lake)
    assert first["near_duplicates"].rows == 3
    with reopen(lake, quality=SUSPICIOUS) as changed:
        outcomes = follow(changed)
        assert (outcomes["near_duplicates"].rows, outcomes["near_duplicates"].dropped) == (0, 3)
        catalog = changed.tables.read("image_catalog", columns=["status"]).column("status").to_pylist()
        assert sorted(catalog) == ["rejected", "suspect", "suspect", "suspect"]
    again = follow(lake)
    assert {table: outcome.content_hash for table, outcome in again.items()} == {
        table: outcome.content_hash for table, outcome in first.items()
    }


def test_another_size_decodes_every_image_again_and_makes_other_pictures_beside_the_old_ones(lake: Lake) -> None:
    land_some(lake)
    update(lake)
    old = {row["standard_key"] for row in read_rows(lake) if row["standard_key"]}
    with reopen(lake, cleansing=SMALLER) as changed:
        assert count(update(changed)) == (4, 0, 0)
        assert count(update(changed)) == (0, 0, 4)
        for row in read_rows(changed):
            if row["standard_key"]:
                assert row["standard_key"] not in old
                picture = Image.open(BytesIO(changed.objects.read(row["standard_key"])))
                assert picture.size == (row["standard_width_px"], row["standard_height_px"]) == (256, 192)
    assert old <= {fact.key for fact in lake.objects.list("staging/standard/")}


def test_an_image_that_must_be_decoded_and_is_gone_fails_the_run_and_changes_nothing(lake: Lake) -> None:
    land_some(lake)
    update(lake)
    before = read_rows(lake)
    delete_originals(lake)
    with reopen(lake, cleansing=SMALLER) as changed, pytest.raises(FarmyError, match="raw/"):
        update(changed)
    assert read_rows(lake) == before


def test_only_what_is_new_is_decoded_whether_the_old_stand_or_are_judged_again(lake: Lake) -> None:
    land_some(lake)
    update(lake)
    delete_originals(lake)
    land(lake, "5.jpg", make_picture(5), DAY_1)
    assert count(update(lake)) == (1, 0, 4)
    delete_originals(lake)
    land(lake, "6.jpg", make_picture(6), DAY_1)
    with reopen(lake, quality=SUSPICIOUS) as changed:
        assert count(update(changed)) == (1, 5, 0)
        assert count_statuses(changed) == {"rejected": 1, "suspect": 5}


def test_with_another_limit_and_another_recipe_everything_is_decoded(lake: Lake) -> None:
    land_some(lake)
    update(lake)
    with reopen(lake, quality=SUSPICIOUS, cleansing=SMALLER) as changed:
        assert count(update(changed)) == (4, 0, 0)


def test_an_image_that_arrives_earlier_is_judged_again_and_not_decoded(lake: Lake) -> None:
    land(lake, "late.jpg", make_picture(1), DAY_1, hour=9)
    update(lake)
    land(lake, "early.jpg", make_picture(1), DAY_1, hour=8)
    delete_originals(lake)
    assert count(update(lake)) == (0, 1, 0)
    (row,) = read_rows(lake)
    assert row["landed_at"].hour == 8


def test_force_decodes_every_image_even_where_judging_would_do(lake: Lake) -> None:
    land_some(lake)
    update(lake)
    before = read_rows(lake)
    assert count(update(lake, force=True)) == (4, 0, 0)
    assert read_rows(lake) == before
    with reopen(lake, quality=SUSPICIOUS) as changed:
        assert count(update(changed, force=True)) == (4, 0, 0)


def test_when_and_with_what_it_was_taken_is_in_the_table_and_where_only_if_asked(lake: Lake) -> None:
    exif = write_exif(
        [write_text(0x010F, "Farmcam Works"), write_text(0x0110, "F1")],
        [write_text(0x9003, "2026:11:02 09:30:15"), write_text(0x9011, "-03:00")],
        write_position(57.64911, 10.40744),
    )
    buffer = BytesIO()
    Image.open(BytesIO(make_picture(1))).save(buffer, "JPEG", exif=b"Exif\0\0" + exif)
    land(lake, "1.jpg", buffer.getvalue(), DAY_1)
    update(lake)

    (row,) = read_rows(lake)
    assert (row["camera_make"], row["camera_model"]) == ("Farmcam Works", "F1")
    assert row["captured_at_local"] == datetime(2026, 11, 2, 9, 30, 15)  # noqa: DTZ001 - the camera's own clock
    assert (row["captured_utc_offset_min"], row["has_location"], row["geohash"]) == (-180, True, None)

    with reopen(lake, cleansing=CleansingRecipe(geohash_length=4)) as located:
        assert count(update(located)) == (1, 0, 0)
        assert [row["geohash"] for row in read_rows(located)] == ["u4pr"]
    update(lake)
    assert [row["geohash"] for row in read_rows(lake)] == [None]
    assert not any(trace in str(read_rows(lake)) for trace in ("57.6", "10.4", "u4pr"))
    for fact in lake.objects.list("staging/"):
        assert b"Farmcam" not in lake.objects.read(fact.key)
