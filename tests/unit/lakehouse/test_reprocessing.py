from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.day_updates import keep_standing_rows, plan_day
from lakehouse.fingerprints import CODE, MODEL, SETTINGS, UPSTREAM, with_fingerprints
from lakehouse.reprocessing import (
    BYTES,
    CPU_SECONDS,
    DROPPED,
    FORCED,
    ROWS_AMENDED,
    ROWS_COMPUTED,
    DayForecast,
    Plan,
    RowCosts,
    StageDay,
    StaleRows,
    describe_plan,
    describe_seconds,
    estimate_row_costs,
    forecast_day,
    renew_model,
    select_assets,
)

DAY, NEXT_DAY = date(2026, 11, 2), date(2026, 11, 3)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
FOLLOWS = {
    "cleansed_images": ("raw_images",),
    "near_duplicates": ("cleansed_images",),
    "image_catalog": ("cleansed_images", "near_duplicates"),
}


def make_rows(
    contents: Mapping[str, object], code: str = "1", settings: Mapping[str, int] | None = None, model: str = ""
) -> pa.Table:
    """Return one row per image, its content with the fingerprint of it."""
    rows = pa.table(
        {"image_id": pa.array(contents, pa.string()), "content": pa.array(map(str, contents.values()), pa.string())}
    )
    return with_fingerprints(rows, ["image_id", "content"], code, settings, [model] * len(contents))


def make_stage(current: pa.Table, wanted: pa.Table, table: str = "cleansed_images", **more: object) -> StageDay:
    return StageDay(table, FOLLOWS.get(table, ()), current, wanted, **more)  # type: ignore[arg-type]


def forecast(*stages: StageDay, force: bool = False) -> dict[str, list[StaleRows]]:
    return {found.table: list(found.stale) for found in forecast_day(DAY, stages, force=force)}


def list_certain(current: pa.Table, wanted: pa.Table, *, force: bool = False) -> list[tuple[str, int]]:
    (found,) = forecast(make_stage(current, wanted), force=force).values()
    return [(stale.reason, stale.rows) for stale in found]


HELD = make_rows({"a": 1, "b": 2, "c": 3})


@pytest.mark.parametrize(
    ("wanted", "stale"),
    [
        (HELD, []),
        (make_rows({"a": 1, "b": 2, "c": 3, "d": 4}), [(BYTES, 1)]),
        (make_rows({"a": 1, "b": 2, "c": 3}, code="2"), [(CODE, 3)]),
        (make_rows({"a": 1, "b": 2, "c": 3}, settings={"min": 1}), [(SETTINGS, 3)]),
        (make_rows({"a": 1, "b": 2, "c": 3}, model="m"), [(MODEL, 3)]),
        (make_rows({"a": 1, "b": 2, "c": 4}), [(UPSTREAM, 1)]),
        (make_rows({"a": 1}), [(DROPPED, 2)]),
        (make_rows({"a": 9, "d": 4, "e": 5}), [(BYTES, 2), (UPSTREAM, 1), (DROPPED, 2)]),
    ],
)
def test_each_stale_row_has_its_reason(wanted: pa.Table, stale: list[tuple[str, int]]) -> None:
    assert list_certain(HELD, wanted) == stale


def test_force_takes_what_is_up_to_date_for_forced() -> None:
    assert list_certain(HELD, make_rows({"a": 1, "b": 9}), force=True) == [(UPSTREAM, 1), (DROPPED, 1), (FORCED, 1)]


def test_rows_whose_costly_part_stands_are_told_apart() -> None:
    held = HELD.append_column("costly", pa.array(["x", "x", "x"]))
    wanted = make_rows({"a": 1, "b": 2, "c": 3, "d": 4}, settings={"min": 1})
    wanted = wanted.append_column("costly", pa.array(["x", "y", "x", "x"]))
    assert forecast(make_stage(held, wanted, amends_by="costly")) == {
        "cleansed_images": [
            StaleRows("cleansed_images", DAY, BYTES, 1),
            StaleRows("cleansed_images", DAY, SETTINGS, 3, amended=2),
        ]
    }


