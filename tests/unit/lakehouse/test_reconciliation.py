from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.arrivals import (
    CONSENT_WITHDRAWN,
    FACTS,
    OBJECT_DELETED,
    Arrival,
    ObjectFact,
    TakenIn,
    build_arrival,
    build_notes,
    build_original_key,
    update_facts,
)
from lakehouse.reconciliation import COMPARED, ORPHAN_AGE, Differences, compare
from lakehouse.schemas import RAW_IMAGES
from lakehouse.sources import Source

DAY = date(2026, 11, 2)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 9, 2, 30, tzinfo=UTC)
IMAGE = "ab" * 32
ORIGINAL = build_original_key(IMAGE)
LANDED = ObjectFact("landing/phone/2026/11/02/a.jpg", NOON, 9)
KEPT = ObjectFact(ORIGINAL, NOON, 9)


def make_rows(*landed: ObjectFact, withdrawal: str | None = None, image_id: str = IMAGE) -> pa.Table:
    """Return the rows of objects that were taken in, all of one image."""
    facts = update_facts(
        FACTS.empty_table(), [TakenIn(build_arrival(fact, None), image_id, None) for fact in landed], []
    )
    place = facts.schema.get_field_index("withdrawal")
    withdrawals = pa.array([withdrawal] * facts.num_rows, pa.string())
    return facts.set_column(place, RAW_IMAGES.field("withdrawal"), withdrawals).select(COMPARED)


def find_differences(
    landing: list[ObjectFact], raw: list[ObjectFact], rows: pa.Table, *sources: Source
) -> dict[str, Any]:
    """Return the differences that there are, by name; hints as the days and keys that they are about."""
    found = compare(landing, raw, rows, sources, NOW)
    shown: dict[str, Any] = {
        "new": [arrival.object_key for arrival in found.new],
        "deleted": {day: [hint.object_key for hint in own] for day, own in found.deleted.items()},
        "unkept": {day: [hint.object_key for hint in own] for day, own in found.unkept.items()},
        "lost_originals": list(found.lost_originals),
        "orphaned_originals": list(found.orphaned_originals),
        "orphaned_sidecars": list(found.orphaned_sidecars),
    }
    return {name: value for name, value in shown.items() if value}


def test_where_storage_and_tables_agree_there_is_no_difference() -> None:
    assert find_differences([LANDED], [KEPT], make_rows(LANDED)) == {}
    assert find_differences([], [], make_rows()) == {}


def test_an_object_that_no_row_knows_is_new() -> None:
    assert find_differences([LANDED], [], make_rows()) == {"new": [LANDED.key]}


def test_an_object_that_was_overwritten_is_new_and_its_old_row_stays() -> None:
    overwritten = ObjectFact(LANDED.key, NOON + timedelta(hours=1), 9)
    assert find_differences([overwritten], [KEPT], make_rows(LANDED)) == {"new": [LANDED.key]}


def test_an_object_whose_sidecar_came_later_is_new() -> None:
    sidecar = ObjectFact(f"{LANDED.key}.json", NOON + timedelta(days=2), 2)
    assert find_differences([sidecar, LANDED], [KEPT], make_rows(LANDED)) == {"new": [LANDED.key]}


def test_an_object_that_is_gone_from_landing_is_deleted_on_the_day_that_knows_it() -> None:
    assert find_differences([], [KEPT], make_rows(LANDED)) == {"deleted": {DAY: [LANDED.key]}}


def test_a_deletion_that_is_known_is_no_difference() -> None:
    assert find_differences([], [KEPT], make_rows(LANDED, withdrawal=OBJECT_DELETED)) == {}


def test_a_deleted_object_whose_consent_was_withdrawn_before_is_deleted_all_the_same() -> None:
    withdrawn = make_rows(LANDED, withdrawal=CONSENT_WITHDRAWN)
    assert find_differences([], [KEPT], withdrawn) == {"deleted": {DAY: [LANDED.key]}}


def test_an_object_that_is_there_again_though_its_row_says_deleted_is_new() -> None:
    assert find_differences([LANDED], [KEPT], make_rows(LANDED, withdrawal=OBJECT_DELETED)) == {"new": [LANDED.key]}


def test_what_is_gone_from_landing_stays_where_its_source_keeps_what_is_deleted() -> None:
    rows = make_rows(LANDED)
    assert find_differences([], [KEPT], rows, Source("phone", keeps_deleted=True)) == {}
    assert find_differences([], [KEPT], rows, Source("web", keeps_deleted=True), Source("phone")) == {
        "deleted": {DAY: [LANDED.key]}
    }


