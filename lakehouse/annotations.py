"""What people answer: the values that travel to and from Label Studio, and their translation into flat rows in pixels.

Label Studio keeps an answer as nested JSON, boxes in percent of the image. Here it becomes one row per mark. Talking to
the server is `adapters.label_studio`; what the answers mean together is decided elsewhere.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from lakehouse.ontology import BOX_CONTROL, CHOICE_CONTROL, IMAGE_OBJECT
from lakehouse.schemas import ANNOTATIONS

CHOICE = "choice"
BOX = "box"
SKIP = "skip"
EMPTY = "empty"

FLAT_ANSWERS = pa.schema([column for column in ANNOTATIONS if column.name != "fingerprint"])

_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class Box:
    """A box as shares of the image's width and height.

    Attributes:
        x: Left edge, 0 to 1.
        y: Top edge, 0 to 1.
        width: 0 to 1.
        height: 0 to 1.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class NewTask:
    """An image to put before people.

    Attributes:
        image_id: sha256 of the original bytes.
        ingest_date: Day of the image.
        image_url: Where Label Studio finds the picture.
        assignees: Annotators asked to answer, by e-mail address.
    """

    image_id: str
    ingest_date: date
    image_url: str
    assignees: tuple[str, ...]


@dataclass(frozen=True)
class OpenTask:
    """A task that waits for one person's answer.

    Attributes:
        task_id: Label Studio task.
        image_id: The image that the task shows.
    """

    task_id: int
    image_id: str


@dataclass(frozen=True)
class ChangedTask:
    """A task that somebody touched.

    Attributes:
        task_id: Label Studio task.
        image_id: The image that the task shows.
        ingest_date: Day of the image.
        updated_at: When the task or one of its answers last changed, UTC.
    """

    task_id: int
    image_id: str
    ingest_date: date
    updated_at: datetime


@dataclass(frozen=True)
class PreLabel:
    """A model's guess to show on a task.

    Attributes:
        task_id: Label Studio task.
        class_id: The class guessed.
        confidence: Probability that the model gives, 0 to 1.
        model_version: Which model guessed.
    """

    task_id: int
    class_id: str
    confidence: float
    model_version: str


@dataclass(frozen=True)
class Answer:
    """One person's submitted answer to one task.

    Attributes:
        annotation_id: Label Studio annotation.
        annotator: Who answered, by e-mail address.
        created_at: When it was first given, UTC.
        updated_at: When it was last changed, UTC.
        lead_time_s: Seconds the person spent on it, where known.
        is_skip: Whether the person declined to answer.
        result: The marks, in Label Studio's own form.
    """

    annotation_id: int
    annotator: str
    created_at: datetime
    updated_at: datetime
    lead_time_s: float | None
    is_skip: bool
    result: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class TaskAnswers:
    """All answers to one task.

    Attributes:
        task_id: Label Studio task.
        image_id: The image that the task shows.
        ingest_date: Day of the image.
        answers: What people submitted, skips included; drafts are not.
    """

    task_id: int
    image_id: str
    ingest_date: date
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class FlatAnswers:
    """Answers as rows.

    Attributes:
        table: One row per mark, columns of `FLAT_ANSWERS`, ordered by day, image, task, annotation and mark.
        problems: One sentence for every mark that could not be understood in full; its row is there with what is known.
    """

    table: pa.Table
    problems: tuple[str, ...]


@dataclass
class _Mark:
    mark_id: str
    kind: str
    class_id: str | None = None
    box_px: tuple[float, float, float, float] | None = None
    problems: list[str] = field(default_factory=list)


def flatten_answers(tasks: Sequence[TaskAnswers], image_sizes: Mapping[str, tuple[int, int]]) -> FlatAnswers:
    """Turn answers into rows, one per mark, with boxes in pixels of the standard image.

    A skip is one row of kind `skip`, an answer without any mark one row of kind `empty`, so that everyone who answered
    is in the table. Nothing is dropped: a class that the project does not know keeps its id, and a mark that is neither
    a choice nor a box is a row whose kind is Label Studio's name for it.

    Args:
        tasks: Answers by task, in any order.
        image_sizes: Image id to width and height of its standard image in pixels, for every image in `tasks`.

    Returns:
        The rows, and what was odd about them.
    """
    ordered = sorted(tasks, key=lambda task: (task.ingest_date, task.image_id, task.task_id))
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for task in ordered:
        for answer in sorted(task.answers, key=lambda answer: answer.annotation_id):
            for mark in _list_marks(answer, image_sizes[task.image_id]):
                rows.append(_build_row(task, answer, mark))
                problems += [f"{_name_mark(task, answer, mark)} {problem}" for problem in mark.problems]
    return FlatAnswers(pa.Table.from_pylist(rows, schema=FLAT_ANSWERS), tuple(problems))


