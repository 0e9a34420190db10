import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.arrivals import (
    BEGINNING,
    CONSENT_WITHDRAWN,
    FACTS,
    OBJECT_DELETED,
    PARKED_NOTES,
    Arrival,
    FirstArrival,
    Hint,
    Note,
    ObjectFact,
    ParkedObject,
    TakenIn,
    apply_terms,
    build_arrival,
    build_arrival_hint,
    build_event_hints,
    build_notes,
    build_notes_prefix,
    build_original_key,
    decode_note,
    judge_firsts,
    list_first_candidates,
    list_looked_up,
    list_orphaned_sidecars,
    list_watched_prefixes,
    list_withdrawn_images,
    merge_hints,
    select_arrivals,
    select_new_arrivals,
    update_facts,
)
from lakehouse.errors import SchemaMismatchError
from lakehouse.fingerprints import with_fingerprints
from lakehouse.landing_events import LandingEvent
from lakehouse.schemas import RAW_IMAGES
from lakehouse.sources import Source, is_sidecar

DAY = date(2026, 11, 2)
NEXT_DAY = date(2026, 11, 3)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
KEY = "landing/phone/2026/11/02/a.jpg"

times = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.sampled_from(["a", "b", "a.json", "b.json", "a.json.json", "c.json"])
keys = st.builds("landing/phone/{}".format, names)
object_facts = st.builds(ObjectFact, keys, times, st.integers(0, 9))
hints = st.builds(Hint, texts, st.integers(0, 2**40), texts)
days = st.sampled_from([DAY, NEXT_DAY])
events = st.builds(
    LandingEvent,
    bucket=st.just("farm"),
    key=st.just("unused"),
    is_removal=st.booleans(),
    occurred_at=times,
    size_bytes=st.none() | st.integers(0, 2**40),
    sequencer=st.none() | st.sampled_from(["0A", "0B"]),
    etag=st.none() | texts,
)


def make_arrival(name: str = "a.jpg", at: datetime = NOON, sidecar_id: str | None = None) -> Arrival:
    return Arrival(f"landing/phone/2026/11/02/{name}", at, 1, sidecar_id)


def take_in(*found: tuple[Arrival, str], sidecar_json: str | None = None) -> list[TakenIn]:
    return [TakenIn(arrival, image_id, sidecar_json) for arrival, image_id in found]


def make_facts(
    *found: tuple[Arrival, str], withdrawn: tuple[str, ...] = (), sidecar_json: str | None = None
) -> pa.Table:
    """Return the facts of arrivals, those of the named keys as deleted."""
    standing = update_facts(FACTS.empty_table(), take_in(*found, sidecar_json=sidecar_json), [])
    return update_facts(standing, [], [f"landing/phone/2026/11/02/{name}" for name in withdrawn])


def list_withdrawals(facts: pa.Table) -> dict[str, str | None]:
    return dict(zip(facts.column("arrival_id").to_pylist(), facts.column("withdrawal").to_pylist(), strict=True))


def list_judged(rows: pa.Table) -> dict[str, tuple[bool, str]]:
    return {
        row["object_key"].rpartition("/")[2]: (row["is_first"], row["first_arrival_id"]) for row in rows.to_pylist()
    }


def make_event(*, is_removal: bool = False, at: datetime = NOON, sequencer: str | None = "0A") -> LandingEvent:
    return LandingEvent("farm", "unused", is_removal, at, None if is_removal else 7, sequencer=sequencer)


# Hints and notes


@given(st.lists(st.tuples(days, hints), max_size=12), st.data())
def test_hints_in_any_order_and_however_often_make_the_same_notes(
    given_hints: list[tuple[date, Hint]], data: st.DataObject
) -> None:
    doubled = given_hints + (data.draw(st.lists(st.sampled_from(given_hints))) if given_hints else [])
    assert build_notes(group(data.draw(st.permutations(doubled)))) == build_notes(group(given_hints))


def group(given_hints: list[tuple[date, Hint]]) -> dict[date, list[Hint]]:
    by_day: dict[date, list[Hint]] = {}
    for day, hint in given_hints:
        by_day.setdefault(day, []).append(hint)
    return by_day


