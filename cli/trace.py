"""`farmy trace`: everything that ever happened to one image."""

from datetime import UTC, date, datetime
from typing import Any

import click

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import console, json_option, print_table, report
from lakehouse.errors import NotFoundError

_STAGES = (
    "cleansed_images",
    "near_duplicates",
    "annotation_tasks",
    "annotations",
    "labelled_dataset",
    "predicted_labels",
    "task_pre_labels",
)

_SHOWN = {
    "arrivals": ("landed_at", "source", "object_key", "size_bytes", "is_first", "licence", "consent", "withdrawal"),
    "cleansed_images": (
        *("status", "reason", "format", "width_px", "height_px", "captured_at_local", "camera_model"),
        *("edge_sharpness", "detail_brightness", "burnt_share"),
    ),
    "near_duplicates": ("leader_image_id", "leader_ingest_date", "distance"),
    "annotation_tasks": ("task_id", "project_id", "assignees"),
    "annotations": ("annotator", "kind", "class_id", "updated_at", "lead_time_s"),
    "labelled_dataset": ("label_id", "class_id", "votes_for", "votes_total", "phase", "conflict_reason"),
    "predicted_labels": ("model_name", "model_version", "rank", "label", "class_id", "confidence"),
    "task_pre_labels": ("class_id", "confidence", "model_name", "model_version"),
    "releases": ("release", "split"),
    "runs": ("at", "table", "run_id", "code_version"),
}
"""What a person is shown of each part; `--json` has it all."""


@click.command()
@click.argument("image_id")
@json_option
def trace(image_id: str, *, as_json: bool) -> None:
    """Tell everything that ever happened to one image, with the runs that did it.

    The first characters of the id do where they are unique.

    Example: farmy trace 3f786850
    """
    with Lake(load_settings()) as lake:
        history = read_history(lake, image_id)
    report(as_json, history, _show)


def read_history(lake: Lake, beginning: str) -> dict[str, Any]:
    """Return an image's arrivals, its rows in every stage, its near duplicates, its releases, and the runs of its day.

    Raises:
        NotFoundError: If no arrival of it was taken in.
    """
    image_id = lake.index.find_image(beginning)
    where = {"image_id": [image_id]}
    arrivals = lake.tables.read("raw_images", where=where).sort_by("landed_at").to_pylist()
    if not arrivals:
        raise NotFoundError(f"The image {image_id} was submitted and no run has taken it in yet: `farmy run` does.")
    day = arrivals[0]["first_ingest_date"]
    members = lake.tables.read("near_duplicates", where={"leader_image_id": [image_id]}).to_pylist()
    return {
        "image_id": image_id,
        "arrivals": arrivals,
        **{stage: lake.tables.read(stage, day=day, where=where).to_pylist() for stage in _STAGES},
        "nearly_equal_to_it": [row["image_id"] for row in members if row["image_id"] != image_id],
        "releases": [
            {"release": row["name"], "split": split}
            for row in lake.releases.list()
            for split in _find_splits(lake, row["name"], image_id)
        ],
        "runs": _list_runs(lake, day),
    }


def _find_splits(lake: Lake, release: str, image_id: str) -> list[str]:
    rows = lake.releases.read_manifest(release).select(["image_id", "split"]).to_pylist()
    return sorted({row["split"] for row in rows if row["image_id"] == image_id})


def _list_runs(lake: Lake, day: date) -> list[dict[str, Any]]:
    """Return the commits to the image's day, oldest first, as far as their snapshots are kept."""
    commits = [
        {
            "at": datetime.fromtimestamp(timestamp_ms / 1000, UTC),
            "table": table,
            "run_id": summary.get("farmy.run-id", ""),
            "code_version": summary.get("farmy.code-version", ""),
            "snapshot_id": snapshot_id,
        }
        for table in ("raw_images", *_STAGES, "image_catalog")
        for snapshot_id, timestamp_ms, summary in lake.tables.read_history(table)
        if summary.get("farmy.day") == day.isoformat()
    ]
    return sorted(commits, key=lambda commit: commit["at"])


def _show(history: dict[str, Any]) -> None:
    console.print(f"[bold]{history['image_id']}[/]")
    for name, columns in _SHOWN.items():
        if history[name]:
            console.print()
            rows = [{column: _shorten(row[column]) for column in columns} for row in history[name]]
            print_table(name.replace("_", " ").capitalize(), rows)
    if history["nearly_equal_to_it"]:
        console.print(f"\nNearly equal to it: {', '.join(map(_shorten, history['nearly_equal_to_it']))}")


def _shorten(value: Any) -> Any:  # noqa: ANN401
    """Cut an image id or a run id to what tells it apart."""
    is_long_id = isinstance(value, str) and len(value) in {36, 64} and "/" not in value
    return value[:12] if is_long_id else value
