"""The image catalog: one row per image as it stands across all stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.phases import COMPLETE, QUEUED
from lakehouse.predicted_labels import LABEL_MODEL
from lakehouse.schemas import IMAGE_CATALOG

_OF_ARRIVAL = (
    *("image_id", "ingest_date", "source", "object_key", "landed_at", "size_bytes"),
    *("licence", "consent", "retain_until", "withdrawal"),
)


@dataclass(frozen=True)
class DayTables:
    """All that is known of one day's images, each table as its schema says."""

    raw_images: pa.Table
    cleansed_images: pa.Table
    near_duplicates: pa.Table
    annotation_tasks: pa.Table
    labelled_dataset: pa.Table
    predicted_labels: pa.Table


def build_image_catalog(day: DayTables) -> pa.Table:
    """Join a day's tables: one row per image whose first arrival was on that day.

    Returns:
        The columns of `image_catalog` without the fingerprint, by image id.
    """
    cleansed = _by_image(day.cleansed_images)
    leaders = _by_image(day.near_duplicates)
    tasks = _by_image(day.annotation_tasks)
    labels = _by_image(day.labelled_dataset.filter(pc.equal(day.labelled_dataset.column("kind"), "choice")))
    answered = _by_image(day.labelled_dataset)
    guesses = _find_best_guesses(day.predicted_labels)
    rows = []
    for raw in day.raw_images.filter(day.raw_images.column("is_first")).to_pylist():
        image_id = raw["image_id"]
        cleaned = cleansed.get(image_id, {})
        label = labels.get(image_id, {})
        is_accepted = bool(label) and not label["is_conflict"] and label["phase"] == COMPLETE
        guess = guesses.get(image_id, {})
        rows.append(
            {name: raw[name] for name in _OF_ARRIVAL}
            | {
                name: cleaned.get(name)
                for name in ("status", "reason", "format", "width_px", "height_px", "brightness_mean", "edge_sharpness")
            }
            | {
                "leader_image_id": leaders.get(image_id, {}).get("leader_image_id"),
                "task_id": tasks.get(image_id, {}).get("task_id"),
                "phase": answered.get(image_id, {}).get("phase", QUEUED) if image_id in tasks else None,
                "annotators_answered": answered.get(image_id, {}).get("votes_total"),
                "label_class_id": label["class_id"] if is_accepted else None,
                "label_confidence": label["confidence"] if is_accepted else None,
                "predicted_label": guess.get("label"),
                "predicted_class_id": guess.get("class_id"),
                "predicted_confidence": guess.get("confidence"),
                "predicted_by": f"{guess['model_name']} {guess['model_version']}" if guess else None,
                "standard_key": cleaned.get("standard_key"),
                "thumbnail_key": cleaned.get("thumbnail_key"),
            }
        )
    schema = pa.schema([field for field in IMAGE_CATALOG if field.name != "fingerprint"])
    return pa.Table.from_pylist(rows, schema=schema).sort_by("image_id")


def _by_image(table: pa.Table) -> Mapping[str, dict[str, Any]]:
    return {row["image_id"]: row for row in table.to_pylist()}


def _find_best_guesses(predicted: pa.Table) -> Mapping[str, dict[str, Any]]:
    """Return the first label of each image by the project's own model, or by the packaged one where that is all."""
    firsts = predicted.filter(pc.equal(predicted.column("rank"), 1)).to_pylist()
    own_last = sorted(firsts, key=lambda row: row["model_name"] == LABEL_MODEL)
    return {row["image_id"]: row for row in own_last}