@given(st.dictionaries(days, st.lists(hints, max_size=5)))
def test_notes_that_are_written_and_read_hold_every_hint_of_their_day(by_day: dict[date, list[Hint]]) -> None:
    notes = [decode_note(note.key, note.encode()) for note in build_notes(by_day)]
    assert notes == build_notes(by_day)
    for day, own in by_day.items():
        held = {hint for note in notes if note.key.startswith(build_notes_prefix(day)) for hint in note.hints}
        assert held == set(own)


@given(hints, hints)
def test_other_hints_make_other_notes_and_those_of_another_day_too(one: Hint, other: Hint) -> None:
    (note,) = build_notes({DAY: [one]})
    (of_other,) = build_notes({DAY: [other]})
    (of_other_day,) = build_notes({NEXT_DAY: [one]})
    assert (note.key == of_other.key) == (one == other)
    assert note.key != of_other_day.key
    assert note.key.startswith("inbox/arrivals/2026-11-02/")


def test_many_hints_are_split_into_notes_of_a_thousand() -> None:
    many = [Hint(f"landing/phone/{number:04}") for number in range(2_001)]
    notes = build_notes({DAY: reversed(many)})
    assert [len(note.hints) for note in notes] == [1_000, 1_000, 1]
    assert len({note.key for note in notes}) == 3
    assert merge_hints(notes) == many


def test_a_day_without_hints_has_no_note() -> None:
    assert build_notes({DAY: []}) == []
    assert merge_hints([]) == []


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff\xfe",
        b"not JSON",
        b"{}x",
        b"null",
        b"5",
        b'"text"',
        b'{"object_key": "a"}',
        b"[5]",
        b"[null]",
        b"[{}]",
        json.dumps([{"object_key": "a", "size_bytes": 1}]).encode(),
        json.dumps([{"object_key": "a", "size_bytes": "big", "occasion": ""}]).encode(),
        json.dumps([{"object_key": "a", "size_bytes": None, "occasion": ""}]).encode(),
    ],
)
def test_what_is_no_note_is_refused_with_its_key_and_the_remedy(note: bytes) -> None:
    with pytest.raises(SchemaMismatchError, match=r"inbox/x is not one that Farmy wrote: .*Delete it"):
        decode_note("inbox/x", note)


@given(st.lists(st.lists(st.builds(Hint, st.sampled_from("abc"), st.integers(0, 9), st.sampled_from("xy")))))
def test_merged_hints_are_one_per_object_by_key_each_of_the_largest_size(given_hints: list[list[Hint]]) -> None:
    merged = merge_hints(Note(f"inbox/{number}", tuple(own)) for number, own in enumerate(given_hints))
    sizes = [(hint.object_key, hint.size_bytes) for hint in merged]
    all_hints = [hint for own in given_hints for hint in own]
    assert sizes == sorted(
        (key, max(hint.size_bytes for hint in all_hints if hint.object_key == key))
        for key in {hint.object_key for hint in all_hints}
    )
    assert set(merged) <= set(all_hints)


def test_the_same_arrival_makes_the_same_hint_until_its_bytes_its_sidecar_or_the_occasion_are_others() -> None:
    arrival = make_arrival()
    others = [
        build_arrival_hint(replace(arrival, sidecar_id="s")),
        build_arrival_hint(make_arrival(at=NOON + timedelta(seconds=1))),
        build_arrival_hint(arrival, "reconcile of 2026-11-02"),
        build_arrival_hint(arrival, "reconcile of 2026-11-03"),
    ]
    assert build_arrival_hint(arrival) == build_arrival_hint(make_arrival())
    assert len({build_arrival_hint(arrival), *others}) == 5
    assert {(hint.object_key, hint.size_bytes) for hint in others} == {(KEY, 1)}


@given(st.builds(ParkedObject, texts, st.dates(), texts))
def test_a_parked_object_that_is_written_and_read_is_the_same(parked: ParkedObject) -> None:
    assert ParkedObject.decode(parked.encode()) == parked
    assert parked.note_key.startswith(f"{PARKED_NOTES}{parked.day}/")
    assert replace(parked, reason="another").note_key == parked.note_key


@pytest.mark.parametrize(
    "note", [b"", b"\xff", b"[]", b"null", b"{}", b'{"object_key": "a", "day": "soon", "reason": ""}']
)
def test_what_is_no_note_of_a_parked_object_is_refused_with_the_remedy(note: bytes) -> None:
    with pytest.raises(SchemaMismatchError, match=r"inbox/parked/ is not one that Farmy wrote: .*Delete it"):
        ParkedObject.decode(note)


