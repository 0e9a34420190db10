"""`farmy plan`: what a run would do, why, and what it would cost."""

from dataclasses import asdict
from datetime import date
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import console, is_watched, json_option, notices, print_table, report
from cli.run import assets_option, choose_days, days_option, parse_assets, parse_days
from lakehouse.reprocessing import (
    DayTotal,
    Plan,
    StaleRows,
    Total,
    describe_cost,
    describe_rows,
    describe_seconds,
)

_SHOWN_ONE_BY_ONE = 40
"""Rows of a table that are still read; where there are more, days are put together."""


@click.command()
@days_option
@assets_option
@click.option("--force", is_flag=True, help="As if rows that are up to date were computed again, too.")
@json_option
def plan(days: str | None, assets: str | None, *, force: bool, as_json: bool) -> None:
    """Show which rows `farmy run` would compute, why, and the CPU seconds that it would take; change nothing.

    Reasons: bytes (new), code, settings, model, upstream (what a row is made from is another), dropped, forced. "At
    most" are rows that may turn out to be up to date once those before them are computed.

    Example: farmy plan --days 2026-11-02..2026-11-04 --assets cleansed_images,near_duplicates
    """
    chosen, chosen_days = parse_assets(assets), parse_days(days)
    with Lake(load_settings()) as lake:
        from farmy_assets.reprocessing import plan_run

        range_days = choose_days(lake, chosen_days)
        progress = Progress(
            TextColumn("Looking at days"),
            BarColumn(),
            MofNCompleteColumn(),
            console=notices,
            disable=not is_watched(),
            transient=True,
        )
        with progress:
            bar = progress.add_task("days", total=len(range_days))
            planned = plan_run(lake, range_days, chosen, force=force, on_day=lambda _day: progress.advance(bar))
    report(as_json, _encode(planned) if as_json else planned, _show)


def _encode(planned: Plan) -> dict[str, Any]:
    return {
        "days": planned.days,
        "stale": [asdict(stale) | {"cpu_seconds": planned.estimate(stale)} for stale in planned.stale],
        "waiting_arrivals": planned.waiting_arrivals,
        "rows": planned.rows,
        "cpu_seconds": planned.cpu_seconds,
        "cpu_seconds_at_most": planned.cpu_seconds_at_most,
        "unmeasured": planned.unmeasured,
    }


def _show(planned: Plan) -> None:
    if not planned.stale:
        console.print(f"Everything is up to date: {planned.days} days.")
        return
    if len(planned.stale) <= _SHOWN_ONE_BY_ONE:
        print_table(None, [_build_row(planned, stale) for stale in planned.stale])
    else:
        print_table(None, [_build_total_row(total) for total in planned.totals])
        print_table("Days", [_build_day_row(*day) for day in planned.rows_by_day.items()])
    console.print(describe_cost(planned))


def _build_row(planned: Plan, stale: StaleRows) -> dict[str, object]:
    return {
        "asset": stale.asset,
        "day": "" if stale.day is None else stale.day.isoformat(),
        "reason": stale.reason,
        "rows": describe_rows(stale),
        "CPU seconds": describe_seconds(planned.estimate(stale)),
    }


def _build_total_row(total: Total) -> dict[str, object]:
    return {
        "asset": total.asset,
        "days": total.days,
        "reason": total.reason,
        "rows": describe_rows(total),
        "CPU seconds": describe_seconds(total.cpu_seconds),
    }


def _build_day_row(day: date | None, rows: DayTotal) -> dict[str, object]:
    return {
        "day": "" if day is None else day.isoformat(),
        "rows": rows.certain,
        "at most": rows.at_most,
        "CPU seconds": describe_seconds(rows.cpu_seconds),
    }
