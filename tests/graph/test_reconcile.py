"""The reconcile job: listings repair whatever events, polls and killed runs lost."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from adapters import inbox
from adapters.lake import Lake
from farmy_assets.definitions import build_definitions
from farmy_assets.reconciliation import reconcile_lake
from lakehouse.arrivals import merge_hints
from lakehouse.quality import QualitySettings, SuspectLimits
from tests.graph.lakes import DAY_1, DAY_2, hash_tables, land, list_notes, make_picture, open_lake, take_in

NOW = datetime(2026, 11, 5, 2, 30, tzinfo=UTC)


def reconcile(lake: Lake, instance: dg.DagsterInstance) -> None:
    assert build_definitions(lake).resolve_job_def("reconcile_job").execute_in_process(instance=instance).success


def test_a_lake_that_is_well_is_left_alone(lake: Lake, instance: dg.DagsterInstance) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1], ["raw_images", "cleansed_images", "near_duplicates", "image_catalog"])
    hashes = hash_tables(lake)

    reconcile(lake, instance)

    assert hash_tables(lake) == hashes
    assert [key for key in list_notes(lake) if "annotations" in key] == []


def test_a_deleted_index_is_rebuilt(lake: Lake, instance: dg.DagsterInstance) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1], ["raw_images"])
    image_id = lake.tables.read("raw_images").column("image_id")[0].as_py()
    known = lake.index.find_firsts([image_id])
    for file in lake.settings.home.glob("image_index.db*"):
        file.unlink()

    with open_lake(lake.settings.home) as reopened:
        assert reopened.index.find_firsts([image_id]) == {}
        reconcile(reopened, instance)
        assert reopened.index.find_firsts([image_id]) == known


def test_an_object_whose_event_was_lost_is_noted_however_old(lake: Lake, instance: dg.DagsterInstance) -> None:
    keys = [land(lake, f"{number}.jpg", make_picture(number), DAY_1) for number in (1, 2)]
    inbox.note_all_arrivals(lake)
    lake.objects.delete(list_notes(lake))

    reconcile(lake, instance)

    assert [hint.object_key for hint in merge_hints(inbox.read_notes(lake, DAY_1))] == keys


def test_a_second_look_on_the_same_day_notes_nothing_more_and_one_on_another_day_has_it_tried_again(
    lake: Lake,
) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    reconcile_lake(lake, NOW)
    notes, waiting = list_notes(lake), inbox.list_days_with_arrivals(lake)

    reconcile_lake(lake, NOW + timedelta(hours=1))
    assert list_notes(lake) == notes

    reconcile_lake(lake, NOW + timedelta(days=1))
    assert inbox.list_days_with_arrivals(lake)[DAY_1] != waiting[DAY_1]


def test_what_is_new_gone_or_lost_is_counted_and_what_a_run_cannot_mend_is_named(lake: Lake) -> None:
    deleted, unkept, lost = (land(lake, f"{number}.jpg", make_picture(number), DAY_1) for number in (1, 2, 3))
    take_in(lake, [DAY_1], ["raw_images"])
    originals = {row["object_key"]: row["original_key"] for row in lake.tables.read("raw_images").to_pylist()}
    lake.objects.delete([deleted, lost, originals[unkept], originals[lost]])
    new = land(lake, "new.jpg", make_picture(4), DAY_2)
    lake.objects.create("landing/phone/alone.jpg.json", b"{}")
    lake.objects.create("raw/00/orphan", b"x")

    found = reconcile_lake(lake, datetime.now(UTC) + timedelta(days=2))

    assert (found.objects_new, found.objects_deleted, found.originals_missing) == (1, 2, 1)
    assert found.originals_lost == (originals[lost],)
    assert found.originals_orphaned == ("raw/00/orphan",)
    assert found.sidecars_orphaned == ("landing/phone/alone.jpg.json",)
    assert found.describe()["sidecars_orphaned"] == "1: landing/phone/alone.jpg.json"
    hinted = {day: {hint.object_key for hint in merge_hints(inbox.read_notes(lake, day))} for day in (DAY_1, DAY_2)}
    assert hinted == {DAY_1: {deleted, unkept, lost}, DAY_2: {new}}


def test_a_stale_day_is_noted_and_its_run_brings_it_up_to_date(lake: Lake, instance: dg.DagsterInstance) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1])
    stricter = QualitySettings(suspect=SuspectLimits(min_brightness=250))

    with open_lake(lake.settings.home, quality=stricter) as changed:
        reconcile(changed, instance)
        assert list(inbox.list_days_with_arrivals(changed)) == [DAY_1]
        take_in(changed, [DAY_1])

        assert changed.tables.read("cleansed_images").column("status").to_pylist() == ["suspect"]


def test_an_image_that_two_days_hold_as_first_is_judged_again(lake: Lake, instance: dg.DagsterInstance) -> None:
    """What a run that is killed between the index and the note leaves behind."""
    broken = make_picture(1)[:900]
    land(lake, "later.jpg", broken, DAY_2)
    take_in(lake, [DAY_2])
    land(lake, "earlier.jpg", broken, DAY_1)
    take_in(lake, [DAY_1])
    lake.objects.delete(list_notes(lake))

    reconcile(lake, instance)

    assert list(inbox.list_days_with_arrivals(lake)) == [DAY_2]
    take_in(lake, [DAY_1, DAY_2])
    firsts = {row["ingest_date"]: row["is_first"] for row in lake.tables.read("raw_images").to_pylist()}
    assert firsts == {DAY_1: True, DAY_2: False}
