"""Arrivals over a real lake: what became of an object is read from the object, whatever was said of it and when."""

import hashlib
import json
import os
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters import inbox
from adapters.lake import Lake
from adapters.objects import FetchedObject, Objects
from farmy_assets import cleansed_images, image_catalog, near_duplicates, raw_images
from farmy_assets.day_runs import update_day
from farmy_assets.reconciliation import reconcile_lake
from farmy_assets.stages import find_work
from lakehouse.arrivals import (
    CONSENT_WITHDRAWN,
    OBJECT_DELETED,
    Hint,
    build_event_hints,
    build_original_key,
    list_looked_up,
)
from lakehouse.errors import AccessRefusedError, FarmyError, StorageError
from lakehouse.landing_events import LandingEvent
from lakehouse.sources import MAX_SIDECAR_BYTES, Source
from tests.graph.lakes import DAY_1, DAY_2, DAY_3, hash_tables, land, list_notes, make_picture, open_lake

STAGES = (raw_images.STAGE, cleansed_images.STAGE, near_duplicates.STAGE, image_catalog.STAGE)
NOW = datetime(2026, 11, 5, 2, 30, tzinfo=UTC)
TOMORROW = NOW + timedelta(days=1)
KNOWN_ERRORS = [StorageError("It fails, as the test wants."), AccessRefusedError("It is refused, as the test wants.")]

Row = dict[str, Any]


class UnreadableObjects(Objects):
    """The real objects, of which some cannot be fetched.

    Args:
        inner: The real objects.
        keys: Those that cannot be fetched.
        error: Why.
    """

    def __init__(self, inner: Objects, keys: Collection[str], error: FarmyError) -> None:
        super().__init__(inner._store, inner.root, inner.folder)
        self._keys = keys
        self._error = error

    def fetch(self, key: str, max_bytes: int) -> FetchedObject:
        if key in self._keys:
            raise self._error
        return super().fetch(key, max_bytes)


class OverwrittenObjects(Objects):
    """The real objects, of which each is written anew as soon as it was fetched for the first time.

    Args:
        inner: The real objects.
        overwrite: Writes the object of a key anew.
    """

    def __init__(self, inner: Objects, overwrite: Callable[[str], object]) -> None:
        super().__init__(inner._store, inner.root, inner.folder)
        self._overwrite = overwrite
        self._overwritten: set[str] = set()

    def fetch(self, key: str, max_bytes: int) -> FetchedObject:
        fetched = super().fetch(key, max_bytes)
        if key not in self._overwritten:
            self._overwritten.add(key)
            self._overwrite(key)
        return fetched


def run(lake: Lake, *days: date) -> None:
    """Bring days up to date, without Dagster."""
    for stage in STAGES:
        for day in days:
            update_day(lake, stage, day, run_id="test")


def run_all_notes(lake: Lake) -> None:
    """Run days until no note waits for any."""
    for _ in range(6):
        days = list(inbox.list_days_with_arrivals(lake))
        if not days:
            return
        run(lake, *days)
    pytest.fail(f"Notes never end: {list_notes(lake)}")


def take_in_all(lake: Lake) -> None:
    inbox.note_all_arrivals(lake)
    run_all_notes(lake)


def reconcile(lake: Lake, now: datetime = NOW) -> None:
    reconcile_lake(lake, now)
    run_all_notes(lake)


def note_event(lake: Lake, key: str, day: date, *, is_removal: bool = False) -> None:
    """Leave the hints that an event of noon of a day gives."""
    at = datetime.combine(day, time(12), UTC)
    events = [(key, LandingEvent("farm", key, is_removal, at, sequencer=f"{len(list_notes(lake)):04X}"))]
    inbox.note_hints(lake, build_event_hints(events, inbox.find_days_of_objects(lake, list_looked_up(events))))


def delete(lake: Lake, key: str, day: date = DAY_3) -> None:
    """Delete an object from landing, of which an event tells."""
    lake.objects.delete([key])
    note_event(lake, key, day, is_removal=True)


def overwrite(lake: Lake, key: str, data: bytes, day: date = DAY_1, hour: int = 10) -> None:
    lake.objects.delete([key])
    assert land(lake, Path(key).name, data, DAY_1, hour) == key
    if day != DAY_1:
        touch(lake, key, day, hour)


def touch(lake: Lake, key: str, day: date, hour: int) -> None:
    """Have an object arrive on another day than its key says."""
    assert lake.objects.folder is not None
    moment = datetime.combine(day, time(hour), UTC).timestamp()
    os.utime(lake.objects.folder / key, (moment, moment))


