"""From several people's answers about an image to its labels: who agrees, what is accepted, what is contested.

Annotations in, labels out, one image at a time. Turning answers into annotations belongs to `lakehouse.annotations`;
what a release takes from the labels, to `lakehouse.releases`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import NamedTuple

import pyarrow as pa

from lakehouse.phases import ANNOTATING, COMPLETE, CONFLICT
from lakehouse.schemas import LABELLED_DATASET

LABEL_COLUMNS = pa.schema([field for field in LABELLED_DATASET if field.name != "fingerprint"])

_RULE = "majority"


@dataclass(frozen=True)
class ConsensusSettings:
    """When answers make a label.

    Attributes:
        min_share: A choice needs more than this share of the people who answered, 0 to 1.
        min_votes: Answers to wait for where a task names no assignees; otherwise all its assignees are waited for.
        min_box_iou: Two people's boxes of a class are the same box from this intersection over union on, above 0 to 1.
    """

    min_share: float = 0.5
    min_votes: int = 2
    min_box_iou: float = 0.5


class Box(NamedTuple):
    """A rectangle in pixels, by its edges."""

    left: float
    top: float
    right: float
    bottom: float


class _Mark(NamedTuple):
    ingest_date: date
    annotator: str
    answer: tuple[int, int]
    mark_id: str
    kind: str
    class_id: str | None
    box: Box | None


class _Label(NamedTuple):
    label_id: str
    kind: str
    class_id: str | None
    box: Box | None
    supporters: list[str]
    conflict_reason: str | None


# The marks of each person's newest answer, by person.
_Answers = dict[str, list[_Mark]]


def decide_labels(annotations: pa.Table, tasks: pa.Table, settings: ConsensusSettings) -> pa.Table:
    """Return the labels of every image that somebody answered about; the order of the rows given does not matter.

    Of each person the newest answer counts. A choice is accepted when one class leads with more than
    `settings.min_share`. Who skips, or chooses nothing while others choose, votes for no class; where that wins, the
    choice is a label without `class_id`. Boxes of one class that overlap enough are one box, its edges the medians of
    theirs: accepted when more than half of those who answered drew it, contested when half of them did, and outvoted,
    which leaves no label, when fewer did. Where nobody chose a class and every box is outvoted, all are contested.

    `phase` is the image's: `annotating` while answers are awaited, then `conflict` if any of its labels is contested,
    else `complete`. `agreement` is on the choice.

    Args:
        annotations: Rows of the table `annotations`.
        tasks: Rows of the table `annotation_tasks`.
        settings: When answers make a label.

    Returns:
        Rows of the table `labelled_dataset` without `fingerprint`, sorted by image, each image's choice first.
    """
    votes_needed = _count_assignees(tasks)
    marks_by_image = _group_marks(annotations)
    rows = [
        row
        for image_id, marks in sorted(marks_by_image.items())
        for row in _decide_image(image_id, marks, votes_needed.get(image_id) or settings.min_votes, settings)
    ]
    return pa.Table.from_pylist(rows, schema=LABEL_COLUMNS)


def compute_iou(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_compute_area(one) + _compute_area(other) - shared)


def _compute_area(box: Box) -> float:
    return (box.right - box.left) * (box.bottom - box.top)


def _count_assignees(tasks: pa.Table) -> dict[str, int]:
    assignees: dict[str, set[str]] = {}
    columns = (tasks[name].to_pylist() for name in ("image_id", "assignees"))
    for image_id, names in zip(*columns, strict=True):
        assignees.setdefault(image_id, set()).update(names)
    return {image_id: len(names) for image_id, names in assignees.items()}


def _group_marks(annotations: pa.Table) -> dict[str, list[_Mark]]:
    names = ["image_id", "ingest_date", "annotator", "annotation_id", "mark_id", "kind", "class_id"]
    columns = [annotations[name].to_pylist() for name in names]
    updated_at = annotations["updated_at"].cast(pa.int64()).to_pylist()
    grouped: dict[str, list[_Mark]] = {}
    for image_id, day, annotator, annotation_id, mark_id, kind, class_id, updated, box in zip(
        *columns, updated_at, _read_boxes(annotations), strict=True
    ):
        mark = _Mark(day, annotator, (updated, annotation_id), mark_id, kind, class_id, box)
        grouped.setdefault(image_id, []).append(mark)
    return grouped


def _read_boxes(annotations: pa.Table) -> Iterator[Box | None]:
    names = ("box_x_px", "box_y_px", "box_width_px", "box_height_px")
    for x, y, width, height in zip(*(annotations[name].to_pylist() for name in names), strict=True):
        yield None if x is None else Box(x, y, x + width, y + height)


def _select_newest_answers(marks: list[_Mark]) -> _Answers:
    newest: dict[str, tuple[int, int]] = {}
    for mark in marks:
        newest[mark.annotator] = max(mark.answer, newest.get(mark.annotator, mark.answer))
    answers: _Answers = {annotator: [] for annotator in sorted(newest)}
    for mark in marks:
        if mark.answer == newest[mark.annotator]:
            answers[mark.annotator].append(mark)
    return answers


def _decide_image(
    image_id: str, marks: list[_Mark], votes_needed: int, settings: ConsensusSettings
) -> Iterator[dict[str, object]]:
    answers = _select_newest_answers(marks)
    votes = _collect_votes(answers)
    is_open = len(answers) < votes_needed
    labels = [*_decide_choice(votes, len(answers), settings), *_decide_boxes(answers, settings, has_choice=bool(votes))]
    phase = ANNOTATING if is_open else COMPLETE
    if not is_open and any(label.conflict_reason for label in labels):
        phase = CONFLICT
    agreement = _measure_agreement(votes)
    for label in labels:
        reason = None if is_open else label.conflict_reason
        yield {
            "image_id": image_id,
            "ingest_date": min(mark.ingest_date for mark in marks),
            "label_id": label.label_id,
            "kind": label.kind,
            "class_id": label.class_id,
            **_describe_box(label.box),
            "confidence": len(label.supporters) / len(answers),
            "agreement": agreement,
            "votes_for": len(label.supporters),
            "votes_total": len(answers),
            "annotators": label.supporters,
            "rule": _RULE,
            "phase": phase,
            "is_conflict": reason is not None,
            "conflict_reason": reason,
        }


def _describe_box(box: Box | None) -> dict[str, object]:
    if box is None:
        return {}
    return {
        "box_x_px": box.left,
        "box_y_px": box.top,
        "box_width_px": box.right - box.left,
        "box_height_px": box.bottom - box.top,
    }


def _collect_votes(answers: _Answers) -> dict[str | None, list[str]]:
    """Return who chose which class, None for no class; nothing where people drew boxes and left the choice alone."""
    everything = [mark for marks in answers.values() for mark in marks]
    has_choice = any(mark.kind == "choice" for mark in everything)
    if not has_choice and any(mark.box is not None and mark.class_id is not None for mark in everything):
        return {}
    votes: dict[str | None, list[str]] = {}
    for annotator, marks in answers.items():
        # The labelling interface allows one choice; should an answer hold several, the same one counts every time.
        chosen = min((mark.class_id for mark in marks if mark.kind == "choice" and mark.class_id), default=None)
        votes.setdefault(chosen, []).append(annotator)
    return votes


def _decide_choice(
    votes: dict[str | None, list[str]], votes_total: int, settings: ConsensusSettings
) -> Iterator[_Label]:
    if not votes:
        return
    ranked = sorted(votes.items(), key=lambda vote: (-len(vote[1]), vote[0] is None, vote[0] or ""))
    class_id, supporters = ranked[0]
    is_tie = len(ranked) > 1 and len(ranked[1][1]) == len(supporters)
    is_accepted = not is_tie and len(supporters) / votes_total > settings.min_share
    yield _Label("choice", "choice", class_id, None, supporters, None if is_accepted else "classes_differ")


def _measure_agreement(votes: dict[str | None, list[str]]) -> float | None:
    counts = [len(supporters) for supporters in votes.values()]
    total = sum(counts)
    if total < 2:
        return None
    return sum(count * (count - 1) for count in counts) / (total * (total - 1))


def _decide_boxes(answers: _Answers, settings: ConsensusSettings, *, has_choice: bool) -> Iterator[_Label]:
    boxes_by_class: dict[str, list[_DrawnBox]] = {}
    for marks in answers.values():
        for mark in marks:
            # A mark without place or class was reported when it was read; it is an answer, but no box.
            if mark.box is not None and mark.class_id is not None:
                drawn = _DrawnBox(mark.box, mark.annotator, mark.mark_id)
                boxes_by_class.setdefault(mark.class_id, []).append(drawn)
    decided = sorted(
        (class_id, _take_median_box(cluster), sorted(drawn.annotator for drawn in cluster))
        for class_id, boxes in boxes_by_class.items()
        for cluster in _cluster_boxes(boxes, settings.min_box_iou)
    )
    standing = [label for label in decided if 2 * len(label[2]) >= len(answers)]
    # An image that people answered always has a label: without one it would look as if nobody had.
    kept = standing if standing or has_choice else decided
    for number, (class_id, box, supporters) in enumerate(kept, start=1):
        is_accepted = 2 * len(supporters) > len(answers)
        yield _Label(f"box-{number}", "box", class_id, box, supporters, None if is_accepted else "missed_box")


class _DrawnBox(NamedTuple):
    box: Box
    annotator: str
    mark_id: str


def _cluster_boxes(boxes: list[_DrawnBox], min_iou: float) -> Iterator[list[_DrawnBox]]:
    """Join the boxes that overlap most, pair by pair, as long as no cluster holds two of one person."""
    boxes = sorted(boxes)
    # Each box's cluster, shared by its members: whose boxes it holds, and at which positions.
    clusters = [{drawn.annotator: position} for position, drawn in enumerate(boxes)]
    for first, second in _pair_boxes(boxes, min_iou):
        one, other = clusters[first], clusters[second]
        if one.keys().isdisjoint(other):
            one.update(other)
            for position in other.values():
                clusters[position] = one
    for position, cluster in enumerate(clusters):
        if position == min(cluster.values()):
            yield [boxes[member] for member in cluster.values()]


def _pair_boxes(boxes: list[_DrawnBox], min_iou: float) -> list[tuple[int, int]]:
    """Return the positions of different people's boxes that overlap enough, most first; `boxes` are sorted."""
    pairs = []
    for first, one in enumerate(boxes):
        for second in range(first + 1, len(boxes)):
            other = boxes[second]
            if other.box.left >= one.box.right:
                break
            iou = compute_iou(one.box, other.box)
            if iou >= min_iou and one.annotator != other.annotator:
                pairs.append((-iou, first, second))
    return [(first, second) for _, first, second in sorted(pairs)]


def _take_median_box(cluster: list[_DrawnBox]) -> Box:
    return Box(*(median(edges) for edges in zip(*(drawn.box for drawn in cluster), strict=True)))