# What a listing shows


def test_a_json_beside_an_object_is_its_sidecar_and_no_arrival() -> None:
    image, sidecar = ObjectFact(KEY, NOON, 9), ObjectFact(f"{KEY}.json", NOON + timedelta(days=1), 5)
    (arrival,) = select_arrivals([sidecar, image])
    assert (arrival.object_key, arrival.landed_at, arrival.size_bytes) == (KEY, NOON, 9)
    assert arrival.sidecar_id is not None
    assert arrival.arrival_id == build_arrival(image, None).arrival_id


def test_another_version_of_a_sidecar_has_another_id() -> None:
    image, sidecar = ObjectFact(KEY, NOON, 9), ObjectFact(f"{KEY}.json", NOON, 5)
    versions = [sidecar, replace(sidecar, size_bytes=6), replace(sidecar, modified_at=NOON + timedelta(seconds=1))]
    ids = [build_arrival(image, version).sidecar_id for version in versions]
    assert len(set(ids)) == 3
    assert build_arrival(image, sidecar) == build_arrival(image, replace(sidecar))


@given(st.lists(object_facts))
def test_a_listing_in_any_order_selects_each_object_but_sidecars_once_by_key(listed: list[ObjectFact]) -> None:
    last = {fact.key: fact for fact in listed}
    selected = select_arrivals(listed)
    assert selected == select_arrivals(reversed(last.values()))
    assert [arrival.object_key for arrival in selected] == sorted(key for key in last if not key.endswith(".json"))
    for arrival in selected:
        assert (arrival.sidecar_id is None) == (f"{arrival.object_key}.json" not in last)


@given(st.lists(object_facts))
def test_every_sidecar_has_its_image_or_is_reported_as_an_orphan(listed: list[ObjectFact]) -> None:
    keys_listed = {fact.key for fact in listed}
    orphans = list_orphaned_sidecars(listed)
    assert orphans == sorted(orphans)
    assert set(orphans) == {
        key for key in keys_listed if key.endswith(".json") and key.removesuffix(".json") not in keys_listed
    }


def test_an_object_older_than_every_partition_counts_as_arrived_on_the_first_day() -> None:
    (arrival,) = select_arrivals([ObjectFact("landing/a", datetime(1980, 1, 1, tzinfo=UTC), 1)])
    assert arrival.landed_at == BEGINNING
    assert arrival.ingest_date == BEGINNING.date()


def test_the_day_and_identity_of_an_arrival_are_those_in_utc() -> None:
    sydney = NOON.replace(hour=23).astimezone(timezone(timedelta(hours=11)))
    assert sydney.date() == NEXT_DAY
    assert make_arrival("a", sydney).ingest_date == DAY
    assert make_arrival("a", sydney).arrival_id == make_arrival("a", sydney.astimezone(UTC)).arrival_id


def test_one_object_at_one_time_is_one_arrival_and_an_overwritten_object_another() -> None:
    arrival = make_arrival()
    others = [make_arrival("b.jpg"), make_arrival(at=NOON + timedelta(seconds=1)), replace(arrival, size_bytes=2)]
    assert arrival.arrival_id == make_arrival().arrival_id
    assert len({other.arrival_id for other in [arrival, *others]}) == 4


@pytest.mark.parametrize(("key", "source"), [("landing/phone/2026/11/02/a", "phone"), ("landing/a.jpg", "a.jpg")])
def test_the_source_is_the_first_folder_below_landing(key: str, source: str) -> None:
    assert Arrival(key, NOON, 1).source == source


def test_the_watched_days_are_today_those_before_and_tomorrow_for_producers_whose_clock_is_ahead() -> None:
    prefixes = list_watched_prefixes(["landing/phone/", "landing/web/"], date(2026, 1, 1), 2)
    assert prefixes == [
        *("landing/phone/2026/01/02/", "landing/phone/2026/01/01/", "landing/phone/2025/12/31/"),
        *("landing/web/2026/01/02/", "landing/web/2026/01/01/", "landing/web/2025/12/31/"),
    ]