def convert_percent_to_pixels(percent: Box, width_px: int, height_px: int) -> tuple[float, float, float, float]:
    """Return left, top, width and height in pixels of a box given in percent (0 to 100) of an image."""
    return (
        percent.x * width_px / 100,
        percent.y * height_px / 100,
        percent.width * width_px / 100,
        percent.height * height_px / 100,
    )


def convert_pixels_to_percent(box_px: tuple[float, float, float, float], width_px: int, height_px: int) -> Box:
    """Return the box in percent (0 to 100) of an image from left, top, width and height in pixels."""
    x, y, width, height = box_px
    return Box(x * 100 / width_px, y * 100 / height_px, width * 100 / width_px, height * 100 / height_px)


def build_choice(class_id: str, mark_id: str = "choice") -> dict[str, Any]:
    """Return the mark, in Label Studio's form, that gives the whole image a class."""
    return {
        "id": mark_id,
        "from_name": CHOICE_CONTROL,
        "to_name": IMAGE_OBJECT,
        "type": "choices",
        "value": {"choices": [class_id]},
    }


def build_box(class_id: str, box: Box, mark_id: str) -> dict[str, Any]:
    """Return the mark, in Label Studio's form, that draws a box of a class."""
    return {
        "id": mark_id,
        "from_name": BOX_CONTROL,
        "to_name": IMAGE_OBJECT,
        "type": "rectanglelabels",
        "value": {
            "x": 100 * box.x,
            "y": 100 * box.y,
            "width": 100 * box.width,
            "height": 100 * box.height,
            "rotation": 0,
            "rectanglelabels": [class_id],
        },
    }


def _list_marks(answer: Answer, size_px: tuple[int, int]) -> Iterator[_Mark]:
    if answer.is_skip:
        yield _Mark("skip", SKIP)
    elif not answer.result:
        yield _Mark("empty", EMPTY)
    else:
        for position, item in enumerate(answer.result):
            yield from _read_item(item, str(item.get("id") or position), size_px)


def _read_item(item: Mapping[str, Any], mark_id: str, size_px: tuple[int, int]) -> Iterator[_Mark]:
    shape = str(item.get("type"))
    value = item.get("value") or {}
    classes = value.get(shape) or []
    if shape == "choices" and classes:
        yield _Mark(mark_id, CHOICE, classes[0])
        for position, class_id in enumerate(classes[1:], start=2):
            yield _Mark(f"{mark_id}/{position}", CHOICE, class_id)
    elif shape == "rectanglelabels":
        yield _read_box(item, mark_id, size_px)
    else:
        class_id = classes[0] if isinstance(classes, list) and classes else None
        yield _Mark(mark_id, shape, class_id, problems=[f"is of the kind {shape!r}, which the project does not use"])


def _read_box(item: Mapping[str, Any], mark_id: str, size_px: tuple[int, int]) -> _Mark:
    value = item["value"]
    classes = value.get("rectanglelabels") or []
    mark = _Mark(mark_id, BOX, classes[0] if classes else None)
    numbers = [value.get(name) for name in ("x", "y", "width", "height")]
    if all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        mark.box_px = convert_percent_to_pixels(Box(*numbers), *size_px)
    else:
        mark.problems.append(f"has no position and size, found {numbers}")
    if not classes:
        mark.problems.append("has no class")
    if value.get("rotation"):
        mark.problems.append(f"is turned by {value['rotation']} degrees, which the row does not hold")
    mark.problems += _check_drawn_on(item, size_px)
    return mark


def _check_drawn_on(item: Mapping[str, Any], size_px: tuple[int, int]) -> list[str]:
    drawn_width, drawn_height = item.get("original_width"), item.get("original_height")
    if not drawn_width or not drawn_height:
        return []
    width_px, height_px = size_px
    if math.isclose(drawn_width / drawn_height, width_px / height_px, rel_tol=_ASPECT_TOLERANCE):
        return []
    return [f"was drawn on a picture of {drawn_width} x {drawn_height} px, the image has {width_px} x {height_px}"]


def _build_row(task: TaskAnswers, answer: Answer, mark: _Mark) -> dict[str, Any]:
    x, y, width, height = mark.box_px or (None, None, None, None)
    return {
        "image_id": task.image_id,
        "ingest_date": task.ingest_date,
        "task_id": task.task_id,
        "annotation_id": answer.annotation_id,
        "mark_id": mark.mark_id,
        "annotator": answer.annotator,
        "kind": mark.kind,
        "class_id": mark.class_id,
        "box_x_px": x,
        "box_y_px": y,
        "box_width_px": width,
        "box_height_px": height,
        "created_at": answer.created_at,
        "updated_at": answer.updated_at,
        "lead_time_s": answer.lead_time_s,
    }


def _name_mark(task: TaskAnswers, answer: Answer, mark: _Mark) -> str:
    return f"Mark {mark.mark_id} of annotation {answer.annotation_id} by {answer.annotator} on task {task.task_id}"
