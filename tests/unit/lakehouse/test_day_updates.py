import random
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.day_updates import DayPlan, conform, keep_standing_rows, plan_day, sort_rows
from lakehouse.errors import SchemaMismatchError
from lakehouse.schemas import TABLES

TABLE = TABLES["dataset_releases"]
DAY = date(2026, 11, 2)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)

# Few keys and prints, so that days overlap in every way.
wanted_rows = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("123"))
current_rows = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 3)), unique_by=lambda row: row[0]
).flatmap(
    lambda keys: st.tuples(st.just(keys), st.lists(st.sampled_from("123"), min_size=len(keys), max_size=len(keys)))
)


def make_rows(rows: list[tuple[str, str]]) -> pa.Table:
    return pa.table(
        {
            "key": pa.array([key for key, _ in rows], pa.string()),
            "fingerprint": pa.array([p for _, p in rows], pa.string()),
        }
    )


def make_current(drawn: tuple[list[tuple[str, int]], list[str]]) -> pa.Table:
    """Return a day in which some keys have several rows, all of one print."""
    keys, prints = drawn
    return make_rows([(key, fp) for (key, count), fp in zip(keys, prints, strict=True) for _ in range(count)])


def apply_plan(current: pa.Table, plan: DayPlan) -> pa.Table:
    return pa.concat_tables([keep_standing_rows(current, plan, "key"), plan.stale])


@given(current_rows.map(make_current), wanted_rows, st.booleans())
def test_applying_a_plan_gives_exactly_the_wanted_keys_and_prints(
    current: pa.Table,
    wanted: dict[str, str],
    force: bool,  # noqa: FBT001
) -> None:
    plan = plan_day(current, make_rows(list(wanted.items())), "key", force=force)
    applied = apply_plan(current, plan)
    assert {row["key"]: row["fingerprint"] for row in applied.to_pylist()} == wanted


@given(current_rows.map(make_current), current_rows.map(make_current), st.booleans())
def test_all_rows_of_a_key_are_taken_or_left_together(
    current: pa.Table,
    wanted: pa.Table,
    force: bool,  # noqa: FBT001
) -> None:
    plan = plan_day(current, wanted, "key", force=force)

    held = {row["key"]: row["fingerprint"] for row in current.to_pylist()}
    stale = [row for row in wanted.to_pylist() if force or held.get(row["key"]) != row["fingerprint"]]
    assert plan.stale.to_pylist() == stale


@given(current_rows.map(make_current), wanted_rows)
def test_a_second_plan_is_nothing(current: pa.Table, wanted: dict[str, str]) -> None:
    rows = make_rows(list(wanted.items()))
    applied = apply_plan(current, plan_day(current, rows, "key"))
    again = plan_day(applied, rows, "key")
    assert again.is_nothing
    assert again.fresh == len(wanted)


@given(current_rows.map(make_current), wanted_rows)
def test_rows_that_are_up_to_date_stand_with_all_their_rows(current: pa.Table, wanted: dict[str, str]) -> None:
    plan = plan_day(current, make_rows(list(wanted.items())), "key")
    kept = [row for row in current.to_pylist() if wanted.get(row["key"]) == row["fingerprint"]]
    assert keep_standing_rows(current, plan, "key").to_pylist() == kept
    assert plan.fresh + plan.stale.num_rows == len(wanted)


@given(current_rows.map(make_current), wanted_rows)
def test_rows_are_appended_only_where_every_row_of_the_day_stays(current: pa.Table, wanted: dict[str, str]) -> None:
    plan = plan_day(current, make_rows(list(wanted.items())), "key")
    assert plan.only_adds == (keep_standing_rows(current, plan, "key").num_rows == current.num_rows)


@given(current_rows.map(make_current), wanted_rows)
def test_force_computes_every_wanted_row_again(current: pa.Table, wanted: dict[str, str]) -> None:
    plan = plan_day(current, make_rows(list(wanted.items())), "key", force=True)
    assert plan.stale.column("key").to_pylist() == list(wanted)
    assert plan.fresh == 0