def test_what_follows_from_a_stale_row_is_stale_at_most_by_image() -> None:
    found = forecast(
        make_stage(HELD, make_rows({"a": 9, "b": 2}), "cleansed_images"),
        make_stage(HELD, make_rows({"a": 8, "b": 2, "c": 3}), "near_duplicates"),
        make_stage(HELD, HELD, "image_catalog"),
    )
    assert found["near_duplicates"] == [
        StaleRows("near_duplicates", DAY, UPSTREAM, 1),
        StaleRows("near_duplicates", DAY, UPSTREAM, 1, is_at_most=True),
    ]
    assert found["image_catalog"] == [StaleRows("image_catalog", DAY, UPSTREAM, 2, is_at_most=True)]


def make_raw(contents: Mapping[str, object]) -> pa.Table:
    rows = make_rows(contents)
    return rows.append_column("arrival_id", rows.column("image_id"))


def test_nothing_follows_from_what_is_not_run() -> None:
    raw, changed = make_raw({"a": 1}), make_raw({"a": 9})
    found = forecast(make_stage(raw, changed, "raw_images"), make_stage(HELD, HELD, "near_duplicates"))
    assert found["near_duplicates"] == []


def test_arrivals_that_wait_are_new_and_may_come_down_to_all_that_follows() -> None:
    raw = make_raw({"a": 1})
    found = forecast(
        make_stage(raw, raw, "raw_images", takes_notes=True, arrivals=5),
        make_stage(HELD, HELD, "cleansed_images"),
        make_stage(HELD, HELD, "near_duplicates"),
    )
    assert found["raw_images"] == [StaleRows("raw_images", DAY, BYTES, 5)]
    for table in ("cleansed_images", "near_duplicates"):
        assert found[table] == [StaleRows(table, DAY, UPSTREAM, 5, is_at_most=True)]


def make_annotated_day(*, noted: frozenset[str], arrivals: int) -> list[StageDay]:
    """Return a day with three images, one of which people have answered."""
    raw, answered = make_raw({"a": 1, "b": 2, "c": 3}), make_rows({"a": 1})
    stale_tasks = make_rows({"a": 1, "b": 9, "c": 3})
    return [
        StageDay("raw_images", (), raw, raw, takes_notes=True, arrivals=arrivals),
        StageDay("annotation_tasks", ("raw_images",), HELD, stale_tasks),
        StageDay("annotations", ("annotation_tasks",), answered, answered, takes_notes=True, noted=noted),
        StageDay("labelled_dataset", ("annotations", "annotation_tasks"), answered, answered),
        StageDay("image_catalog", ("raw_images", "labelled_dataset"), HELD, HELD),
    ]


def test_images_that_nobody_answered_do_not_come_down_to_the_labels() -> None:
    found = forecast(*make_annotated_day(noted=frozenset(), arrivals=2))
    assert (found["annotations"], found["labelled_dataset"]) == ([], [])
    assert [stale.rows for stale in found["image_catalog"]] == [2]


def test_changed_answers_may_change_the_labels_of_their_images() -> None:
    found = forecast(*make_annotated_day(noted=frozenset({"a", "b"}), arrivals=0))
    assert found["annotations"] == [StaleRows("annotations", DAY, BYTES, 2, is_at_most=True)]
    assert found["labelled_dataset"] == [StaleRows("labelled_dataset", DAY, UPSTREAM, 2, is_at_most=True)]
    assert [stale.rows for stale in found["image_catalog"]] == [2]