def test_an_original_that_is_gone_is_read_again_from_landing() -> None:
    assert find_differences([LANDED], [], make_rows(LANDED)) == {"unkept": {DAY: [LANDED.key]}}


def test_an_original_that_is_gone_from_landing_too_is_lost() -> None:
    kept_deleted = Source("phone", keeps_deleted=True)
    assert find_differences([], [], make_rows(LANDED), kept_deleted) == {"lost_originals": [ORIGINAL]}
    copies = make_rows(LANDED, ObjectFact("landing/phone/2026/11/02/b.jpg", NOON, 9))
    assert find_differences([], [], copies, kept_deleted) == {"lost_originals": [ORIGINAL]}


@pytest.mark.parametrize(("age", "is_orphan"), [(ORPHAN_AGE, False), (ORPHAN_AGE + timedelta(seconds=1), True)])
def test_an_original_that_no_row_names_is_an_orphan_once_no_run_can_be_at_it(
    age: timedelta, *, is_orphan: bool
) -> None:
    found = find_differences([], [ObjectFact(ORIGINAL, NOW - age, 9)], make_rows())
    assert found == ({"orphaned_originals": [ORIGINAL]} if is_orphan else {})


def test_a_sidecar_without_its_image_is_an_orphan_and_no_arrival() -> None:
    sidecar = ObjectFact(f"{LANDED.key}.json", NOON, 2)
    assert find_differences([sidecar], [], make_rows()) == {"orphaned_sidecars": [sidecar.key]}


def test_hints_are_at_all_that_a_run_can_mend_by_day_and_new_ones_on_another_occasion() -> None:
    next_day = ObjectFact("landing/phone/2026/11/03/b.jpg", NOON + timedelta(days=1), 3)
    gone = ObjectFact("landing/phone/2026/11/02/gone.jpg", NOON, 5)
    found = compare([LANDED, next_day], [], make_rows(LANDED, gone), [], NOW)
    assert found.new == (Arrival(next_day.key, next_day.modified_at, 3),)
    today, tomorrow = found.build_hints("reconcile of today"), found.build_hints("reconcile of tomorrow")
    assert {day: {(hint.object_key, hint.size_bytes) for hint in own} for day, own in today.items()} == {
        DAY: {(LANDED.key, 9), (gone.key, 5)},
        DAY + timedelta(days=1): {(next_day.key, 3)},
    }
    assert build_notes(today) == build_notes(found.build_hints("reconcile of today"))
    assert {hint.occasion for hint in today[DAY + timedelta(days=1)]}.isdisjoint(
        hint.occasion for hint in tomorrow[DAY + timedelta(days=1)]
    )


object_facts = st.builds(
    ObjectFact,
    st.sampled_from(["a", "b", "c", "a.json", "d.json"]).map("landing/phone/{}".format),
    st.integers(0, 2).map(lambda hours: NOON + timedelta(hours=hours)),
    st.just(9),
)


@given(
    landing=st.lists(object_facts, unique_by=lambda fact: fact.key),
    before=st.lists(object_facts, unique_by=lambda fact: fact.key),
    withdrawal=st.sampled_from([None, OBJECT_DELETED]),
    is_kept=st.booleans(),
)
def test_after_a_run_over_all_hints_a_second_look_finds_nothing_that_a_run_can_mend(
    landing: list[ObjectFact], before: list[ObjectFact], withdrawal: str | None, *, is_kept: bool
) -> None:
    images = [fact for fact in before if not fact.key.endswith(".json")]
    rows = make_rows(*images, withdrawal=withdrawal)
    found = compare(landing, [KEPT] if is_kept else [], rows, [], NOW)
    hinted = {hint.object_key for own in found.build_hints("now").values() for hint in own}
    after = compare(landing, [KEPT], run_over(hinted, landing, rows), [], NOW)
    assert not after.build_hints("now")
    assert after == Differences((), {}, {}, (), after.orphaned_originals, found.orphaned_sidecars)


def run_over(hinted: set[str], landing: list[ObjectFact], rows: pa.Table) -> pa.Table:
    """Do to the rows of one day what a run does that looks at the hinted objects."""
    there = {fact.key: fact for fact in landing}
    looked_at = sorted(hinted & there.keys())
    found = [
        TakenIn(build_arrival(there[key], there.get(f"{key}.json")), IMAGE, "{}" if f"{key}.json" in there else None)
        for key in looked_at
    ]
    facts = pa.Table.from_pylist(
        [dict.fromkeys(FACTS.names, "") | {"landed_at": NOON} | row for row in rows.to_pylist()], schema=FACTS
    )
    return update_facts(facts, found, hinted - there.keys()).select(COMPARED)
