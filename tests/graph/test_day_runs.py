"""The commit protocol, through Dagster over real temporary storage: a run brings a day up to date, and nothing else."""

from pathlib import Path

import dagster as dg
import pytest

from adapters import inbox
from adapters.lake import Lake
from farmy_assets import cleansed_images, image_catalog, near_duplicates, raw_images
from farmy_assets.day_assets import build_failure
from farmy_assets.day_runs import update_day
from farmy_assets.definitions import build_definitions
from lakehouse.errors import DayChangedError, FarmyError, PermanentError, QueryError, StorageError
from tests.graph.lakes import (
    DAY_1,
    DAY_2,
    DAY_3,
    IMAGE_TABLES,
    FailingObjects,
    hash_tables,
    land,
    list_notes,
    list_snapshots,
    make_picture,
    open_lake,
    recompress,
    take_in,
)

NEVER = 1_000_000
STAGES = (raw_images.STAGE, cleansed_images.STAGE, near_duplicates.STAGE, image_catalog.STAGE)


def land_some(lake: Lake) -> None:
    """Land six files on two days: three pictures, a copy, a near duplicate and a broken file."""
    land(lake, "one.jpg", make_picture(1), DAY_1)
    land(lake, "two.jpg", make_picture(2), DAY_1, hour=10)
    land(lake, "broken.jpg", make_picture(3)[:900], DAY_1, hour=11)
    land(lake, "one-again.jpg", make_picture(1), DAY_2)
    land(lake, "two-smaller.jpg", recompress(make_picture(2)), DAY_2, hour=10)
    land(lake, "four.jpg", make_picture(4), DAY_2, hour=11)


def update_all_days(lake: Lake) -> None:
    """Bring both days up to date without Dagster."""
    inbox.note_all_arrivals(lake)
    for stage in STAGES:
        for day in (DAY_1, DAY_2):
            update_day(lake, stage, day, run_id="test")


def test_every_landed_file_gets_its_row_and_every_image_its_verdict(lake: Lake) -> None:
    land_some(lake)

    take_in(lake, [DAY_1, DAY_2])

    raw = lake.tables.read("raw_images").to_pylist()
    assert len(raw) == 6
    assert {row["object_key"].rpartition("/")[2] for row in raw if not row["is_first"]} == {"one-again.jpg"}
    assert sorted(row["status"] for row in lake.tables.read("cleansed_images").to_pylist()) == [
        *["clean"] * 4,
        "rejected",
    ]
    followers = [
        row for row in lake.tables.read("near_duplicates").to_pylist() if row["image_id"] != row["leader_image_id"]
    ]
    assert [(row["ingest_date"], row["leader_ingest_date"]) for row in followers] == [(DAY_2, DAY_1)]
    assert list_notes(lake) == []


def test_a_second_run_changes_no_content_and_makes_no_snapshot(lake: Lake) -> None:
    land_some(lake)
    take_in(lake, [DAY_1, DAY_2])
    hashes, snapshots = hash_tables(lake), list_snapshots(lake)

    outcomes = take_in(lake, [DAY_1, DAY_2])

    assert len(outcomes) == 2 * len(IMAGE_TABLES)
    assert all(outcome.computed == outcome.dropped == 0 for outcome in outcomes)
    assert hash_tables(lake) == hashes
    assert list_snapshots(lake) == snapshots


def test_force_makes_every_row_again_and_equal(lake: Lake) -> None:
    land_some(lake)
    take_in(lake, [DAY_1, DAY_2])
    hashes, snapshots = hash_tables(lake), list_snapshots(lake)

    outcomes = take_in(lake, [DAY_1, DAY_2], force=True)

    assert all(outcome.computed == outcome.rows > 0 for outcome in outcomes)
    assert hash_tables(lake) == hashes
    assert all(list_snapshots(lake)[name] != snapshots[name] for name in IMAGE_TABLES)


def test_a_day_with_one_more_image_computes_one_row(lake: Lake) -> None:
    land_some(lake)
    take_in(lake, [DAY_1, DAY_2])

    land(lake, "five.jpg", make_picture(5), DAY_2, hour=15)
    outcomes = take_in(lake, [DAY_1, DAY_2])

    assert {(outcome.table, outcome.day): outcome.computed for outcome in outcomes if outcome.computed} == {
        (table, DAY_2): 1 for table in IMAGE_TABLES
    }


def test_a_run_over_a_range_equals_runs_of_single_days(tmp_path: Path) -> None:
    with open_lake(tmp_path / "range") as ranged, open_lake(tmp_path / "single") as single:
        land_some(ranged)
        land_some(single)

        take_in(ranged, [DAY_1, DAY_2])
        take_in(single, [DAY_1])
        take_in(single, [DAY_2])

        assert hash_tables(single) == hash_tables(ranged)


def test_days_run_in_any_order_end_up_equal(tmp_path: Path) -> None:
    with open_lake(tmp_path / "forward") as forward, open_lake(tmp_path / "backward") as backward:
        land_some(forward)
        land_some(backward)
        take_in(forward, [DAY_1, DAY_2])

        take_in(backward, [DAY_2])
        take_in(backward, [DAY_1])
        take_in(backward, [DAY_2])

        assert hash_tables(backward) == hash_tables(forward)