def test_a_new_model_may_make_all_that_follows_from_it_stale_and_nothing_else() -> None:
    deps = {
        "labelled_dataset": (),
        "predicted_labels": ("label_model",),
        "image_catalog": ("predicted_labels",),
    }
    stale = StaleRows("predicted_labels", DAY, CODE, 1)
    forecasts = [
        DayForecast("labelled_dataset", DAY, (), 3),
        DayForecast("predicted_labels", DAY, (stale,), 2),
        DayForecast("image_catalog", DAY, (), 4),
        DayForecast("image_catalog", NEXT_DAY, (), 0),
    ]
    assert [found.stale for found in renew_model(forecasts, deps, "label_model")] == [
        (),
        (stale, StaleRows("predicted_labels", DAY, MODEL, 2, is_at_most=True)),
        (StaleRows("image_catalog", DAY, UPSTREAM, 4, is_at_most=True),),
        (),
    ]


# A chain of three tables, each of which makes of a row further up a row of its own, or none.
Contents = dict[str, int]
contents = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5))
makers: list[Callable[[int], int | None]] = [
    lambda content: content,
    lambda content: content // 2,
    lambda content: content if content % 3 else None,
]


@dataclass
class Chain:
    """Three tables that follow from one another, as a run finds them."""

    tables: dict[str, pa.Table]

    def want(self, table: str, upstream: str | None, maker: Callable[[int], int | None]) -> pa.Table:
        """Return the rows that a table should hold, by what stands further up."""
        if upstream is None:
            return self.tables["landed"]
        rows = self.tables[upstream].to_pylist()
        made = {row["image_id"]: maker(int(row["content"])) for row in rows}
        return make_rows({image: content for image, content in made.items() if content is not None}, code=table)


CHAIN = ("cleansed_images", "near_duplicates", "image_catalog")


@given(
    st.lists(contents, min_size=4, max_size=4),
    st.lists(st.sampled_from(makers), min_size=2, max_size=2),
    st.booleans(),
)
def test_a_run_computes_what_is_certain_and_no_more_than_at_most(
    drawn: list[Contents],
    made: list[Callable[[int], int | None]],
    force: bool,  # noqa: FBT001
) -> None:
    held = {table: make_rows(rows, code=table) for table, rows in zip(CHAIN, drawn, strict=False)}
    chain = Chain(held | {"landed": make_rows(drawn[3], code=CHAIN[0])})
    steps = list(zip(CHAIN, (None, *CHAIN), (makers[0], *made), strict=False))
    stages = [make_stage(chain.tables[table], chain.want(table, up, maker), table) for table, up, maker in steps]
    forecasts = {found.table: found for found in forecast_day(DAY, stages, force=force)}

    for stage, (table, up, maker) in zip(stages, steps, strict=True):
        alone = plan_day(stage.current, stage.wanted, "image_id", force=force)
        certain = [stale for stale in forecasts[table].stale if not stale.is_at_most]
        assert sum(stale.rows for stale in certain) == alone.stale.num_rows + len(alone.dropped)

        plan = plan_day(chain.tables[table], chain.want(table, up, maker), "image_id", force=force)
        done = {*plan.stale.column("image_id").to_pylist(), *plan.dropped}
        assert len(done) <= sum(stale.rows for stale in forecasts[table].stale)
        standing = keep_standing_rows(chain.tables[table], plan, "image_id")
        chain.tables[table] = pa.concat_tables([standing, plan.stale])


def make_commit(seconds: float, computed: int, amended: int = 0) -> dict[str, str]:
    return {CPU_SECONDS: f"{seconds}", ROWS_COMPUTED: f"{computed}", ROWS_AMENDED: f"{amended}"}


def test_a_row_costs_what_rows_of_past_commits_did() -> None:
    assert estimate_row_costs([make_commit(1, 10), make_commit(3, 30)]) == RowCosts(computed=0.1)


def test_amended_rows_have_a_cost_of_their_own() -> None:
    history = [make_commit(1, 10), make_commit(0.5, 0, 50), make_commit(2, 20, 1000), make_commit(0.1, 0, 0)]
    assert estimate_row_costs(history) == RowCosts(computed=0.1, amended=0.01)


def test_a_table_without_measured_commits_has_an_unknown_cost() -> None:
    assert estimate_row_costs([]) == estimate_row_costs([{"farmy.run-id": "x"}]) == RowCosts()


