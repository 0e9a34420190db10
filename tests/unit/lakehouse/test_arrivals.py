import json
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.arrivals import (
    BEGINNING,
    FACTS,
    Arrival,
    FirstArrival,
    build_original_key,
    build_raw_rows,
    decode_note,
    encode_note,
    judge_firsts,
    list_first_candidates,
    list_watched_prefixes,
    rebuild_arrivals,
    select_arrivals,
)
from lakehouse.errors import SchemaMismatchError
from lakehouse.schemas import RAW_IMAGES

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)

times = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map("landing/phone/".__add__)
arrivals = st.builds(Arrival, keys, times, st.integers(0, 2**40), st.none() | keys)


def make_arrival(name: str, at: datetime = NOON) -> Arrival:
    return Arrival(f"landing/phone/2026/11/02/{name}", at, 1)


def make_rows(*landed: tuple[Arrival, str]) -> pa.Table:
    return build_raw_rows((arrival, image_id, None) for arrival, image_id in landed)


def list_judged(rows: pa.Table) -> dict[str, tuple[bool, str]]:
    return {
        row["object_key"].rpartition("/")[2]: (row["is_first"], row["first_arrival_id"]) for row in rows.to_pylist()
    }


@given(arrivals)
def test_a_note_that_is_written_and_read_tells_of_the_same_arrival(arrival: Arrival) -> None:
    read = decode_note(encode_note(arrival))
    assert read == arrival
    assert read.arrival_id == arrival.arrival_id
    assert read.note_key == arrival.note_key


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff\xfe",
        b"not JSON",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        json.dumps({"object_key": "a", "landed_at": "yesterday", "size_bytes": 1, "sidecar_key": None}).encode(),
        json.dumps({"object_key": "a", "landed_at": 5, "size_bytes": 1, "sidecar_key": None}).encode(),
        json.dumps(
            {"object_key": "a", "landed_at": NOON.isoformat(), "size_bytes": "big", "sidecar_key": None}
        ).encode(),
    ],
)
def test_what_is_no_note_is_refused_with_the_remedy(note: bytes) -> None:
    with pytest.raises(SchemaMismatchError, match=r"not one that Farmy wrote: .*Delete it"):
        decode_note(note)


def test_one_object_at_one_time_has_one_note_and_an_overwritten_object_another() -> None:
    arrival = make_arrival("a.jpg")
    assert arrival.note_key == make_arrival("a.jpg").note_key
    others = [make_arrival("b.jpg"), make_arrival("a.jpg", NOON + timedelta(seconds=1))]
    others.append(Arrival(arrival.object_key, arrival.landed_at, 2))
    assert len({other.note_key for other in [arrival, *others]}) == 4
    assert arrival.note_key.startswith("inbox/arrivals/2026-11-02/")


def test_the_day_and_identity_of_an_arrival_are_those_in_utc() -> None:
    sydney = NOON.replace(hour=23).astimezone(timezone(timedelta(hours=11)))
    assert sydney.date() == date(2026, 11, 3)
    assert make_arrival("a", sydney).ingest_date == date(2026, 11, 2)
    assert make_arrival("a", sydney).arrival_id == make_arrival("a", sydney.astimezone(UTC)).arrival_id


@pytest.mark.parametrize(("key", "source"), [("landing/phone/2026/11/02/a", "phone"), ("landing/a.jpg", "a.jpg")])
def test_the_source_is_the_first_folder_below_landing(key: str, source: str) -> None:
    assert Arrival(key, NOON, 1).source == source


def test_a_json_beside_an_object_is_its_sidecar_and_no_arrival() -> None:
    selected = select_arrivals(
        [("landing/a.jpg.json", NOON, 5), ("landing/a.jpg", NOON, 9), ("landing/b.jpg", NOON, 9)]
    )
    assert selected == [
        Arrival("landing/a.jpg", NOON, 9, "landing/a.jpg.json"),
        Arrival("landing/b.jpg", NOON, 9, None),
    ]


@pytest.mark.parametrize("name", ["alone.json", "a.jpeg.json", "A.JPG.json"])
def test_a_json_without_its_object_is_an_arrival_like_any_other(name: str) -> None:
    selected = select_arrivals([(f"landing/{name}", NOON, 5), ("landing/a.jpg", NOON, 9)])
    assert f"landing/{name}" in {arrival.object_key for arrival in selected}


def test_an_object_older_than_every_partition_counts_as_arrived_on_the_first_day() -> None:
    (arrival,) = select_arrivals([("landing/a", datetime(1980, 1, 1, tzinfo=UTC), 1)])
    assert arrival.landed_at == BEGINNING
    assert arrival.ingest_date == BEGINNING.date()


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "a.json", "b.json", "a.json.json"]), times, st.integers(0, 9))))
def test_a_listing_in_any_order_and_with_repeats_selects_each_object_once(
    listed: list[tuple[str, datetime, int]],
) -> None:
    last = {key: (key, at, size) for key, at, size in listed}
    selected = select_arrivals(listed)
    assert selected == select_arrivals(reversed(last.values()))
    assert [arrival.object_key for arrival in selected] == sorted({arrival.object_key for arrival in selected})


