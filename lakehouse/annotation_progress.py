"""Progress of annotation: from tasks that changed in Label Studio to notes, and from notes to rows of `annotations`.

Polling overlaps, because a server's clock and its commits are not one: what was seen within the overlap is
remembered, so that nothing is missed and nothing is taken for new twice.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.annotations import ChangedTask, TaskAnswers, flatten_answers
from lakehouse.errors import SchemaMismatchError
from lakehouse.fingerprints import hash_values
from lakehouse.schemas import ANNOTATIONS

PROGRESS_NOTES = "inbox/annotations/"
OVERLAP = timedelta(seconds=30)


@dataclass(frozen=True)
class ProgressCursor:
    """How far changes in Label Studio were followed.

    Attributes:
        newest: The newest change seen; None before the first.
        seen: Tasks that changed within the overlap before it, and when.
    """

    newest: datetime | None = None
    seen: Mapping[int, datetime] = field(default_factory=dict)

    @property
    def since(self) -> datetime | None:
        """From when on to ask for changes."""
        return None if self.newest is None else self.newest - OVERLAP

    def encode(self) -> str:
        """Return the cursor as text."""
        seen = {str(task_id): updated_at.isoformat() for task_id, updated_at in sorted(self.seen.items())}
        return json.dumps({"newest": self.newest and self.newest.isoformat(), "seen": seen})

    @classmethod
    def decode(cls, text: str | None) -> "ProgressCursor":
        """Return the cursor that a text holds; the first one for None."""
        if text is None:
            return cls()
        fields = json.loads(text)
        newest = fields["newest"] and datetime.fromisoformat(fields["newest"])
        return cls(newest, {int(task_id): datetime.fromisoformat(at) for task_id, at in fields["seen"].items()})


def select_progress(cursor: ProgressCursor, changed: Iterable[ChangedTask]) -> tuple[list[ChangedTask], ProgressCursor]:
    """Decide which changed tasks are news, and where the next poll goes on.

    Args:
        cursor: How far changes were followed before.
        changed: Tasks that changed at or after `cursor.since`.
    """
    listed = list(changed)
    news = [task for task in listed if cursor.seen.get(task.task_id) != task.updated_at]
    newest = max(
        [task.updated_at for task in listed] + ([] if cursor.newest is None else [cursor.newest]), default=None
    )
    if newest is None:
        return [], cursor
    seen = dict(cursor.seen) | {task.task_id: task.updated_at for task in listed}
    return news, ProgressCursor(newest, {task_id: at for task_id, at in seen.items() if at >= newest - OVERLAP})


def build_progress_note_key(task: ChangedTask) -> str:
    """Return the key of the note that says a task changed; one change has one key."""
    return f"{PROGRESS_NOTES}{task.ingest_date}/{task.task_id}-{task.updated_at:%Y%m%dT%H%M%S%f}.json"


def parse_progress_note_key(key: str) -> int:
    """Return the task that a note tells of.

    Raises:
        SchemaMismatchError: If the key is not a note's.
    """
    task_id = key.rpartition("/")[2].partition("-")[0]
    if not task_id.isdigit():
        raise SchemaMismatchError(f"The note {key} is not one that Farmy wrote: delete it.")
    return int(task_id)


def combine_answers(
    standing: pa.Table,
    answers: Sequence[TaskAnswers],
    changed_task_ids: Collection[int],
    image_sizes: Mapping[str, tuple[int, int]],
    code_version: str,
) -> tuple[pa.Table, tuple[str, ...]]:
    """Return a day's rows of `annotations` with the changed tasks' answers as they are now, and what was odd.

    Args:
        standing: The day's rows as they are.
        answers: All answers of the changed tasks; a task that is gone has none.
        changed_task_ids: The changed tasks.
        image_sizes: Width and height in pixels of each image that was put before people.
        code_version: Version of the translation.
    """
    changed = pa.array(sorted(changed_task_ids), pa.int64())
    untouched = standing.filter(pc.invert(pc.is_in(standing.column("task_id"), value_set=changed)))
    flat = flatten_answers([task for task in answers if task.image_id in image_sizes], image_sizes)
    return pa.concat_tables([untouched, _with_image_fingerprints(flat.table, code_version)]), flat.problems


def _with_image_fingerprints(rows: pa.Table, code_version: str) -> pa.Table:
    """Give all rows of an image one fingerprint over all of them: an image's answers are replaced together."""
    marks: dict[str, list[str]] = {}
    for row in rows.to_pylist():
        marks.setdefault(row["image_id"], []).append(hash_values(*row.values()))
    prints = {image_id: hash_values(code_version, *sorted(hashes)) for image_id, hashes in marks.items()}
    column = pa.array([prints[image_id] for image_id in rows.column("image_id").to_pylist()], pa.string())
    return rows.append_column("fingerprint", column).select(ANNOTATIONS.names).cast(ANNOTATIONS)


def list_image_sizes(tasks: pa.Table) -> dict[str, tuple[int, int]]:
    """Return width and height in pixels of the image of each task: rows of `annotation_tasks`."""
    names = ("image_id", "image_width_px", "image_height_px")
    columns = (tasks.column(name).to_pylist() for name in names)
    return {image_id: (width, height) for image_id, width, height in zip(*columns, strict=True)}


def list_progress_notes_prefix(day: date) -> str:
    """Return the prefix of a day's notes."""
    return f"{PROGRESS_NOTES}{day}/"