def test_no_arrival_is_new_that_a_row_knows_as_it_is() -> None:
    landed = [make_arrival("a"), make_arrival("b", sidecar_id="s")]
    known = make_facts(*((arrival, "image") for arrival in landed))
    assert select_new_arrivals(landed, known) == []
    assert select_new_arrivals([], known) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda arrival: replace(arrival, sidecar_id="s"),
        lambda arrival: replace(arrival, landed_at=NOON + timedelta(seconds=1)),
        lambda arrival: replace(arrival, size_bytes=2),
        lambda arrival: replace(arrival, object_key=f"{KEY}2"),
    ],
    ids=["another sidecar", "written again", "another size", "another key"],
)
def test_an_arrival_is_new_that_a_row_knows_otherwise(change: Callable[[Arrival], Arrival]) -> None:
    known = make_facts((make_arrival(), "image"))
    assert select_new_arrivals([change(make_arrival())], known) == [change(make_arrival())]


def test_an_arrival_is_new_whose_sidecar_is_gone() -> None:
    assert select_new_arrivals([make_arrival()], make_facts((make_arrival(sidecar_id="s"), "image"))) == [
        make_arrival()
    ]


def test_an_arrival_is_new_whose_row_says_that_it_was_deleted_but_not_one_whose_consent_was_withdrawn() -> None:
    deleted = make_facts((make_arrival(), "image"), withdrawn=("a.jpg",))
    assert select_new_arrivals([make_arrival()], deleted) == [make_arrival()]
    withdrawn = apply_terms(make_facts((make_arrival(), "image")), [Source("phone", consent="withdrawn")])
    assert select_new_arrivals([make_arrival()], withdrawn) == []


# What events hint at


@given(st.lists(st.tuples(keys, events), max_size=8), st.dictionaries(keys, st.sets(days)), st.data())
def test_events_that_come_twice_and_in_any_order_give_the_same_notes(
    told: list[tuple[str, LandingEvent]], held: dict[str, set[date]], data: st.DataObject
) -> None:
    again = data.draw(st.permutations([*told, *told]))
    assert build_notes(build_event_hints(again, held)) == build_notes(build_event_hints(told, held))


@given(st.lists(st.tuples(keys, events), max_size=8))
def test_every_event_gives_a_hint_at_its_image_on_the_day_of_the_event(told: list[tuple[str, LandingEvent]]) -> None:
    found = {(day, hint.object_key) for day, own in build_event_hints(told, {}).items() for hint in own}
    assert found == {
        (max(event.occurred_at, BEGINNING).date(), image)
        for key, event in told
        if not (image := re.sub(r"(\.json)+$", "", key)).endswith("/")
    }


def test_a_written_image_is_of_the_day_of_its_event_and_about_as_large_as_it_says() -> None:
    sydney = NOON.replace(hour=23).astimezone(timezone(timedelta(hours=11)))
    ((day, (hint,)),) = build_event_hints([(KEY, make_event(at=sydney))], {KEY: [NEXT_DAY]}).items()
    assert (day, hint.object_key, hint.size_bytes) == (DAY, KEY, 7)


@pytest.mark.parametrize(
    ("key", "event"),
    [
        (KEY, make_event(is_removal=True)),
        (f"{KEY}.json", make_event()),
        (f"{KEY}.json", make_event(is_removal=True)),
    ],
    ids=["image removed", "sidecar written", "sidecar removed"],
)
def test_what_is_about_an_earlier_image_is_of_every_day_that_holds_it(key: str, event: LandingEvent) -> None:
    earlier = DAY - timedelta(days=30)
    assert list_looked_up([(key, event)]) == [KEY]
    found = build_event_hints([(key, event)], {KEY: [earlier, NEXT_DAY]})
    assert {day: [hint.object_key for hint in own] for day, own in found.items()} == {
        day: [KEY] for day in (earlier, DAY, NEXT_DAY)
    }
    assert {hint.size_bytes for own in found.values() for hint in own} == {0}


def test_the_tables_are_not_asked_about_images_that_were_written() -> None:
    assert list_looked_up([(KEY, make_event())]) == []


def test_an_event_of_the_last_century_is_of_the_first_day() -> None:
    assert list(build_event_hints([(KEY, make_event(at=datetime(1980, 1, 1, tzinfo=UTC)))], {})) == [BEGINNING.date()]


