import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.near_leaders import find_near_leaders
from adapters.tables import Tables, open_sqlite_tables
from lakehouse.fingerprints import with_fingerprints
from lakehouse.near_duplicates import (
    HASHES,
    Leader,
    NearDuplicateSettings,
    collect_leaders,
    group_near_duplicates,
)
from lakehouse.schemas import NEAR_DUPLICATES

DAY = date(2026, 11, 2)
MAX_DISTANCE = 8
MAX_DETAIL_DISTANCE = 20


class Image(NamedTuple):
    image_id: str
    day: date
    landed_at: datetime
    perceptual_hash: int | None
    detail_hash: int | None
    strength_hash: int | None


def make_image(
    image_id: str, perceptual_hash: int | None, detail: int = 0, strength: int = 0, *, day: int = 0, second: int = 0
) -> Image:
    ingest_date = DAY + timedelta(days=day)
    landed_at = datetime(ingest_date.year, ingest_date.month, ingest_date.day, tzinfo=UTC) + timedelta(seconds=second)
    if perceptual_hash is None:
        return Image(image_id, ingest_date, landed_at, None, None, None)
    return Image(image_id, ingest_date, landed_at, sign(perceptual_hash), sign(detail), sign(strength))


def sign(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def flip(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def to_table(images: list[Image]) -> pa.Table:
    columns = ("image_id", "ingest_date", "landed_at", *HASHES)
    schema = pa.schema([NEAR_DUPLICATES.field(name) for name in columns])
    return pa.Table.from_pylist([dict(zip(columns, image, strict=True)) for image in images], schema=schema)


def limit(max_distance: int = MAX_DISTANCE, max_detail_distance: int = MAX_DETAIL_DISTANCE) -> NearDuplicateSettings:
    return NearDuplicateSettings(max_distance, max_detail_distance)


def count_differing_bits(one: int | None, other: int | None) -> int:
    assert one is not None
    assert other is not None
    return ((one ^ other) & (2**64 - 1)).bit_count()


def measure_distance(one: Image, other: Image, settings: NearDuplicateSettings) -> int | None:
    """The definition of near: the distance, or None where it or that of the details is too great."""
    if one.perceptual_hash is None or other.perceptual_hash is None:
        return None
    distance = count_differing_bits(one.perceptual_hash, other.perceptual_hash)
    detail = count_differing_bits(one.detail_hash, other.detail_hash)
    detail += count_differing_bits(one.strength_hash, other.strength_hash)
    return distance if distance <= settings.max_distance and detail <= settings.max_detail_distance else None


def group_by_hand(images: list[Image], settings: NearDuplicateSettings) -> dict[str, tuple[str, int]]:
    """The definition itself: in the order of arrival, each joins the nearest leader so far, or becomes one."""
    leaders: list[Image] = []
    groups: dict[str, tuple[str, int]] = {}
    for image in sorted(images, key=lambda image: (image.landed_at, image.image_id)):
        near = [
            (distance, leader.landed_at, leader.image_id)
            for leader in leaders
            if (distance := measure_distance(image, leader, settings)) is not None
        ]
        if near:
            distance, _, leader_id = min(near)
            groups[image.image_id] = (leader_id, distance)
        else:
            leaders.append(image)
            groups[image.image_id] = (image.image_id, 0)
    return groups


def list_groups(rows: pa.Table) -> dict[str, tuple[str, int]]:
    return {row["image_id"]: (row["leader_image_id"], row["distance"]) for row in rows.to_pylist()}


def open_tables(folder: Path) -> Tables:
    return open_sqlite_tables(str(folder / "catalog.db"), f"file://{folder}/tables")


def bring_day_up_to_date(tables: Tables, images: list[Image], day: date, settings: NearDuplicateSettings) -> None:
    table = to_table([image for image in images if image.day == day])
    earlier = collect_leaders(find_near_leaders(tables, table, settings))
    groups = group_near_duplicates(table, earlier, settings)
    rows = with_fingerprints(groups, groups.column_names, "1")
    tables.commit_day("near_duplicates", day, read=tables.read_day("near_duplicates", day), rows=rows)


def flips_of(max_flips: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 63), max_size=max_flips, unique=True)


# Few centres and up to a dozen flips, so that groups meet, overlap and just miss one another.
centres = st.sampled_from([0, 2**64 - 1, 0x0F0F0F0F0F0F0F0F])
hash_triples = st.one_of(
    st.just((None, 0, 0)),
    st.tuples(
        st.builds(flip, centres, flips_of(12)),
        st.builds(flip, st.just(0), flips_of(14)),
        st.builds(flip, st.just(0), flips_of(14)),
    ),
)


@st.composite
def draw_images(draw: st.DrawFn, days: int = 1) -> list[Image]:
    facts = draw(
        st.lists(st.tuples(hash_triples, st.integers(0, days - 1), st.integers(0, 3)), min_size=1, max_size=25)
    )
    return [
        make_image(f"{number:02}", *hashes, day=day, second=second)
        for number, (hashes, day, second) in enumerate(facts)
    ]


@given(draw_images(), st.integers(0, 8), st.integers(0, 128), st.randoms())
def test_a_day_is_grouped_as_the_definition_says_whatever_the_order_of_its_rows(
    images: list[Image], max_distance: int, max_detail_distance: int, random: Random
) -> None:
    shuffled = random.sample(images, len(images))
    settings = limit(max_distance, max_detail_distance)
    rows = group_near_duplicates(to_table(shuffled), {}, settings)
    assert list_groups(rows) == group_by_hand(images, settings)


@given(draw_images())
def test_every_leader_leads_itself_and_came_before_its_members(images: list[Image]) -> None:
    rows = {row["image_id"]: row for row in group_near_duplicates(to_table(images), {}, limit()).to_pylist()}
    for row in rows.values():
        leader = rows[row["leader_image_id"]]
        assert leader["leader_image_id"] == leader["image_id"]
        assert (leader["landed_at"], leader["image_id"]) <= (row["landed_at"], row["image_id"])
        assert row["distance"] <= MAX_DISTANCE


def test_images_come_in_the_order_of_their_arrival_with_all_columns_but_the_fingerprint() -> None:
    images = [make_image("b", 7, second=2), make_image("c", 2**60, second=1), make_image("a", 2**61, second=2)]
    rows = group_near_duplicates(to_table(images), {}, limit())
    assert rows.column("image_id").to_pylist() == ["c", "a", "b"]
    assert rows.column_names == [name for name in NEAR_DUPLICATES.names if name != "fingerprint"]


def test_a_nearer_leader_of_an_earlier_day_is_preferred_to_one_of_the_day() -> None:
    images = [make_image("own-leader", 0, second=1), make_image("member", 0b111, second=2)]
    earlier = {"member": [Leader("earlier", DAY - timedelta(days=1), images[0].landed_at - timedelta(days=1), 2)]}
    rows = group_near_duplicates(to_table(images), earlier, limit()).to_pylist()
    assert rows[1]["leader_image_id"] == "earlier"
    assert rows[1]["leader_ingest_date"] == DAY - timedelta(days=1)
    assert rows[1]["distance"] == 2


def test_of_equally_near_leaders_the_earliest_is_joined() -> None:
    early, late = (Leader(name, DAY, datetime(2026, 1, day, tzinfo=UTC), 3) for name, day in (("z", 1), ("a", 2)))
    rows = group_near_duplicates(to_table([make_image("x", 0)]), {"x": [late, early]}, limit()).to_pylist()
    assert rows[0]["leader_image_id"] == "z"


def test_a_day_without_images_has_no_groups(tmp_path: Path) -> None:
    assert group_near_duplicates(to_table([]), {}, limit()).num_rows == 0
    assert find_near_leaders(open_tables(tmp_path), to_table([]), limit()).num_rows == 0


def test_a_thousand_images_too_plain_to_have_hashes_each_lead_themselves() -> None:
    images = [make_image(f"{number:04}", None, second=number) for number in range(1000)]
    groups = list_groups(group_near_duplicates(to_table(images), {}, limit()))
    assert groups == {image.image_id: (image.image_id, 0) for image in images}


def test_a_thousand_images_with_the_same_hashes_are_one_group() -> None:
    images = [make_image(f"{number:04}", 5, 6, 7, second=number) for number in range(1000)]
    groups = list_groups(group_near_duplicates(to_table(images), {}, limit()))
    assert set(groups.values()) == {("0000", 0)}


def test_images_whose_details_differ_are_not_near_though_their_perceptual_hash_is_the_same() -> None:
    images = [make_image("a", 7, 0, 0), make_image("b", 7, 2**10 - 1, 2**11 - 1, second=1)]
    assert list_groups(group_near_duplicates(to_table(images), {}, limit(8, 20)))["b"] == ("b", 0)
    assert list_groups(group_near_duplicates(to_table(images), {}, limit(8, 21)))["b"] == ("a", 0)


def test_only_leaders_carry_hashes() -> None:
    images = [make_image("leader", 7, 8, 9), make_image("member", 7, 8, 8, second=1)]
    rows = group_near_duplicates(to_table(images), {}, limit()).select(HASHES).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(7, 8, 9), (None, None, None)]


