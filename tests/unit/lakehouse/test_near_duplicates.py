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
from lakehouse.near_duplicates import Leader, collect_leaders, group_near_duplicates
from lakehouse.schemas import NEAR_DUPLICATES

DAY = date(2026, 11, 2)
MAX_DISTANCE = 8


class Image(NamedTuple):
    image_id: str
    day: date
    landed_at: datetime
    perceptual_hash: int


def make_image(image_id: str, perceptual_hash: int, *, day: int = 0, second: int = 0) -> Image:
    ingest_date = DAY + timedelta(days=day)
    landed_at = datetime(ingest_date.year, ingest_date.month, ingest_date.day, tzinfo=UTC) + timedelta(seconds=second)
    signed = perceptual_hash - 2**64 if perceptual_hash >= 2**63 else perceptual_hash
    return Image(image_id, ingest_date, landed_at, signed)


def flip(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def to_table(images: list[Image]) -> pa.Table:
    columns = ("image_id", "ingest_date", "landed_at", "perceptual_hash")
    schema = pa.schema([NEAR_DUPLICATES.field(name) for name in columns])
    return pa.Table.from_pylist([dict(zip(columns, image, strict=True)) for image in images], schema=schema)


def count_differing_bits(one: Image, other: Image) -> int:
    return ((one.perceptual_hash ^ other.perceptual_hash) & (2**64 - 1)).bit_count()


def group_by_hand(images: list[Image], max_distance: int = MAX_DISTANCE) -> dict[str, tuple[str, int]]:
    """The definition itself: in the order of arrival, each joins the nearest leader so far, or becomes one."""
    leaders: list[Image] = []
    groups: dict[str, tuple[str, int]] = {}
    for image in sorted(images, key=lambda image: (image.landed_at, image.image_id)):
        near = [
            (count_differing_bits(image, leader), leader.landed_at, leader.image_id)
            for leader in leaders
            if count_differing_bits(image, leader) <= max_distance
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


def bring_day_up_to_date(tables: Tables, images: list[Image], day: date, max_distance: int = MAX_DISTANCE) -> None:
    table = to_table([image for image in images if image.day == day])
    earlier = collect_leaders(find_near_leaders(tables, table, max_distance))
    groups = group_near_duplicates(table, earlier, max_distance)
    rows = with_fingerprints(groups, groups.column_names, "1")
    tables.commit_day("near_duplicates", day, read=tables.read_day("near_duplicates", day), rows=rows)


# Few centres and up to a dozen flips, so that groups meet, overlap and just miss one another.
near_hashes = st.builds(
    flip,
    st.sampled_from([0, 2**64 - 1, 0x0F0F0F0F0F0F0F0F]),
    st.lists(st.integers(0, 63), max_size=12, unique=True),
)


@st.composite
def draw_images(draw: st.DrawFn, days: int = 1) -> list[Image]:
    facts = draw(st.lists(st.tuples(near_hashes, st.integers(0, days - 1), st.integers(0, 3)), min_size=1, max_size=25))
    return [
        make_image(f"{number:02}", value, day=day, second=second) for number, (value, day, second) in enumerate(facts)
    ]


@given(draw_images(), st.integers(0, 64), st.randoms())
def test_a_day_is_grouped_as_the_definition_says_whatever_the_order_of_its_rows(
    images: list[Image], max_distance: int, random: Random
) -> None:
    shuffled = random.sample(images, len(images))
    rows = group_near_duplicates(to_table(shuffled), {}, max_distance)
    assert list_groups(rows) == group_by_hand(images, max_distance)


@given(draw_images())
def test_every_leader_leads_itself_and_came_before_its_members(images: list[Image]) -> None:
    rows = {row["image_id"]: row for row in group_near_duplicates(to_table(images), {}, MAX_DISTANCE).to_pylist()}
    for row in rows.values():
        leader = rows[row["leader_image_id"]]
        assert leader["leader_image_id"] == leader["image_id"]
        assert (leader["landed_at"], leader["image_id"]) <= (row["landed_at"], row["image_id"])
        assert row["distance"] <= MAX_DISTANCE


def test_images_come_in_the_order_of_their_arrival_with_all_columns_but_the_fingerprint() -> None:
    images = [make_image("b", 7, second=2), make_image("c", 2**60, second=1), make_image("a", 2**61, second=2)]
    rows = group_near_duplicates(to_table(images), {}, MAX_DISTANCE)
    assert rows.column("image_id").to_pylist() == ["c", "a", "b"]
    assert rows.column_names == [name for name in NEAR_DUPLICATES.names if name != "fingerprint"]


def test_a_nearer_leader_of_an_earlier_day_is_preferred_to_one_of_the_day() -> None:
    images = [make_image("own-leader", 0, second=1), make_image("member", 0b111, second=2)]
    earlier = {"member": [Leader("earlier", DAY - timedelta(days=1), images[0].landed_at - timedelta(days=1), 2)]}
    rows = group_near_duplicates(to_table(images), earlier, MAX_DISTANCE).to_pylist()
    assert rows[1]["leader_image_id"] == "earlier"
    assert rows[1]["leader_ingest_date"] == DAY - timedelta(days=1)
    assert rows[1]["distance"] == 2


def test_of_equally_near_leaders_the_earliest_is_joined() -> None:
    early, late = (Leader(name, DAY, datetime(2026, 1, day, tzinfo=UTC), 3) for name, day in (("z", 1), ("a", 2)))
    rows = group_near_duplicates(to_table([make_image("x", 0)]), {"x": [late, early]}, MAX_DISTANCE).to_pylist()
    assert rows[0]["leader_image_id"] == "z"


def test_a_day_without_images_has_no_groups(tmp_path: Path) -> None:
    assert group_near_duplicates(to_table([]), {}, MAX_DISTANCE).num_rows == 0
    assert find_near_leaders(open_tables(tmp_path), to_table([]), MAX_DISTANCE).num_rows == 0


def test_a_day_of_a_thousand_blank_images_is_one_group() -> None:
    images = [make_image(f"{number:04}", 0, second=number) for number in range(1000)]
    groups = list_groups(group_near_duplicates(to_table(images), {}, MAX_DISTANCE))
    assert set(groups.values()) == {("0000", 0)}


@settings(max_examples=5, deadline=None)
@given(draw_images(days=3), st.permutations(range(3)))
def test_days_in_order_give_the_groups_of_all_images_at_once_whatever_was_committed_before(
    images: list[Image], first_order: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = open_tables(Path(folder))
        for days in (first_order, range(3)):
            for number in days:
                bring_day_up_to_date(tables, images, DAY + timedelta(days=number))
        assert list_groups(tables.read("near_duplicates")) == group_by_hand(images)


@pytest.mark.parametrize("max_distance", [0, 3, 8])
def test_the_search_is_exact_at_every_distance(tmp_path: Path, max_distance: int) -> None:
    random = np.random.default_rng(max_distance)
    tables = open_tables(tmp_path)
    centres = [int(value) for value in random.integers(0, 2**64, 40, np.uint64)]
    leaders = [make_image(f"leader-{number:02}", centre, second=number) for number, centre in enumerate(centres)]
    bring_day_up_to_date(tables, leaders, DAY, 0)
    probes = [
        make_image(
            f"probe-{number:02}-{distance}", flip(centre, random.choice(64, distance, replace=False).tolist()), day=1
        )
        for number, centre in enumerate(centres)
        for distance in range(10)
    ]
    expected = {
        (probe.image_id, leader.image_id, count_differing_bits(probe, leader))
        for probe in probes
        for leader in leaders
        if count_differing_bits(probe, leader) <= max_distance
    }
    found = find_near_leaders(tables, to_table(probes), max_distance).to_pylist()
    assert {(row["image_id"], row["leader_image_id"], row["distance"]) for row in found} == expected
    assert len(found) == len(expected) >= 40 * (max_distance + 1)


def test_the_search_finds_leaders_of_earlier_days_alone(tmp_path: Path) -> None:
    tables = open_tables(tmp_path)
    images = [
        make_image("leader", 0, day=0),
        make_image("member", 1, day=0, second=1),
        make_image("same day", 3, day=1),
        make_image("later", 0, day=2),
    ]
    for number in (0, 1, 2):
        bring_day_up_to_date(tables, images, DAY + timedelta(days=number))
    leaders = collect_leaders(find_near_leaders(tables, to_table([images[2]]), MAX_DISTANCE))
    assert leaders == {"same day": [Leader("leader", DAY, images[0].landed_at, 2)]}