@pytest.mark.parametrize("sequencer", ["0A", None])
def test_the_same_event_gives_the_same_hint_and_later_ones_of_image_and_sidecar_others(sequencer: str | None) -> None:
    event = make_event(sequencer=sequencer)
    later = make_event(at=NOON + timedelta(seconds=1), sequencer=sequencer and "0B")
    told = [(KEY, event), (KEY, later), (f"{KEY}.json", event), (f"{KEY}.json", later)]
    occasions = [hint.occasion for hint in build_event_hints(told, {})[DAY]]
    assert len(set(occasions)) == 4
    assert [hint.occasion for hint in build_event_hints(told, {})[DAY]] == occasions


def test_no_hint_is_at_the_sidecar_of_an_image() -> None:
    told = [(KEY, make_event()), (f"{KEY}.json", make_event()), (f"{KEY}.json", make_event(is_removal=True))]
    assert not any(is_sidecar(hint.object_key) for own in build_event_hints(told, {}).values() for hint in own)


# A day's facts


def test_facts_say_what_the_arrival_said_and_keep_the_sidecar_as_it_was_written() -> None:
    arrival = make_arrival(sidecar_id="version")
    facts = make_facts((arrival, "ab" * 32), sidecar_json='{"crop": "Äpfel"}')
    (row,) = facts.to_pylist()
    assert facts.schema == FACTS
    assert row == {
        "arrival_id": arrival.arrival_id,
        "image_id": "ab" * 32,
        "ingest_date": DAY,
        "object_key": KEY,
        "source": "phone",
        "landed_at": NOON,
        "size_bytes": 1,
        "original_key": f"raw/ab/{'ab' * 32}",
        "sidecar_id": "version",
        "sidecar_json": '{"crop": "Äpfel"}',
        "withdrawal": None,
    }
    assert build_original_key("ab" * 32) == row["original_key"]


def test_no_arrivals_are_no_facts_in_the_same_columns() -> None:
    facts = update_facts(FACTS.empty_table(), [], ["landing/never/seen"])
    assert facts.num_rows == 0
    assert facts.schema == FACTS


def test_an_object_that_is_gone_leaves_its_rows_as_withdrawn_and_the_others_as_they_are() -> None:
    gone, overwritten, other = make_arrival(), make_arrival(at=NOON + timedelta(hours=1)), make_arrival("b.jpg")
    standing = make_facts((gone, "one"), (overwritten, "two"), (other, "three"))
    facts = update_facts(standing, [], [KEY])
    assert list_withdrawals(facts) == {
        gone.arrival_id: OBJECT_DELETED,
        overwritten.arrival_id: OBJECT_DELETED,
        other.arrival_id: None,
    }
    assert facts.drop_columns("withdrawal") == standing.drop_columns("withdrawal")


def test_an_object_that_is_there_after_all_is_alive_again() -> None:
    deleted = make_facts((make_arrival(), "image"), withdrawn=("a.jpg",))
    facts = update_facts(deleted, take_in((make_arrival(), "image")), [])
    assert list_withdrawals(facts) == {make_arrival().arrival_id: None}


def test_other_versions_of_an_object_stay_as_they_were_when_a_new_one_lands() -> None:
    old, new = make_arrival(), make_arrival(at=NOON + timedelta(hours=1))
    alive = update_facts(make_facts((old, "old")), take_in((new, "new")), [])
    assert list_withdrawals(alive) == {old.arrival_id: None, new.arrival_id: None}
    deleted = update_facts(make_facts((old, "old"), withdrawn=("a.jpg",)), take_in((new, "new")), [])
    assert list_withdrawals(deleted) == {old.arrival_id: OBJECT_DELETED, new.arrival_id: None}


def test_a_replaced_sidecar_replaces_what_is_known_of_its_arrival_alone() -> None:
    before = make_facts((make_arrival(sidecar_id="1"), "image"), (make_arrival("b.jpg"), "other"), sidecar_json="{}")
    found = take_in((make_arrival(sidecar_id="2"), "image"), sidecar_json='{"licence": "CC0"}')
    rows = {row["object_key"][-5:]: row for row in update_facts(before, found, []).to_pylist()}
    assert (rows["a.jpg"]["sidecar_id"], rows["a.jpg"]["sidecar_json"]) == ("2", '{"licence": "CC0"}')
    assert rows["b.jpg"]["sidecar_json"] == "{}"
    assert len(rows) == 2