def test_the_watched_days_are_today_those_before_and_tomorrow_for_producers_whose_clock_is_ahead() -> None:
    prefixes = list_watched_prefixes(["landing/phone/", "landing/web/"], date(2026, 1, 1), 2)
    assert prefixes == [
        *("landing/phone/2026/01/02/", "landing/phone/2026/01/01/", "landing/phone/2025/12/31/"),
        *("landing/web/2026/01/02/", "landing/web/2026/01/01/", "landing/web/2025/12/31/"),
    ]


def test_of_two_arrivals_on_a_day_the_earlier_is_first_and_the_other_its_copy() -> None:
    early, late, other = make_arrival("z"), make_arrival("a", NOON + timedelta(microseconds=1)), make_arrival("b")
    judged = judge_firsts(make_rows((late, "image"), (early, "image"), (other, "another")), {})
    assert list_judged(judged) == {
        "z": (True, early.arrival_id),
        "a": (False, early.arrival_id),
        "b": (True, other.arrival_id),
    }


def test_of_two_that_arrived_at_once_the_smaller_key_is_first() -> None:
    judged = judge_firsts(make_rows((make_arrival("b"), "image"), (make_arrival("a"), "image")), {})
    assert list_judged(judged)["a"][0]
    assert not list_judged(judged)["b"][0]


def test_an_arrival_of_an_image_that_is_known_from_an_earlier_day_is_a_copy_of_that_one() -> None:
    (known,) = list_first_candidates(make_rows((make_arrival("first", NOON - timedelta(days=3)), "image")))
    (row,) = judge_firsts(make_rows((make_arrival("copy"), "image")), {"image": known}).to_pylist()
    assert not row["is_first"]
    assert row["first_arrival_id"] == known.arrival_id
    assert row["first_ingest_date"] == date(2026, 10, 30)


def test_a_late_note_for_an_earlier_day_is_first_although_a_later_day_is_known() -> None:
    (known,) = list_first_candidates(make_rows((make_arrival("later", NOON + timedelta(days=1)), "image")))
    (row,) = judge_firsts(make_rows((make_arrival("late note"), "image")), {"image": known}).to_pylist()
    assert row["is_first"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.sampled_from(["x", "y"])), unique=True), st.data()
)
def test_every_image_has_exactly_one_first_whatever_the_order(
    landed: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    rows = [(make_arrival(name, NOON + timedelta(seconds=second)), image_id) for name, second, image_id in landed]
    judged = list(judge_firsts(make_rows(*data.draw(st.permutations(rows))), {}).to_pylist())
    for image_id in {row["image_id"] for row in judged}:
        own = [row for row in judged if row["image_id"] == image_id]
        first = min(own, key=lambda row: (row["landed_at"], row["object_key"]))
        assert {row["first_arrival_id"] for row in own} == {first["arrival_id"]}
        assert first["is_first"]


def test_rows_say_what_the_arrival_said_and_keep_the_sidecar_as_it_was_written() -> None:
    arrival = make_arrival("a.jpg")
    rows = build_raw_rows([(arrival, "ab" * 32, '{"crop": "Äpfel"}')])
    (row,) = rows.to_pylist()
    assert row["sidecar_json"] == '{"crop": "Äpfel"}'
    assert row["original_key"] == build_original_key("ab" * 32) == f"raw/ab/{'ab' * 32}"
    assert (row["source"], row["ingest_date"], row["landed_at"]) == ("phone", NOON.date(), NOON)
    assert rows.schema == FACTS


def test_no_arrivals_are_no_rows_in_the_same_columns() -> None:
    judged = judge_firsts(build_raw_rows([]), {})
    assert judged.num_rows == 0
    assert [*judged.column_names, "fingerprint"] == RAW_IMAGES.names


@given(st.lists(arrivals, max_size=5))
def test_the_notes_of_rows_are_the_notes_that_they_came_from(landed: list[Arrival]) -> None:
    rows = build_raw_rows((arrival, "00" * 32, None) for arrival in landed)
    assert [arrival.note_key for arrival in rebuild_arrivals(rows)] == [arrival.note_key for arrival in landed]


def test_arrivals_are_compared_by_microseconds_since_1970_and_key() -> None:
    (first,) = list_first_candidates(make_rows((make_arrival("a", datetime(1970, 1, 2, 0, 0, 0, 7, UTC)), "image")))
    assert first == FirstArrival("image", first.arrival_id, date(1970, 1, 2), 86_400_000_007, first.object_key)
    assert first.order == (86_400_000_007, first.object_key)
