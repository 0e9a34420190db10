"""What a run would do, against what it then does, over real temporary storage."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from adapters import inbox
from adapters.lake import Lake
from cli.runs import run_assets
from farmy_assets import stages
from farmy_assets.day_runs import DayOutcome
from farmy_assets.reprocessing import plan_run
from farmy_assets.stages import find_work
from lakehouse import cleansed_images
from lakehouse.fingerprints import CODE, MODEL, SETTINGS, UPSTREAM
from lakehouse.near_duplicates import NearDuplicateSettings
from lakehouse.quality import CleansingRecipe, QualitySettings, SuspectLimits
from lakehouse.reprocessing import BYTES, CPU_SECONDS, FORCED, Plan
from tests.graph.lakes import (
    DAY_1,
    DAY_2,
    IMAGE_TABLES,
    land,
    list_notes,
    list_snapshots,
    make_picture,
    open_lake,
    recompress,
    take_in,
)

DAYS = [DAY_1, DAY_2]
SUSPICIOUS = QualitySettings(suspect=SuspectLimits(min_edge_px=5000))


def fill(lake: Lake) -> None:
    """Land five pictures on two days, one of them nearly another, and bring both days up to date."""
    for number in (1, 2):
        land(lake, f"{number}.jpg", make_picture(number), DAY_1)
    for number in (3, 4):
        land(lake, f"{number}.jpg", make_picture(number), DAY_2)
    land(lake, "near.jpg", recompress(make_picture(1)), DAY_2)
    take_in(lake, DAYS)


@contextmanager
def reopen(lake: Lake, **settings: Any) -> Iterator[Lake]:
    with open_lake(lake.settings.home, **settings) as reopened:
        yield reopened


def list_stale(planned: Plan) -> set[tuple[str, date | None, str, int, bool]]:
    return {(stale.asset, stale.day, stale.reason, stale.rows, stale.is_at_most) for stale in planned.stale}


def count_done(outcomes: Sequence[DayOutcome]) -> dict[tuple[str, date], int]:
    """Return how many rows a run computed, amended and dropped, by asset and day, where there were any."""
    done = {(one.table, one.day): one.computed + one.amended + one.dropped for one in outcomes}
    return {key: rows for key, rows in done.items() if rows}


def count_planned(planned: Plan, *, at_most: bool) -> dict[tuple[str, date], int]:
    rows: dict[tuple[str, date], int] = {}
    for stale in planned.stale:
        if stale.day is not None and (at_most or not stale.is_at_most):
            rows[stale.asset, stale.day] = rows.get((stale.asset, stale.day), 0) + stale.rows
    return rows


def test_where_everything_is_up_to_date_there_is_nothing_to_plan(lake: Lake) -> None:
    fill(lake)
    assert plan_run(lake, DAYS, IMAGE_TABLES) == Plan((), {}, days=2)


def test_a_plan_changes_nothing(lake: Lake) -> None:
    fill(lake)
    land(lake, "5.jpg", make_picture(5), DAY_2)
    inbox.note_all_arrivals(lake)
    before = (list_snapshots(lake), list_notes(lake), sorted(fact.key for fact in lake.objects.list("")))
    with reopen(lake, quality=SUSPICIOUS) as changed:
        plan_run(changed, DAYS, force=True)
    assert (list_snapshots(lake), list_notes(lake), sorted(fact.key for fact in lake.objects.list(""))) == before


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "limit": ({"quality": SUSPICIOUS}, SETTINGS),
    "recipe": ({"cleansing": CleansingRecipe(standard_edge_px=256)}, SETTINGS),
    "both": ({"quality": SUSPICIOUS, "cleansing": CleansingRecipe(standard_edge_px=256)}, SETTINGS),
    "distance": ({"near_duplicates": NearDuplicateSettings(max_distance=0, max_detail_distance=0)}, UPSTREAM),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_asset_that_is_run_alone_computes_exactly_what_is_planned(lake: Lake, change: str) -> None:
    fill(lake)
    settings, reason = CHANGES[change]
    with reopen(lake, **settings) as changed:
        for asset in IMAGE_TABLES:
            planned = plan_run(changed, DAYS, [asset])
            assert not any(stale.is_at_most for stale in planned.stale)
            assert {stale.reason for stale in planned.stale} <= {reason, UPSTREAM, "dropped"}
            outcomes = run_assets(changed, DAYS, [asset])
            assert count_planned(planned, at_most=False) == count_done(outcomes)
            assert sum(stale.amended for stale in planned.stale) == sum(outcome.amended for outcome in outcomes)


@pytest.mark.parametrize("change", CHANGES)
def test_a_whole_run_computes_what_is_certain_and_no_more_than_at_most(lake: Lake, change: str) -> None:
    fill(lake)
    land(lake, "5.jpg", make_picture(5), DAY_2)
    inbox.note_all_arrivals(lake)
    with reopen(lake, **CHANGES[change][0]) as changed:
        planned = plan_run(changed, DAYS, IMAGE_TABLES)
        done = count_done(run_assets(changed, DAYS, IMAGE_TABLES))
    at_most = count_planned(planned, at_most=True)
    assert set(done) <= set(at_most)
    assert all(done[key] <= at_most[key] for key in done)
    assert all(rows <= done.get(key, 0) for key, rows in count_planned(planned, at_most=False).items())


def test_a_limit_only_has_images_judged_again_and_costs_what_that_did_before(lake: Lake) -> None:
    fill(lake)
    with reopen(lake, quality=SUSPICIOUS) as changed:
        first = plan_run(changed, DAYS, ["cleansed_images"])
        assert [(stale.rows, stale.amended) for stale in first.stale] == [(2, 2), (3, 3)]
        assert first.unmeasured == ["cleansed_images"]
        run_assets(changed, DAYS, ["cleansed_images"])
    again = plan_run(lake, DAYS, ["cleansed_images"])
    decoded = plan_run(lake, DAYS, ["cleansed_images"], force=True)
    assert again.unmeasured == decoded.unmeasured == []
    costs = decoded.costs["cleansed_images"]
    assert costs.amended is not None
    assert costs.computed is not None
    assert again.cpu_seconds == pytest.approx(5 * costs.amended)
    assert decoded.cpu_seconds == pytest.approx(5 * costs.computed)


def test_arrivals_that_wait_are_counted_with_what_they_may_bring(lake: Lake) -> None:
    fill(lake)
    land(lake, "5.jpg", make_picture(5), DAY_2)
    land(lake, "6.jpg", make_picture(6), DAY_2)
    inbox.note_all_arrivals(lake)
    planned = plan_run(lake, DAYS, IMAGE_TABLES)
    assert planned.waiting_arrivals == 2
    assert list_stale(planned) == {
        ("raw_images", DAY_2, BYTES, 2, False),
        *((asset, DAY_2, UPSTREAM, 2, True) for asset in IMAGE_TABLES[1:]),
    }


def test_a_raised_version_of_the_code_is_told_as_such(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake)
    monkeypatch.setattr(cleansed_images, "CODE_VERSION", "2.2")
    stale = list_stale(plan_run(lake, DAYS, ["cleansed_images"]))
    assert stale == {("cleansed_images", DAY_1, CODE, 2, False), ("cleansed_images", DAY_2, CODE, 3, False)}


def test_another_class_makes_predictions_stale_by_settings_and_another_model_by_the_model(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake)
    run_assets(lake, DAYS, ["predicted_labels"])
    classes = (replace(lake.settings.classes[0], name="Another name"), *lake.settings.classes[1:])
    with reopen(lake, classes=classes) as changed:
        reasons = {stale.reason for stale in plan_run(changed, DAYS, ["predicted_labels"]).stale}
        assert reasons == {SETTINGS}
    monkeypatch.setattr(type(lake.label_models), "newest_version", "another")
    assert {stale.reason for stale in plan_run(lake, DAYS, ["predicted_labels"]).stale} == {MODEL}


def test_force_plans_every_row(lake: Lake) -> None:
    fill(lake)
    planned = plan_run(lake, DAYS, IMAGE_TABLES[1:], force=True)
    outcomes = run_assets(lake, DAYS, IMAGE_TABLES[1:], force=True)
    assert {stale.reason for stale in planned.stale} == {FORCED}
    assert count_planned(planned, at_most=False) == count_done(outcomes)


def test_what_a_commit_cost_stands_in_its_snapshot(lake: Lake) -> None:
    fill(lake)
    for asset in IMAGE_TABLES:
        for _, _, summary in lake.tables.read_history(asset):
            assert 0 <= float(summary[CPU_SECONDS]) < 60
            assert int(summary["farmy.rows-computed"]) > 0
    assert plan_run(lake, DAYS, IMAGE_TABLES, force=True).cpu_seconds > 0


def test_of_many_days_the_newest_are_looked_at_in_the_time_there_is(lake: Lake) -> None:
    fill(lake)
    with reopen(lake, quality=SUSPICIOUS) as changed:
        none = plan_run(changed, DAYS, IMAGE_TABLES, within_s=-1)
        assert (none.stale, none.days, none.days_left) == ((), 0, 2)
        seen: list[date] = []
        assert plan_run(changed, DAYS, IMAGE_TABLES, within_s=600, on_day=seen.append).days_left == 0
        assert seen == [DAY_2, DAY_1]


def test_where_nothing_was_to_do_no_day_is_looked_at_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake)
    assert find_work(lake, DAYS, IMAGE_TABLES) is None
    seen: list[date] = []
    assert plan_run(lake, DAYS, IMAGE_TABLES, on_day=seen.append) == Plan((), {}, days=2)
    assert seen == []
    newer = tuple(replace(stage, code_version="99") for stage in stages.STAGES)
    monkeypatch.setattr(stages, "STAGES", newer)
    plan_run(lake, DAYS, IMAGE_TABLES, on_day=seen.append)
    assert seen == [DAY_2, DAY_1]