looks = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 2)), max_size=8)


@given(looks)
def test_after_any_looks_each_version_seen_has_one_row_that_is_alive_if_it_was_there_last(
    seen: list[tuple[str, int | None]],
) -> None:
    facts, expected = FACTS.empty_table(), dict[str, str | None]()
    held: dict[str, set[str]] = {}
    for name, hour in seen:
        if hour is None:
            facts = update_facts(facts, [], [make_arrival(name).object_key])
            expected |= dict.fromkeys(held.get(name, ()), OBJECT_DELETED)
            continue
        arrival = make_arrival(name, NOON + timedelta(hours=hour))
        facts = update_facts(facts, take_in((arrival, f"{name}{hour}")), [])
        held.setdefault(name, set()).add(arrival.arrival_id)
        expected[arrival.arrival_id] = None
    assert facts.schema == FACTS
    assert facts.num_rows == len(expected)
    assert list_withdrawals(facts) == expected


# Terms


def find_terms_of_one(sidecar_json: str | None = None, *, deleted: bool = False, **source: Any) -> dict[str, Any]:
    """Return what the row of the one arrival says of its terms."""
    arrival = make_arrival(sidecar_id=None if sidecar_json is None else "s")
    facts = make_facts((arrival, "image"), withdrawn=("a.jpg",) if deleted else (), sidecar_json=sidecar_json)
    (row,) = apply_terms(facts, [Source("other", licence="wrong"), Source("phone", **source)]).to_pylist()
    return {name: row[name] for name in ("licence", "consent", "retain_until", "sidecar_problem", "withdrawal")}


def test_an_image_without_sidecar_is_here_on_the_terms_of_its_source() -> None:
    assert find_terms_of_one(licence="CC0", consent="granted", retention_days=30) == {
        "licence": "CC0",
        "consent": "granted",
        "retain_until": DAY + timedelta(days=30),
        "sidecar_problem": None,
        "withdrawal": None,
    }


def test_an_image_of_nobody_known_is_here_on_unknown_terms() -> None:
    (row,) = apply_terms(make_facts((make_arrival(), "image")), []).to_pylist()
    assert (row["licence"], row["consent"], row["retain_until"]) == ("unknown", "unknown", None)


def test_what_a_sidecar_says_goes_before_what_its_source_says() -> None:
    sidecar = json.dumps({"licence": "CC-BY-4.0", "retain_until": "2027-01-31", "crop": "maize"})
    terms = find_terms_of_one(sidecar, licence="CC0", consent="granted", retention_days=30)
    assert (terms["licence"], terms["consent"], terms["retain_until"]) == ("CC-BY-4.0", "granted", date(2027, 1, 31))
    assert terms["sidecar_problem"] is None


def test_a_sidecar_that_cannot_be_used_is_a_reason_and_the_terms_of_the_source_hold() -> None:
    terms = find_terms_of_one('{"licence": "CC-BY-4.0", "consent": "perhaps"}', licence="CC0", consent="granted")
    assert (terms["licence"], terms["consent"]) == ("CC0", "granted")
    assert terms["sidecar_problem"] == "bad_consent"


def test_a_sidecar_that_was_too_large_to_be_read_is_a_reason() -> None:
    facts = make_facts((make_arrival(sidecar_id="s"), "image"))
    (row,) = apply_terms(facts, []).to_pylist()
    assert row["sidecar_problem"] == "too_large"


@pytest.mark.parametrize("in_sidecar", [True, False])
def test_consent_that_is_withdrawn_takes_the_image_back_until_it_is_granted_again(*, in_sidecar: bool) -> None:
    def find_withdrawal(facts: pa.Table, consent: str) -> pa.Table:
        sidecar = json.dumps({"consent": consent})
        found = take_in((make_arrival(sidecar_id=consent), "image"), sidecar_json=sidecar)
        source: Any = Source("phone") if in_sidecar else Source("phone", consent=consent)  # type: ignore[arg-type]
        return apply_terms(update_facts(facts, found if in_sidecar else [], []), [source])

    standing = make_facts((make_arrival(), "image"))
    withdrawn = find_withdrawal(standing, "withdrawn")
    assert withdrawn.column("withdrawal").to_pylist() == [CONSENT_WITHDRAWN]
    granted = find_withdrawal(withdrawn.select(FACTS.names), "granted")
    assert granted.column("withdrawal").to_pylist() == [None]