def test_a_late_arrival_on_an_earlier_day_makes_the_later_one_a_copy(lake: Lake) -> None:
    land(lake, "later.jpg", make_picture(1), DAY_2)
    take_in(lake, [DAY_2])

    land(lake, "earlier.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1])

    assert list_notes(lake), "the later day is noted again"
    take_in(lake, [DAY_2])
    firsts = {row["ingest_date"]: row["is_first"] for row in lake.tables.read("raw_images").to_pylist()}
    assert firsts == {DAY_1: True, DAY_2: False}
    assert lake.tables.read("cleansed_images", columns=["ingest_date"]).to_pylist() == [{"ingest_date": DAY_1}]
    assert lake.tables.read("image_catalog", columns=["ingest_date"]).to_pylist() == [{"ingest_date": DAY_1}]
    assert list_notes(lake) == []


def test_a_run_that_dies_before_the_index_knows_has_noted_the_later_day(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(lake, "later.jpg", make_picture(1), DAY_2)
    take_in(lake, [DAY_2])
    land(lake, "earlier.jpg", make_picture(1), DAY_1)
    with monkeypatch.context() as dying:
        dying.setattr(lake.index, "record_firsts", fail)
        with pytest.raises(FarmyError):
            take_in(lake, [DAY_1])

    assert {note.split("/")[2] for note in list_notes(lake)} == {f"{DAY_1}", f"{DAY_2}"}


def fail(_firsts: object) -> None:
    raise StorageError("The index fails, as the test wants.")


def test_a_copy_within_a_day_is_told_by_the_hour(lake: Lake) -> None:
    land(lake, "b.jpg", make_picture(1), DAY_1, hour=8)
    land(lake, "a.jpg", make_picture(1), DAY_1, hour=9)

    take_in(lake, [DAY_1])

    rows = lake.tables.read("raw_images").to_pylist()
    assert {row["object_key"].rpartition("/")[2]: row["is_first"] for row in rows} == {"a.jpg": False, "b.jpg": True}


def test_a_day_without_arrivals_can_be_run(lake: Lake) -> None:
    outcomes = take_in(lake, [DAY_3])

    assert [outcome.rows for outcome in outcomes] == [0] * len(IMAGE_TABLES)
    assert list_snapshots(lake)["raw_images"] is None


def test_an_object_that_is_gone_before_it_is_read_is_passed_over(lake: Lake) -> None:
    key = land(lake, "gone.jpg", make_picture(1), DAY_1)
    inbox.note_all_arrivals(lake)
    lake.objects.delete([key])

    take_in(lake, [DAY_1])

    assert lake.tables.count_rows("raw_images") == 0
    assert list_notes(lake) == []


def test_a_storage_failure_in_the_middle_leaves_whole_days_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with open_lake(tmp_path / "undisturbed") as undisturbed:
        land_some(undisturbed)
        undisturbed.objects = counted = FailingObjects(undisturbed.objects, NEVER)
        update_all_days(undisturbed)
        expected = hash_tables(undisturbed)
    assert counted.calls > 40, "the storage is asked for every note, object and picture"
    for number in range(2, counted.calls, 4):
        with open_lake(tmp_path / f"{number}") as lake:
            land_some(lake)
            real = lake.objects
            lake.objects = FailingObjects(real, number)
            with pytest.raises(StorageError):
                update_all_days(lake)
            lake.objects = real
            assert_days_are_whole(lake)
            update_all_days(lake)
            assert hash_tables(lake) == expected
            assert list_notes(lake) == []


def assert_days_are_whole(lake: Lake) -> None:
    """Make sure that each day of each table has all its rows or none."""
    for table in IMAGE_TABLES:
        days = lake.tables.read(table, columns=["ingest_date"]).column("ingest_date").to_pylist()
        whole = {"raw_images": (3, 3), "cleansed_images": (3, 2), "near_duplicates": (2, 2), "image_catalog": (3, 2)}
        assert days.count(DAY_1) in {0, whole[table][0]}
        assert days.count(DAY_2) in {0, whole[table][1]}


def materialize_raw_images(lake: Lake, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = build_definitions(lake).resolve_job_def("images_job")
    return job.execute_in_process(
        instance=instance, partition_key=DAY_1.isoformat(), asset_selection=[dg.AssetKey("raw_images")]
    )


def test_what_may_work_later_fails_so_that_it_is_tried_again(lake: Lake, instance: dg.DagsterInstance) -> None:
    land_some(lake)
    inbox.note_all_arrivals(lake)
    lake.objects = FailingObjects(lake.objects, 1)

    with pytest.raises(dg.Failure) as failure:
        materialize_raw_images(lake, instance)

    assert failure.value.allow_retries
    assert "as the test wants" in str(failure.value.description)


def test_what_somebody_must_mend_fails_for_good(lake: Lake, instance: dg.DagsterInstance) -> None:
    lake.objects.create(f"inbox/arrivals/{DAY_1}/nonsense.json", b"nonsense")

    with pytest.raises(dg.Failure) as failure:
        materialize_raw_images(lake, instance)

    assert not failure.value.allow_retries
    assert "inbox/arrivals/" in str(failure.value.description)


@pytest.mark.parametrize("error", [StorageError("disk"), DayChangedError("race"), QueryError("no")])
def test_only_transient_errors_are_tried_again(error: FarmyError) -> None:
    assert build_failure(error).allow_retries != isinstance(error, PermanentError)


def test_a_run_says_what_it_did(lake: Lake, instance: dg.DagsterInstance) -> None:
    land_some(lake)
    take_in(lake, [DAY_1], ["raw_images"])
    job = build_definitions(lake).resolve_job_def("images_job")

    result = job.execute_in_process(
        instance=instance, partition_key=DAY_1.isoformat(), asset_selection=[dg.AssetKey("cleansed_images")]
    )

    materialization = result.asset_materializations_for_node("cleansed_images")[0]
    metadata = {name: value.value for name, value in materialization.metadata.items()}
    assert metadata["dagster/row_count"] == metadata["rows_computed"] == 3
    assert (metadata["clean"], metadata["rejected"]) == (2, 1)
    assert str(metadata["sample"]).count("data:image/jpeg;base64,") == 2
