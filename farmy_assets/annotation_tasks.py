"""Annotation tasks: images put before people.

One row is one task in Label Studio: its project, and who is asked to answer it. Comes from the clean leaders in
`near_duplicates`; each becomes a task once, whatever is run again. Read by everything that comes back from people.
"""

from datetime import date

import pyarrow as pa

from adapters.lake import Lake
from farmy_assets.day_runs import DayStage, Wanted
from lakehouse.annotations import NewTask
from lakehouse.arrivals import list_withdrawn_images
from lakehouse.fingerprints import with_fingerprints
from lakehouse.ontology import build_labelling_interface
from lakehouse.tasks import assign_annotators, build_tasks, select_images_to_annotate

CODE_VERSION = "1"


def select_images(lake: Lake, day: date) -> Wanted:
    """Return the day's images that people should see; a changed labelling interface makes them stale."""
    images = select_images_to_annotate(
        lake.tables.read("cleansed_images", day=day), lake.tables.read("near_duplicates", day=day)
    )
    interface = build_labelling_interface(lake.settings.classes)
    settings = {"project": lake.settings.annotation.project, "interface": interface}
    return Wanted(with_fingerprints(images, ["image_id", "standard_key"], CODE_VERSION, settings))


def put_before_people(lake: Lake, stale: pa.Table) -> pa.Table:
    """Make a task of each image that has none, and record them all."""
    annotation = lake.settings.annotation
    assignees = {
        image_id: assign_annotators(image_id, annotation.annotators, annotation.overlap)
        for image_id in stale.column("image_id").to_pylist()
    }
    project_id = lake.annotation_project_id
    task_ids = lake.label_studio.find_tasks(project_id, list(assignees))
    new = [
        NewTask(
            row["image_id"],
            row["ingest_date"],
            lake.build_picture_url(row["standard_key"]),
            tuple(assignees[row["image_id"]]),
        )
        for row in stale.to_pylist()
        if row["image_id"] not in task_ids
    ]
    task_ids |= lake.label_studio.import_tasks(project_id, new)
    return build_tasks(stale, task_ids, project_id, assignees)


def withdraw_tasks(lake: Lake, dropped: pa.Table) -> None:
    """Delete the tasks of images that were taken back, with the answers to them; they stay in the tables' past.

    Tasks whose images only lost their verdict or their place as a leader stay: they may come back.
    """
    day = dropped.column("ingest_date")[0].as_py()
    raw = lake.tables.read("raw_images", day=day, columns=["image_id", "is_first", "withdrawal"])
    withdrawn = set(list_withdrawn_images(raw))
    tasks = [row for row in dropped.to_pylist() if row["image_id"] in withdrawn]
    for project_id in {row["project_id"] for row in tasks}:
        task_ids = [row["task_id"] for row in tasks if row["project_id"] == project_id]
        lake.label_studio.delete_tasks(project_id, task_ids)


STAGE = DayStage(
    table="annotation_tasks",
    description=__doc__,
    group="annotation",
    deps=("near_duplicates",),
    kind="labelstudio",
    code_version=CODE_VERSION,
    select=select_images,
    compute=put_before_people,
    retire=withdraw_tasks,
)
