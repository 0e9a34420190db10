"""What follows every fault: things run again and reconcile runs; then nothing may differ from an undisturbed lake."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from adapters import inbox
from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, update_day
from farmy_assets.reconciliation import Reconciliation, reconcile_lake
from farmy_assets.stages import STAGES
from tests.graph.lakes import IMAGE_TABLES, list_notes

IMAGE_STAGES = tuple(stage for stage in STAGES if stage.table in IMAGE_TABLES)
WHEN_ORPHANS_ARE_OLD = datetime.now(UTC) + timedelta(days=30)
"""A time at which reconcile reports originals that no row names, and does not take them for those of a run."""
_ROUNDS = 6
"""Rounds of runs after which notes that still wait will never be taken in, or of reconciles that find something."""
Rows = dict[str, list[str]]


def run_day(lake: Lake, day: date, stages: Sequence[DayStage] = IMAGE_STAGES) -> None:
    """Bring one day up to date as `images_job` does, without Dagster's records."""
    for stage in stages:
        update_day(lake, stage, day, run_id="a run")


def run_waiting_days(lake: Lake, stages: Sequence[DayStage] = IMAGE_STAGES) -> None:
    """Run the days with notes until none waits: a run may leave notes for another day.

    Newest first, as the arrivals sensor asks for them.
    """
    for _ in range(_ROUNDS):
        waiting = inbox.list_days_with_arrivals(lake)
        if not waiting:
            return
        for day in sorted(waiting, reverse=True):
            run_day(lake, day, stages)
    raise AssertionError(f"notes still wait after {_ROUNDS} rounds of runs: {list_notes(lake)}")


def recover(lake: Lake) -> Reconciliation:
    """Reconcile and run until a reconcile finds nothing to do; return what that one found.

    One reconcile need not be enough: a day's near duplicates may become stale by the run of an earlier day.
    """
    for _ in range(_ROUNDS):
        found = reconcile_lake(lake, WHEN_ORPHANS_ARE_OLD)
        if not inbox.list_days_with_arrivals(lake):
            return found
        run_waiting_days(lake)
    raise AssertionError(f"a reconcile still finds something after {_ROUNDS} others: {found}")


def read_rows(lake: Lake, tables: Sequence[str] = IMAGE_TABLES) -> Rows:
    """Return every row of the tables with all its columns, in an order of their own."""
    return {name: sorted(map(repr, lake.tables.read(name).to_pylist())) for name in tables}


def assert_recovers(lake: Lake, expected: Rows) -> None:
    """Make sure that after reconciles and runs a lake has the expected rows, and nothing is left over."""
    found = recover(lake)
    assert_equal(lake, expected)
    assert_is_at_rest(lake, found)


def assert_equal(lake: Lake, expected: Rows) -> None:
    """Make sure that a lake has the expected rows in every table."""
    rows = read_rows(lake)
    for name in IMAGE_TABLES:
        assert rows[name] == expected[name], name


def assert_nothing_is_left(lake: Lake) -> None:
    """Make sure that no note waits, nothing is parked, and that a reconcile finds everything in its place."""
    assert list_notes(lake) == []
    assert_is_at_rest(lake, reconcile_lake(lake, WHEN_ORPHANS_ARE_OLD))


def assert_is_at_rest(lake: Lake, found: Reconciliation) -> None:
    """Make sure that a reconcile found nothing to do, reports nothing, and left no note."""
    assert list_notes(lake) == [], "no note waits, nothing is parked"
    assert {name: value for name, value in found.describe().items() if value not in {0, "0", None}} == {
        "images_in_index": found.images_in_index
    }