def read_rows(lake: Lake, table: str = "raw_images") -> list[Row]:
    rows = lake.tables.read(table).to_pylist()
    return sorted(rows, key=lambda row: (row["landed_at"], row.get("object_key") or row["image_id"]))


def list_image_days(lake: Lake, table: str) -> dict[str, date]:
    rows = read_rows(lake, table)
    assert len({row["image_id"] for row in rows}) == len(rows), f"an image has two rows in {table}"
    return {row["image_id"]: row["ingest_date"] for row in rows}


def hash_image(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Sidecars


def test_a_sidecar_that_lands_after_its_image_was_taken_in_changes_its_row_alone(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "2.jpg", make_picture(2), DAY_1)
    take_in_all(lake)
    before = read_rows(lake)

    lake.objects.create(f"{key}.json", b'{"licence": "CC-BY-4.0", "crop": "maize"}')
    note_event(lake, f"{key}.json", DAY_3)
    run_all_notes(lake)

    row, other = read_rows(lake)
    assert (row["licence"], json.loads(row["sidecar_json"])["crop"]) == ("CC-BY-4.0", "maize")
    assert (row["arrival_id"], row["landed_at"]) == (before[0]["arrival_id"], before[0]["landed_at"])
    assert other == before[1]
    assert [row["licence"] for row in read_rows(lake, "image_catalog")] == ["CC-BY-4.0", before[1]["licence"]]
    assert list_notes(lake) == []


def test_a_sidecar_whose_event_was_lost_is_found_by_a_listing(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in_all(lake)
    lake.objects.create(f"{key}.json", b'{"licence": "CC0"}')

    take_in_all(lake)

    assert [row["licence"] for row in read_rows(lake)] == ["CC0"]
    assert inbox.note_all_arrivals(lake) == 0


def test_a_sidecar_that_is_deleted_says_nothing_any_more(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in_all(lake)
    before = hash_tables(lake)
    lake.objects.create(f"{key}.json", b'{"licence": "CC0"}')
    take_in_all(lake)
    assert hash_tables(lake) != before

    delete(lake, f"{key}.json")
    run_all_notes(lake)

    assert hash_tables(lake) == before


@pytest.mark.parametrize(
    ("sidecar", "problem"),
    [(b"\xff\xfe", "not_json"), (b"x" * (MAX_SIDECAR_BYTES + 1), "too_large"), (b"", "not_json")],
)
def test_a_bad_sidecar_is_a_reason_in_the_row_of_its_image(lake: Lake, sidecar: bytes, problem: str) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    lake.objects.create(f"{key}.json", sidecar)

    take_in_all(lake)

    (row,) = read_rows(lake)
    assert row["sidecar_problem"] == problem
    assert [row["status"] for row in read_rows(lake, "cleansed_images")] == ["clean"]


def test_consent_that_is_withdrawn_takes_the_image_back_until_it_is_granted_again(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in_all(lake)
    before = hash_tables(lake, ["cleansed_images", "near_duplicates"])

    lake.objects.create(f"{key}.json", b'{"consent": "withdrawn"}')
    note_event(lake, f"{key}.json", DAY_2)
    run_all_notes(lake)
    assert [row["withdrawal"] for row in read_rows(lake)] == [CONSENT_WITHDRAWN]
    assert [row["withdrawal"] for row in read_rows(lake, "image_catalog")] == [CONSENT_WITHDRAWN]
    assert read_rows(lake, "cleansed_images") == read_rows(lake, "near_duplicates") == []

    lake.objects.delete([f"{key}.json"])
    lake.objects.create(f"{key}.json", b'{"consent": "granted"}')
    note_event(lake, f"{key}.json", DAY_3)
    run_all_notes(lake)
    assert [(row["withdrawal"], row["consent"]) for row in read_rows(lake)] == [(None, "granted")]
    assert hash_tables(lake, before) == before


def test_other_terms_of_a_source_are_work_that_the_next_run_does(tmp_path: Path) -> None:
    with open_lake(tmp_path, sources=(Source("phone"),)) as lake:
        land(lake, "1.jpg", make_picture(1), DAY_1)
        take_in_all(lake)
        assert find_work(lake, [DAY_1], ["raw_images"]) is None
    with open_lake(tmp_path, sources=(Source("phone", "CC0", "granted", 10),)) as changed:
        assert find_work(changed, [DAY_1], ["raw_images"]) == "raw_images"
        run(changed, DAY_1)
        (row,) = read_rows(changed, "image_catalog")
        assert (row["licence"], row["consent"], row["retain_until"]) == ("CC0", "granted", DAY_1 + timedelta(days=10))


# Overwritten objects


def test_an_object_that_is_overwritten_before_it_is_read_makes_one_row_of_what_was_read(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    inbox.note_all_arrivals(lake)
    overwrite(lake, key, make_picture(2), hour=10)

    run_all_notes(lake)

    (row,) = read_rows(lake)
    assert row["image_id"] == hash_image(make_picture(2))
    assert (row["landed_at"].hour, row["size_bytes"]) == (10, len(make_picture(2)))
    assert inbox.note_all_arrivals(lake) == 0


def test_an_object_that_is_overwritten_while_it_is_read_makes_no_row_of_a_mixture(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    inbox.note_all_arrivals(lake)
    real = lake.objects
    lake.objects = OverwrittenObjects(real, lambda key: overwrite(lake, key, make_picture(2)))
    run_all_notes(lake)
    lake.objects = real
    note_event(lake, key, DAY_1)
    run_all_notes(lake)

    rows = read_rows(lake)
    pictures = [make_picture(1), make_picture(2)]
    assert [(row["landed_at"].hour, row["image_id"], row["size_bytes"], row["withdrawal"]) for row in rows] == [
        (hour, hash_image(data), len(data), None) for hour, data in zip((9, 10), pictures, strict=True)
    ]
    assert [lake.objects.read(row["original_key"]) for row in rows] == pictures


def test_an_object_that_is_overwritten_on_another_day_before_it_is_read_is_of_that_day(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    inbox.note_all_arrivals(lake)
    overwrite(lake, key, make_picture(2), DAY_2)

    run_all_notes(lake)

    (row,) = read_rows(lake)
    assert (row["ingest_date"], row["image_id"]) == (DAY_2, hash_image(make_picture(2)))


# Deleted objects


def test_an_object_that_is_deleted_before_it_is_read_makes_no_row(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "2.jpg", make_picture(2), DAY_1)
    inbox.note_all_arrivals(lake)
    delete(lake, key)

    run_all_notes(lake)

    assert [row["object_key"] for row in read_rows(lake)] == [key.replace("1.jpg", "2.jpg")]
    assert list_notes(lake) == []


@pytest.mark.parametrize("is_told", [True, False], ids=["by an event", "by the reconcile"])
def test_an_object_that_is_deleted_after_it_was_taken_in_is_withdrawn_and_its_image_goes(
    lake: Lake, *, is_told: bool
) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "2.jpg", make_picture(2), DAY_1)
    take_in_all(lake)

    lake.objects.delete([key])
    if is_told:
        note_event(lake, key, DAY_3, is_removal=True)
        run_all_notes(lake)
    else:
        reconcile(lake)

    gone, stays = hash_image(make_picture(1)), hash_image(make_picture(2))
    assert {row["image_id"]: row["withdrawal"] for row in read_rows(lake)} == {gone: OBJECT_DELETED, stays: None}
    assert list_image_days(lake, "cleansed_images") == list_image_days(lake, "near_duplicates") == {stays: DAY_1}
    catalog = {row["image_id"]: (row["withdrawal"], row["status"]) for row in read_rows(lake, "image_catalog")}
    assert catalog == {gone: (OBJECT_DELETED, None), stays: (None, "clean")}
    assert list_notes(lake) == []


@pytest.mark.parametrize(("first_day", "copy_day"), [(DAY_1, DAY_2), (DAY_2, DAY_1)])
def test_a_copy_on_another_day_becomes_the_first_of_a_deleted_image_and_is_cleansed(
    lake: Lake, first_day: date, copy_day: date
) -> None:
    picture = hash_image(make_picture(1))
    deleted = land(lake, "deleted.jpg", make_picture(1), first_day)
    land(lake, "copy.jpg", make_picture(1), copy_day)
    take_in_all(lake)

    delete(lake, deleted)
    run_all_notes(lake)

    firsts = {row["ingest_date"]: (row["is_first"], row["withdrawal"]) for row in read_rows(lake)}
    assert firsts == {copy_day: (True, None), first_day: (False, OBJECT_DELETED)}
    for table in ("cleansed_images", "near_duplicates", "image_catalog"):
        assert list_image_days(lake, table) == {picture: copy_day}
    assert [row["withdrawal"] for row in read_rows(lake, "image_catalog")] == [None]


def test_an_image_all_of_whose_objects_are_deleted_at_once_keeps_one_row_that_says_so(lake: Lake) -> None:
    copies = [land(lake, "copy.jpg", make_picture(1), day) for day in (DAY_1, DAY_2, DAY_3)]
    take_in_all(lake)

    for key in copies:
        delete(lake, key)
    run_all_notes(lake)

    assert [row["withdrawal"] for row in read_rows(lake)] == [OBJECT_DELETED] * 3
    assert [row["is_first"] for row in read_rows(lake)].count(True) == 1
    assert [row["withdrawal"] for row in read_rows(lake, "image_catalog")] == [OBJECT_DELETED]
    assert read_rows(lake, "cleansed_images") == []


def test_the_same_bytes_that_land_again_after_a_deletion_make_the_image_alive_again(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in_all(lake)
    cleansed = hash_tables(lake, ["near_duplicates"])
    delete(lake, key)
    run_all_notes(lake)
    assert hash_tables(lake, cleansed) != cleansed

    assert land(lake, "1.jpg", make_picture(1), DAY_1, hour=11) == key
    note_event(lake, key, DAY_1)
    run_all_notes(lake)

    rows = [(row["landed_at"].hour, row["is_first"], row["withdrawal"]) for row in read_rows(lake)]
    assert rows == [(9, False, OBJECT_DELETED), (11, True, None)]
    assert list_image_days(lake, "cleansed_images") == {hash_image(make_picture(1)): DAY_1}


def test_a_deletion_that_did_not_last_is_no_deletion(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in_all(lake)
    before = hash_tables(lake)

    note_event(lake, key, DAY_3, is_removal=True)
    run_all_notes(lake)
    assert hash_tables(lake) == before

    delete(lake, key)
    run_all_notes(lake)
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in_all(lake)
    assert hash_tables(lake) == before


def test_what_is_deleted_stays_where_its_source_keeps_it(tmp_path: Path) -> None:
    with open_lake(tmp_path, sources=(Source("phone", keeps_deleted=True),)) as lake:
        key = land(lake, "1.jpg", make_picture(1), DAY_1)
        take_in_all(lake)
        before = hash_tables(lake)

        delete(lake, key)
        run_all_notes(lake)
        reconcile(lake)

        assert hash_tables(lake) == before


# Days


def test_an_event_that_was_noted_for_another_day_ends_up_on_the_day_of_its_object(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    note_event(lake, key, DAY_2)

    run(lake, DAY_2)
    assert read_rows(lake) == []
    assert list(inbox.list_days_with_arrivals(lake)) == [DAY_1]
    run(lake, DAY_1)

    assert [(row["ingest_date"], row["is_first"]) for row in read_rows(lake)] == [(DAY_1, True)]
    assert list_notes(lake) == []


def test_two_days_in_one_run_take_in_what_each_hints_at(lake: Lake) -> None:
    own = land(lake, "1.jpg", make_picture(1), DAY_1)
    late = land(lake, "2.jpg", make_picture(2), DAY_2)
    inbox.note_hints(lake, {DAY_1: [Hint(own), Hint(late)]})

    run(lake, DAY_1, DAY_2)

    assert {row["object_key"]: row["ingest_date"] for row in read_rows(lake)} == {own: DAY_1, late: DAY_2}
    assert list_notes(lake) == []


def test_notes_in_any_number_take_an_object_in_once(lake: Lake) -> None:
    key = land(lake, "1.jpg", make_picture(1), DAY_1)
    for _ in range(3):
        note_event(lake, key, DAY_1)
    inbox.note_all_arrivals(lake)
    assert len(list_notes(lake)) == 4

    run(lake, DAY_1)

    assert len(read_rows(lake)) == 1
    assert list_notes(lake) == []


# Objects that cannot be read


def land_five(lake: Lake) -> list[str]:
    keys = [land(lake, f"{number}.jpg", make_picture(number), DAY_1) for number in range(5)]
    inbox.note_all_arrivals(lake)
    return keys


def test_an_object_that_cannot_be_read_now_waits_while_the_others_are_taken_in(lake: Lake) -> None:
    keys, real = land_five(lake), lake.objects
    lake.objects = UnreadableObjects(real, {keys[2]}, StorageError("It fails, as the test wants."))

    for _ in range(2):
        run(lake, DAY_1)
        assert [row["object_key"] for row in read_rows(lake)] == [*keys[:2], *keys[3:]]
        assert len(read_rows(lake, "cleansed_images")) == 4
        assert list(inbox.list_days_with_arrivals(lake)) == [DAY_1]
        assert inbox.list_parked(lake) == []

    lake.objects = real
    run(lake, DAY_1)
    assert [row["object_key"] for row in read_rows(lake)] == keys
    assert list_notes(lake) == []


def test_an_object_that_somebody_must_mend_is_parked_with_its_reason_until_the_reconcile(lake: Lake) -> None:
    keys, real = land_five(lake), lake.objects
    refused = UnreadableObjects(real, {keys[2]}, AccessRefusedError("It is refused, as the test wants."))
    lake.objects = refused

    run(lake, DAY_1)
    for now in (NOW, TOMORROW):
        assert len(read_rows(lake, "cleansed_images")) == 4
        (parked,) = inbox.list_parked(lake)
        assert (parked.object_key, parked.day, parked.reason) == (keys[2], DAY_1, "It is refused, as the test wants.")
        assert inbox.list_days_with_arrivals(lake) == {}
        reconcile(lake, now)

    lake.objects = real
    reconcile(lake, TOMORROW)
    assert [row["object_key"] for row in read_rows(lake)] == keys
    assert list_notes(lake) == []


def test_an_object_whose_sidecar_cannot_be_read_waits_and_is_not_taken_in_without_it(lake: Lake) -> None:
    keys, real = land_five(lake), lake.objects
    lake.objects.create(f"{keys[2]}.json", b'{"consent": "withdrawn"}')
    lake.objects = UnreadableObjects(real, {f"{keys[2]}.json"}, StorageError("It fails, as the test wants."))

    run(lake, DAY_1)
    assert [row["object_key"] for row in read_rows(lake)] == [*keys[:2], *keys[3:]]

    lake.objects = real
    run(lake, DAY_1)
    assert [row["withdrawal"] for row in read_rows(lake)] == [None, None, CONSENT_WITHDRAWN, None, None]


def test_an_object_that_was_taken_in_and_cannot_be_read_now_is_not_taken_for_deleted(lake: Lake) -> None:
    keys = land_five(lake)
    run(lake, DAY_1)
    before, real = hash_tables(lake), lake.objects
    for key in keys:
        note_event(lake, key, DAY_1)
    lake.objects = UnreadableObjects(real, {keys[2]}, StorageError("It fails, as the test wants."))

    run(lake, DAY_1)

    assert hash_tables(lake) == before


@pytest.mark.parametrize("error", KNOWN_ERRORS, ids=["for now", "for good"])
def test_where_none_of_several_objects_can_be_read_the_run_fails_and_the_notes_stay(
    lake: Lake, error: FarmyError
) -> None:
    keys, real = land_five(lake), lake.objects
    notes = list_notes(lake)
    lake.objects = UnreadableObjects(real, keys, error)

    with pytest.raises(type(error), match="as the test wants"):
        run(lake, DAY_1)

    assert list_notes(lake) == notes
    assert read_rows(lake) == []
    lake.objects = real
    run(lake, DAY_1)
    assert len(read_rows(lake)) == 5


def test_an_object_that_is_too_large_is_parked_with_its_size_and_what_to_do(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = land(lake, "large.jpg", make_picture(1, (1600, 1200)), DAY_1)
    small = land(lake, "small.jpg", make_picture(2), DAY_1)
    inbox.note_all_arrivals(lake)
    limit = len(make_picture(2))
    with monkeypatch.context() as limited:
        limited.setattr(raw_images, "MAX_OBJECT_BYTES", limit)
        run(lake, DAY_1)

    assert [row["object_key"] for row in read_rows(lake)] == [small]
    (parked,) = inbox.list_parked(lake)
    assert parked.object_key == large
    assert parked.reason.startswith(f"{large} has ")
    assert parked.reason.endswith("Take it out of landing.")

    lake.objects.delete([large])
    reconcile(lake)
    assert list_notes(lake) == []


# Originals


def test_an_original_that_is_gone_from_raw_is_written_again_by_reconcile_and_run(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in_all(lake)
    before = hash_tables(lake)
    original = build_original_key(hash_image(make_picture(1)))
    lake.objects.delete([original])

    reconcile(lake)

    assert lake.objects.read(original) == make_picture(1)
    assert hash_tables(lake) == before
    assert list_notes(lake) == []


# Whatever comes, in the end


def test_a_run_without_notes_changes_nothing_after_the_objects_of_an_image_went_one_after_the_other(lake: Lake) -> None:
    copies = {day: land(lake, "copy.jpg", make_picture(1), day) for day in (DAY_1, DAY_2)}
    take_in_all(lake)
    for day in (DAY_1, DAY_2):
        delete(lake, copies[day])
        run_all_notes(lake)
    before = hash_tables(lake)

    run(lake, DAY_1, DAY_2)

    assert hash_tables(lake) == before
