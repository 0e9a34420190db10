"""`farmy status`: where everything stands."""

from collections import Counter
from typing import Any

import click

from adapters import inbox
from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import console, json_option, print_table, report
from lakehouse.schemas import TABLES

_HEADINGS = {
    "raw_images": "landed",
    "cleansed_images": "cleansed",
    "near_duplicates": "grouped",
    "annotation_tasks": "tasks",
    "annotations": "marks",
    "labelled_dataset": "labels",
    "predicted_labels": "predicted",
    "task_pre_labels": "pre-labels",
    "image_catalog": "catalogue",
}


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show rows by day and stage, open conflicts, what is stale and what waits.

    Example: farmy status --json
    """
    with Lake(load_settings()) as lake:
        result = read_status(lake)
    report(as_json, result, _show)


def read_status(lake: Lake) -> dict[str, Any]:
    """Return counts by day and stage, conflicts, stale rows, waiting notes, and the newest model and releases."""
    from farmy_assets.stages import count_stale_rows

    counts = {
        name: Counter(lake.tables.read(name, columns=["ingest_date"]).column("ingest_date").to_pylist())
        for name, table in TABLES.items()
        if table.is_partitioned
    }
    arrivals, progress = inbox.list_days_with_arrivals(lake), inbox.list_days_with_progress(lake)
    days = sorted({*counts["raw_images"], *arrivals, *progress})
    stale = {day: sum(count_stale_rows(lake, day).values()) for day in days}
    labelled = lake.tables.read("labelled_dataset", columns=["image_id", "is_conflict"])
    contested = labelled.filter(labelled.column("is_conflict")).column("image_id").unique()
    return {
        "days": [
            {"day": day.isoformat(), **{name: counts[name][day] for name in counts}, "stale": stale[day]}
            for day in days
        ],
        "objects_parked": [parked.object_key for parked in inbox.list_parked(lake)],
        "waiting": sorted({day.isoformat() for day in (*arrivals, *progress)}),
        "images_in_conflict": len(contested),
        "label_model": lake.label_models.newest_version,
        "releases": [row["name"] for row in lake.releases.list()],
    }


def _show(result: dict[str, Any]) -> None:
    print_table(None, [{_HEADINGS.get(name, name): value for name, value in row.items()} for row in result["days"]])
    console.print(f"Images in conflict: {result['images_in_conflict']}")
    console.print(f"Days with notes that wait for a run: {', '.join(result['waiting']) or 'none'}")
    if result["objects_parked"]:
        console.print(f"Objects that cannot be taken in: {len(result['objects_parked'])}, `farmy doctor` says why")
    console.print(f"Label model: {result['label_model'] or 'none yet'}")
    console.print(f"Releases: {', '.join(result['releases']) or 'none yet'}")