def test_a_deleted_object_takes_its_image_back_unless_its_source_keeps_what_is_deleted() -> None:
    assert find_terms_of_one(deleted=True)["withdrawal"] == OBJECT_DELETED
    assert find_terms_of_one(deleted=True, keeps_deleted=True)["withdrawal"] is None


def test_consent_that_is_withdrawn_takes_back_what_its_source_would_keep() -> None:
    kept = {"keeps_deleted": True, "deleted": True}
    assert find_terms_of_one('{"consent": "withdrawn"}', **kept)["withdrawal"] == CONSENT_WITHDRAWN
    assert find_terms_of_one(consent="withdrawn", deleted=True)["withdrawal"] == OBJECT_DELETED


@given(st.text(max_size=30))
def test_any_text_in_a_sidecar_makes_a_row_that_fits_its_table(text: str) -> None:
    found = TakenIn(make_arrival(sidecar_id="s"), "image", text.encode(errors="replace").decode())
    rows = apply_terms(update_facts(FACTS.empty_table(), [found], []), [Source("phone")])
    assert rows.num_rows == 1
    assert all(rows.schema.field(name).type == RAW_IMAGES.field(name).type for name in rows.column_names)


@pytest.mark.parametrize(
    "changed",
    [
        Source("phone", licence="CC0"),
        Source("phone", consent="granted"),
        Source("phone", retention_days=9),
        Source("phone", consent="withdrawn"),
    ],
)
def test_other_terms_of_a_source_make_its_rows_stale_and_no_others(changed: Source) -> None:
    other = Arrival("landing/web/2026/11/02/b.jpg", NOON, 1)
    facts = make_facts((make_arrival(), "one"), (other, "two"))

    def list_fingerprints(*sources: Source) -> list[str]:
        rows = apply_terms(facts, sources)
        return [*with_fingerprints(rows, rows.column_names, "1").column("fingerprint").to_pylist()]

    before, after = list_fingerprints(Source("phone"), Source("web")), list_fingerprints(changed, Source("web"))
    assert before[0] != after[0]
    assert before[1] == after[1]


# Firsts and copies


def test_of_two_arrivals_on_a_day_the_earlier_is_first_and_the_other_its_copy() -> None:
    early, late, other = make_arrival("z"), make_arrival("a", NOON + timedelta(microseconds=1)), make_arrival("b")
    judged = judge_firsts(make_facts((late, "image"), (early, "image"), (other, "another")), {})
    assert list_judged(judged) == {
        "z": (True, early.arrival_id),
        "a": (False, early.arrival_id),
        "b": (True, other.arrival_id),
    }


def test_of_two_that_arrived_at_once_the_smaller_key_is_first() -> None:
    judged = judge_firsts(make_facts((make_arrival("b"), "image"), (make_arrival("a"), "image")), {})
    assert list_judged(judged)["a"][0]
    assert not list_judged(judged)["b"][0]


def test_an_arrival_of_an_image_that_is_known_from_an_earlier_day_is_a_copy_of_that_one() -> None:
    (known,) = list_first_candidates(make_facts((make_arrival("first", NOON - timedelta(days=3)), "image")))
    (row,) = judge_firsts(make_facts((make_arrival("copy"), "image")), {"image": known}).to_pylist()
    assert not row["is_first"]
    assert row["first_arrival_id"] == known.arrival_id
    assert row["first_ingest_date"] == date(2026, 10, 30)


def test_a_late_note_for_an_earlier_day_is_first_although_a_later_day_is_known() -> None:
    (known,) = list_first_candidates(make_facts((make_arrival("later", NOON + timedelta(days=1)), "image")))
    (row,) = judge_firsts(make_facts((make_arrival("late note"), "image")), {"image": known}).to_pylist()
    assert row["is_first"]


def test_a_living_copy_of_the_same_day_is_first_before_a_withdrawn_one() -> None:
    early, late = make_arrival("early"), make_arrival("late", NOON + timedelta(hours=1))
    judged = judge_firsts(make_facts((early, "image"), (late, "image"), withdrawn=("early",)), {})
    assert list_judged(judged) == {"early": (False, late.arrival_id), "late": (True, late.arrival_id)}