@given(current_rows.map(make_current), wanted_rows, st.booleans())
def test_a_stale_row_is_amended_where_its_costly_part_stands_and_computed_otherwise(
    current: pa.Table,
    wanted: dict[str, str],
    force: bool,  # noqa: FBT001
) -> None:
    held = current.append_column("costly", pa.array([int(p) // 2 for p in current["fingerprint"].to_pylist()]))
    rows = make_rows(list(wanted.items()))
    rows = rows.append_column("costly", pa.array([int(p) // 2 for p in wanted.values()], pa.int64()))
    plan = plan_day(held, rows, "key", amends_by="costly", force=force)
    standing = {row["key"]: row["costly"] for row in held.to_pylist()}
    amended = [row["key"] for row in plan.stale.to_pylist() if row["costly"] == standing.get(row["key"])]
    assert sorted(plan.amended.column("key").to_pylist()) == ([] if force else sorted(amended))
    assert sorted(plan.stale["key"].to_pylist()) == sorted(
        plan_day(held, rows, "key", force=force).computed["key"].to_pylist()
    )
    assert set(plan.amended["key"].to_pylist()) <= plan.replaced


def test_stale_rows_carry_what_their_computation_reads() -> None:
    wanted = make_rows([("a", "1"), ("b", "1")]).append_column("standard_key", pa.array(["x", "y"]))
    plan = plan_day(make_rows([("a", "1")]), wanted, "key")
    assert plan.stale.to_pylist() == [{"key": "b", "fingerprint": "1", "standard_key": "y"}]


def test_an_empty_day_that_should_be_empty_needs_nothing() -> None:
    plan = plan_day(make_rows([]), make_rows([]), "key")
    assert plan.is_nothing
    assert keep_standing_rows(make_rows([]), plan, "key").num_rows == 0


def make_releases(*names: str) -> pa.Table:
    facts = {
        field.name: {"date32[day]": DAY, "timestamp[us, tz=UTC]": NOON, "int64": 1}.get(str(field.type), "x")
        for field in TABLE.schema
    }
    return pa.Table.from_pylist([facts | {"name": name} for name in names], schema=TABLE.schema)


def test_rows_in_another_order_of_columns_and_with_more_of_them_are_brought_to_the_schema() -> None:
    rows = make_releases("a")
    shuffled = rows.select(rows.column_names[::-1]).append_column("extra", pa.array([1]))
    assert conform(shuffled, TABLE).schema == TABLE.schema


def test_narrower_integers_are_widened() -> None:
    rows = make_releases("a")
    position = rows.column_names.index("images")
    assert conform(rows.set_column(position, "images", pa.array([7], pa.int8())), TABLE)["images"].to_pylist() == [7]


def test_missing_columns_are_all_named() -> None:
    with pytest.raises(SchemaMismatchError, match="dataset_releases lack the columns images, fingerprint:"):
        conform(make_releases("a").drop_columns(["fingerprint", "images"]), TABLE)


def test_nulls_are_refused_and_named() -> None:
    rows = make_releases("a", "b")
    rows = rows.set_column(0, "name", pa.array(["a", None]))
    with pytest.raises(SchemaMismatchError, match="null in name, which must have a value"):
        conform(rows, TABLE)


def test_values_of_another_type_are_refused() -> None:
    rows = make_releases("a")
    rows = rows.set_column(rows.column_names.index("images"), "images", pa.array(["many"]))
    with pytest.raises(SchemaMismatchError, match="do not fit its schema"):
        conform(rows, TABLE)


def test_the_order_of_rows_follows_from_their_content_alone() -> None:
    rows = conform(make_releases(*"dacbe"), TABLE)
    for seed in range(5):
        order = random.Random(seed).sample(range(5), 5)
        assert sort_rows(rows.take(order), TABLE) == sort_rows(rows, TABLE)
    assert sort_rows(rows, TABLE).column("name").to_pylist() == list("abcde")
