"""Tasks: which images are put before people, before whom, and with what guess of a model."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.phases import ANNOTATING
from lakehouse.predicted_labels import LABEL_MODEL
from lakehouse.quality import CLEAN
from lakehouse.schemas import ANNOTATION_TASKS, TASK_PRE_LABELS


def select_images_to_annotate(cleansed: pa.Table, near_duplicates: pa.Table) -> pa.Table:
    """Select the clean leaders of near-duplicate groups, in the order of their arrival.

    Args:
        cleansed: `cleansed_images` of a day.
        near_duplicates: `near_duplicates` of the same day.

    Returns:
        `image_id, ingest_date, standard_key, image_width_px, image_height_px`.
    """
    is_leader = pc.equal(near_duplicates.column("image_id"), near_duplicates.column("leader_image_id"))
    leaders = near_duplicates.filter(is_leader).column("image_id")
    wanted = pc.and_(
        pc.equal(cleansed.column("status"), CLEAN),
        pc.is_in(cleansed.column("image_id"), value_set=leaders.combine_chunks()),
    )
    chosen = cleansed.filter(wanted).sort_by([("landed_at", "ascending"), ("image_id", "ascending")])
    columns = ["image_id", "ingest_date", "standard_key", "standard_width_px", "standard_height_px"]
    return chosen.select(columns).rename_columns([*columns[:3], "image_width_px", "image_height_px"])


def assign_annotators(image_id: str, annotators: Sequence[str], overlap: int) -> list[str]:
    """Choose who answers a task: the annotators with the highest hash of image and name (rendezvous hashing).

    The choice depends on nothing else, so that a repeated run chooses the same, load spreads evenly, and a person who
    joins or leaves moves only that person's share.

    Returns:
        At most `overlap` user names, sorted.
    """
    ranked = sorted(annotators, key=lambda name: hashlib.sha256(f"{image_id}\n{name}".encode()).digest(), reverse=True)
    return sorted(ranked[:overlap])


def select_pre_labels(
    tasks: pa.Table,
    predicted: pa.Table,
    standing: pa.Table,
    closed_image_ids: Collection[str],
    class_ids: Collection[str],
) -> pa.Table:
    """Select the guess to show on each task: the label model's, or the image model's where that is all there is.

    A task that people have closed keeps the guess that they saw.

    Args:
        tasks: `annotation_tasks` of a day.
        predicted: `predicted_labels` of the same day, of any number of models and ranks.
        standing: `task_pre_labels` as it is.
        closed_image_ids: Images whose task is complete or contested.
        class_ids: The project's classes; a guess of another one cannot be shown.

    Returns:
        The columns of `task_pre_labels` without the fingerprint; no row for a task without any guess.
    """
    guesses = {row["image_id"]: row for row in standing.to_pylist() if row["image_id"] in closed_image_ids}
    for row in _list_guesses(predicted):
        if row["image_id"] not in closed_image_ids and row["class_id"] in class_ids:
            guesses.setdefault(row["image_id"], row)
    rows = [
        {name: task[name] for name in ("image_id", "ingest_date", "task_id", "project_id")}
        | {name: guesses[task["image_id"]][name] for name in ("class_id", "confidence", "model_name", "model_version")}
        | {"priority": 1 - guesses[task["image_id"]]["confidence"]}
        for task in tasks.to_pylist()
        if task["image_id"] in guesses
    ]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([field for field in TASK_PRE_LABELS if field.name != "fingerprint"])
    )


def list_closed_images(labelled: pa.Table) -> set[str]:
    """Return the images whose task people have closed: `image_id, phase` of `labelled_dataset`."""
    pairs = zip(labelled.column("image_id").to_pylist(), labelled.column("phase").to_pylist(), strict=True)
    return {image_id for image_id, phase in pairs if phase != ANNOTATING}


def build_tasks(
    images: pa.Table, task_ids: Mapping[str, int], project_id: int, assignees: Mapping[str, Sequence[str]]
) -> pa.Table:
    """Return the rows of `annotation_tasks`.

    Args:
        images: Rows of `select_images_to_annotate` with their fingerprint.
        task_ids: Label Studio task of each image.
        project_id: Label Studio project.
        assignees: Who was asked to answer each image's task.
    """
    rows = [
        image
        | {
            "task_id": task_ids[image["image_id"]],
            "project_id": project_id,
            "assignees": list(assignees[image["image_id"]]),
        }
        for image in images.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=ANNOTATION_TASKS)


def _list_guesses(predicted: pa.Table) -> list[dict[str, Any]]:
    """Return the predictions that name a class of the project, the label model's and the more probable first."""
    guesses = predicted.filter(pc.is_valid(predicted.column("class_id"))).to_pylist()
    return sorted(guesses, key=lambda row: (row["model_name"] != LABEL_MODEL, row["rank"]))