@pytest.mark.parametrize("days_later", [-1, 1])
def test_a_living_copy_is_first_whether_the_withdrawn_one_is_of_an_earlier_or_a_later_day(days_later: int) -> None:
    elsewhere = make_facts((make_arrival("x", NOON + timedelta(days=days_later)), "image"), withdrawn=("x",))
    (withdrawn,) = list_first_candidates(elsewhere)
    (row,) = judge_firsts(make_facts((make_arrival("copy"), "image")), {"image": withdrawn}).to_pylist()
    assert row["is_first"]
    (living,) = list_first_candidates(make_facts((make_arrival("copy"), "image")))
    (row,) = judge_firsts(elsewhere, {"image": living}).to_pylist()
    assert (row["is_first"], row["first_arrival_id"], row["first_ingest_date"]) == (False, living.arrival_id, DAY)


landed_anywhere = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 2), st.sampled_from(["x", "y"])),
    unique_by=lambda landed: landed[:3],
    max_size=8,
)


@given(landed_anywhere, st.sets(st.sampled_from("abc")), st.data())
def test_every_image_has_exactly_one_first_whatever_the_order_of_days_and_it_lives_if_any_does(
    landed: list[tuple[str, int, int, str]], withdrawn: set[str], data: st.DataObject
) -> None:
    """Days are judged one after the other until nothing changes, each knowing the first that the others hold."""
    by_day: dict[date, list[tuple[Arrival, str]]] = {}
    for name, second, days_later, image_id in landed:
        arrival = make_arrival(name, NOON + timedelta(days=days_later, seconds=second))
        by_day.setdefault(arrival.ingest_date, []).append((arrival, image_id))
    facts = {day: make_facts(*own, withdrawn=tuple(sorted(withdrawn))) for day, own in by_day.items()}
    known: dict[str, FirstArrival] = {}
    for day in [*data.draw(st.permutations(sorted(facts))), *sorted(facts)]:
        judged = judge_firsts(facts[day], {image: first for image, first in known.items() if first.ingest_date != day})
        known |= {first.image_id: first for first in list_first_candidates(judged.filter(judged.column("is_first")))}
    all_candidates = [candidate for own in facts.values() for candidate in list_first_candidates(own)]
    judged_again = [judge_firsts(own, known) for own in facts.values()]
    firsts = [row for own in judged_again for row in own.to_pylist() if row["is_first"]]
    for image_id in {candidate.image_id for candidate in all_candidates}:
        own = [candidate for candidate in all_candidates if candidate.image_id == image_id]
        best = min(own, key=lambda candidate: (candidate.is_withdrawn, candidate.landed_at_us, candidate.object_key))
        assert [row["arrival_id"] for row in firsts if row["image_id"] == image_id] == [best.arrival_id]
        assert best.is_withdrawn == all(candidate.is_withdrawn for candidate in own)


def test_an_image_is_withdrawn_when_its_first_arrival_is() -> None:
    arrivals = make_facts(
        (make_arrival("a"), "gone"),
        (make_arrival("b"), "copied"),
        (make_arrival("c"), "copied"),
        (make_arrival("d"), "there"),
        withdrawn=("a", "b"),
    )
    assert list_withdrawn_images(judge_firsts(arrivals, {})) == ["gone"]


def test_judged_arrivals_have_the_columns_of_their_table_also_where_there_are_none() -> None:
    for facts in (FACTS.empty_table(), make_facts((make_arrival(), "image"))):
        judged = judge_firsts(apply_terms(facts, []), {})
        assert {*judged.column_names, "fingerprint"} == set(RAW_IMAGES.names)


def test_arrivals_are_compared_by_withdrawal_microseconds_since_1970_and_key() -> None:
    (first,) = list_first_candidates(make_facts((make_arrival("a", datetime(1970, 1, 2, 0, 0, 0, 7, UTC)), "image")))
    assert first == FirstArrival("image", first.arrival_id, date(1970, 1, 2), 86_400_000_007, first.object_key)
    assert first.order == (False, 86_400_000_007, first.object_key)
    assert replace(first, is_withdrawn=True).order > replace(first, landed_at_us=2**62).order