def test_only_the_last_fifty_commits_count() -> None:
    assert estimate_row_costs([make_commit(99, 1), *[make_commit(1, 1)] * 50]) == RowCosts(computed=1)


COSTS = {"cleansed_images": RowCosts(computed=0.5, amended=0.1)}
STALE = StaleRows("cleansed_images", DAY, SETTINGS, 10, amended=5)


@pytest.mark.parametrize(
    ("stale", "seconds"),
    [
        (STALE, 3.0),
        (StaleRows("cleansed_images", DAY, DROPPED, 1000), 0.0),
        (StaleRows("near_duplicates", DAY, CODE, 1), None),
        (StaleRows("near_duplicates", DAY, DROPPED, 1), 0.0),
    ],
)
def test_rows_are_estimated_by_what_is_done_to_them(stale: StaleRows, seconds: float | None) -> None:
    assert Plan((stale,), COSTS, 1).estimate(stale) == seconds


def test_a_cost_that_is_half_known_is_unknown() -> None:
    assert RowCosts(computed=0.5).estimate(STALE) is None
    assert RowCosts(amended=0.5).estimate(STALE) is None


def make_plan() -> Plan:
    return Plan(
        (
            StaleRows("raw_images", NEXT_DAY, BYTES, 7),
            STALE,
            StaleRows("cleansed_images", NEXT_DAY, SETTINGS, 10),
            StaleRows("cleansed_images", NEXT_DAY, UPSTREAM, 7, is_at_most=True),
        ),
        COSTS,
        days=2,
        days_left=3,
    )


def test_the_days_of_an_asset_are_put_together_by_reason() -> None:
    totals = [(total.asset, total.reason, total.rows, total.days, total.cpu_seconds) for total in make_plan().totals]
    assert totals == [
        ("raw_images", BYTES, 7, 1, None),
        ("cleansed_images", SETTINGS, 20, 2, 8.0),
        ("cleansed_images", UPSTREAM, 7, 1, 3.5),
    ]


def test_the_assets_of_a_day_are_put_together() -> None:
    found = {day: (rows.certain, rows.at_most) for day, rows in make_plan().rows_by_day.items()}
    assert found == {DAY: (10, 10), NEXT_DAY: (17, 24)}


def test_a_plan_is_summed_up_with_what_is_unknown_named() -> None:
    plan = make_plan()
    assert (plan.rows, plan.waiting_arrivals) == (27, 7)
    assert (plan.cpu_seconds, plan.cpu_seconds_at_most, plan.unmeasured) == (8.0, 11.5, ["raw_images"])


def test_a_page_shows_the_plan_with_its_moment_and_what_it_left_out() -> None:
    text = describe_plan(make_plan(), NOON)
    assert "as of 2026-11-02 12:00 UTC, 2 of 5 days" in text
    assert "Reload definitions" in text
    assert "| cleansed_images | upstream | at most 7 | 1 | 3.5 |" in text
    assert "| raw_images | bytes | 7 | 1 | unknown |" in text
    assert "3 older days were not looked at" in text
    assert "raw_images." in text


def test_a_page_says_that_there_is_nothing_to_do() -> None:
    assert describe_plan(Plan((), {}, 5), NOON).endswith("Everything is up to date.")


def test_a_page_does_not_say_that_days_are_up_to_date_that_nobody_looked_at() -> None:
    text = describe_plan(Plan((), {}, 2, days_left=3), NOON)
    assert "2 of 5 days" in text
    assert text.endswith("All that was looked at is up to date.")


def test_a_job_shows_the_part_of_a_plan_that_is_about_its_assets() -> None:
    part = select_assets(make_plan(), {"raw_images"})
    assert [stale.asset for stale in part.stale] == ["raw_images"]
    assert (part.days, part.days_left) == (2, 3)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "unknown"), (0.0, "0"), (0.004321, "0.0043"), (12.34, "12"), (12345.6, "12,346")]
)
def test_seconds_are_told_as_precisely_as_they_are_known(seconds: float | None, text: str) -> None:
    assert describe_seconds(seconds) == text
