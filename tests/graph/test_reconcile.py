"""The reconcile job: listings repair whatever events, polls and killed runs lost."""

import dagster as dg

from adapters import inbox
from adapters.lake import Lake
from farmy_assets.definitions import build_definitions
from lakehouse.quality import QualitySettings, SuspectLimits
from tests.graph.lakes import DAY_1, DAY_2, hash_tables, land, list_notes, make_picture, open_lake, take_in


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
    land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "2.jpg", make_picture(2), DAY_1)
    inbox.note_all_arrivals(lake)
    lake.objects.delete(list_notes(lake)[:1])

    reconcile(lake, instance)

    assert len(list_notes(lake)) == 2


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