@settings(max_examples=5, deadline=None)
@given(draw_images(days=3), st.permutations(range(3)))
def test_days_in_order_give_the_groups_of_all_images_at_once_whatever_was_committed_before(
    images: list[Image], first_order: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = open_tables(Path(folder))
        for days in (first_order, range(3)):
            for number in days:
                bring_day_up_to_date(tables, images, DAY + timedelta(days=number), limit())
        assert list_groups(tables.read("near_duplicates")) == group_by_hand(images, limit())


@settings(max_examples=5, deadline=None)
@given(draw_images(days=2), st.data())
def test_images_that_arrive_late_leave_no_trace_of_what_was_there_without_them(
    images: list[Image], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = open_tables(Path(folder))
        in_time = [image for image in images if data.draw(st.booleans(), label=f"{image.image_id} is in time")]
        for there in (in_time, images):
            for number in range(2):
                bring_day_up_to_date(tables, there, DAY + timedelta(days=number), limit())
        assert list_groups(tables.read("near_duplicates")) == group_by_hand(images, limit())


@pytest.mark.parametrize("max_distance", [0, 3, 8])
def test_the_search_is_exact_at_every_distance(tmp_path: Path, max_distance: int) -> None:
    random = np.random.default_rng(max_distance)
    tables = open_tables(tmp_path)
    centres = [[int(value) for value in random.integers(0, 2**64, 3, np.uint64)] for _ in range(40)]
    leaders = [make_image(f"leader-{number:02}", *centre, second=number) for number, centre in enumerate(centres)]
    bring_day_up_to_date(tables, leaders, DAY, limit(0, 0))

    def change(value: int, bits: int) -> int:
        return flip(value, random.choice(64, bits, replace=False).tolist())

    probes = [
        make_image(
            f"probe-{number:02}-{distance}-{detail}",
            change(centre[0], distance),
            change(centre[1], detail),
            change(centre[2], 10),
            day=1,
        )
        for number, centre in enumerate(centres)
        for distance in range(10)
        for detail in (9, 10, 11)
    ]
    settings = limit(max_distance)
    expected = {
        (probe.image_id, leader.image_id, distance)
        for probe in probes
        for leader in leaders
        if (distance := measure_distance(probe, leader, settings)) is not None
    }
    found = find_near_leaders(tables, to_table(probes), settings).to_pylist()
    assert {(row["image_id"], row["leader_image_id"], row["distance"]) for row in found} == expected
    assert len(found) == len(expected) >= 2 * 40 * (max_distance + 1)


def test_the_search_tells_apart_leaders_with_the_same_perceptual_hash(tmp_path: Path) -> None:
    tables = open_tables(tmp_path)
    leaders = [make_image("one", 5, 0, 0), make_image("other", 5, 2**63 - 1, 0, second=1)]
    bring_day_up_to_date(tables, leaders, DAY, limit())
    probes = [make_image("x", 4, 1, 0, day=1), make_image("y", 4, 2**63 - 2, 0, day=1), make_image("z", None, day=1)]
    found = find_near_leaders(tables, to_table(probes), limit()).to_pylist()
    assert {(row["image_id"], row["leader_image_id"], row["distance"]) for row in found} == {
        ("x", "one", 1),
        ("y", "other", 1),
    }


def test_the_search_finds_leaders_of_earlier_days_alone(tmp_path: Path) -> None:
    tables = open_tables(tmp_path)
    images = [
        make_image("leader", 0, day=0),
        make_image("member", 1, day=0, second=1),
        make_image("same day", 3, day=1),
        make_image("later", 0, day=2),
    ]
    for number in (0, 1, 2):
        bring_day_up_to_date(tables, images, DAY + timedelta(days=number), limit())
    leaders = collect_leaders(find_near_leaders(tables, to_table([images[2]]), limit()))
    assert leaders == {"same day": [Leader("leader", DAY, images[0].landed_at, 2)]}
