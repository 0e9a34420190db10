"""`farmy run`: bring days up to date without the daemon."""

from datetime import date
from typing import Any

import click

from adapters import inbox
from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import console, json_option, print_table, report
from lakehouse.errors import FarmyError
from lakehouse.schemas import LOOP

days_option = click.option("--days", metavar="A..B", help="Only these days, as 2026-11-02..2026-11-04 or 2026-11-02.")
assets_option = click.option(
    "--assets", metavar="NAMES", help=f"Only these assets, with commas between them: {', '.join(LOOP)}."
)


@click.command()
@days_option
@assets_option
@click.option("--force", is_flag=True, help="Compute rows again that are up to date.")
@json_option
def run(days: str | None, assets: str | None, *, force: bool, as_json: bool) -> None:
    """Bring days up to date: everything that is missing or stale, and nothing else.

    Looks into landing and Label Studio for what is new first, then runs the assets in their order. What it needs it
    starts by itself.

    Example: farmy run --days 2026-11-02..2026-11-04 --assets cleansed_images,near_duplicates
    """
    chosen, chosen_days = parse_assets(assets), parse_days(days)
    with Lake(load_settings()) as lake:
        result = bring_up_to_date(lake, chosen, chosen_days, force=force)
    report(as_json, result, _show)


def bring_up_to_date(
    lake: Lake, assets: tuple[str, ...], days: tuple[date, date] | None = None, *, force: bool = False
) -> dict[str, Any]:
    """Look for what is new, then run the assets over the days; return how many days there are and what changed.

    Args:
        lake: The lake.
        assets: The assets to run.
        days: First and last day; all days with images by default.
        force: Whether to compute rows again that are up to date.
    """
    from cli.runs import run_assets
    from farmy_assets.stages import find_work

    if "raw_images" in assets:
        inbox.note_all_arrivals(lake)
    failed_look = _look_at_label_studio(lake) if "annotations" in assets else None
    chosen = choose_days(lake, days)
    outcomes = []
    if chosen and (force or find_work(lake, chosen, assets) is not None):
        outcomes = run_assets(lake, chosen, assets, force=force)
    if failed_look is not None:
        raise failed_look
    changes = [
        {
            "asset": outcome.table,
            "day": outcome.day.isoformat(),
            "rows": outcome.rows,
            "computed": outcome.computed,
            "amended": outcome.amended,
            "dropped": outcome.dropped,
            "seconds": round(outcome.seconds, 2),
        }
        for outcome in outcomes
        if outcome.snapshot_id is not None
    ]
    return {"days": len(chosen), "changes": changes}


def choose_days(lake: Lake, days: tuple[date, date] | None) -> list[date]:
    """Return the days with images, those from the first to the last given one, or all."""
    from farmy_assets.stages import list_known_days

    return [day for day in list_known_days(lake) if days is None or days[0] <= day <= days[1]]


def _look_at_label_studio(lake: Lake) -> FarmyError | None:
    """Note what people answered; return what went wrong, so that a run can do first what needs no Label Studio."""
    if lake.tables.snapshot_id("annotation_tasks") is None:
        return None
    try:
        if lake.is_label_studio_up():
            inbox.note_annotation_progress(lake)
    except FarmyError as error:
        return error
    return None


def parse_assets(text: str | None) -> tuple[str, ...]:
    """Return the assets that `--assets` names, in the order in which they run; all by default."""
    if text is None:
        return LOOP
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(LOOP))
    if unknown or not names:
        found = ", ".join(unknown) or "nothing"
        raise click.BadParameter(f"{found} is not among {', '.join(LOOP)}", param_hint="--assets")
    return tuple(name for name in LOOP if name in names)


def parse_days(text: str | None) -> tuple[date, date] | None:
    """Return the first and last day that `--days` names; None for all."""
    if text is None:
        return None
    first, _, last = text.partition("..")
    try:
        days = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not 2026-11-02 or 2026-11-02..2026-11-04", param_hint="--days"
        ) from error
    if days[0] > days[1]:
        raise click.BadParameter(f"{text!r} ends before it begins", param_hint="--days")
    return days


def _show(result: dict[str, Any]) -> None:
    if result["changes"]:
        print_table(None, result["changes"])
    elif result["days"]:
        console.print("Everything is up to date.")
    else:
        console.print("There are no images yet: `farmy submit FOLDER` lands some, `farmy demo` lands the samples.")
