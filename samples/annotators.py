"""Simulated annotators: three people of different skill who answer the sample images as real ones would.

What a person answers depends on the person and the image alone, never on order or time, so that every demo tells the
same story. They sign in and answer through Label Studio itself; a desk (`AnnotatorDesk`) is their way to it.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from lakehouse.annotations import Box, OpenTask, build_box, build_choice
from samples.truth import SampleTruth

_PARALLEL_ANSWERS = 4
_SMALLEST_BOX = 0.005


@dataclass(frozen=True)
class ImageTruth:
    """What a sample image really shows.

    Attributes:
        class_id: Its class.
        boxes: Where each thing of that class is.
    """

    class_id: str
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class SimulatedAnnotator:
    """A person to simulate.

    Attributes:
        email: What the person signs in with.
        accuracy: Probability of choosing the right class, 0 to 1.
        skip_rate: Probability of skipping a task, 0 to 1.
        box_miss_rate: Probability of overlooking a thing, 0 to 1.
        box_jitter: Standard deviation of a drawn edge, as a share of the box's width or height.
        seconds_per_task: Time that the person takes, on average.
    """

    email: str
    accuracy: float
    skip_rate: float
    box_miss_rate: float
    box_jitter: float
    seconds_per_task: float


@dataclass(frozen=True)
class SimulatedAnswer:
    """What a simulated person answers to one task.

    Attributes:
        result: The marks, in Label Studio's form.
        is_skip: Whether the person skips the task.
        lead_time_s: Seconds that the person claims to have spent.
    """

    result: tuple[Mapping[str, Any], ...]
    is_skip: bool
    lead_time_s: float


GOOD, FAIR, HASTY = SIMULATED_ANNOTATORS = (
    SimulatedAnnotator("good@farmy.local", 0.97, 0.01, 0.02, 0.01, 9.0),
    SimulatedAnnotator("fair@farmy.local", 0.90, 0.02, 0.06, 0.03, 6.0),
    SimulatedAnnotator("hasty@farmy.local", 0.78, 0.05, 0.15, 0.07, 2.5),
)


def build_image_truth(truth: SampleTruth, width_px: int, height_px: int) -> ImageTruth | None:
    """Return what an image shows, given the size of its file as displayed; None where there is no picture."""
    if truth.class_id is None:
        return None
    boxes = tuple(
        Box(box.x_px / width_px, box.y_px / height_px, box.width_px / width_px, box.height_px / height_px)
        for box in truth.boxes
    )
    return ImageTruth(truth.class_id, boxes)


class AnnotatorDesk(Protocol):
    """One signed-in person's way to Label Studio."""

    def list_open_tasks(self, project_id: int) -> Sequence[OpenTask]:
        """Return the tasks that are assigned to the person and not yet answered by that person."""
        ...

    def submit_answer(
        self, task_id: int, result: Sequence[Mapping[str, Any]], lead_time_s: float, *, is_skip: bool = False
    ) -> None:
        """Answer or skip a task."""
        ...


def answer_open_tasks(
    desk: AnnotatorDesk,
    project_id: int,
    annotator: SimulatedAnnotator,
    truths: Mapping[str, ImageTruth],
    class_ids: Sequence[str],
    on_answer: Callable[[], None] = lambda: None,
) -> int:
    """Answer every task that waits for the person and whose truth is known.

    Args:
        desk: The person's way to Label Studio; used from several threads.
        project_id: Label Studio project.
        annotator: Who answers.
        truths: Image id to what the image shows; tasks on other images are left alone.
        class_ids: The classes to choose from.
        on_answer: Called after each answer, from several threads.

    Returns:
        How many tasks were answered or skipped.
    """

    def answer(task: OpenTask) -> None:
        answer = decide_answer(annotator, task.image_id, truths[task.image_id], class_ids)
        desk.submit_answer(task.task_id, answer.result, answer.lead_time_s, is_skip=answer.is_skip)
        on_answer()

    tasks = [task for task in desk.list_open_tasks(project_id) if task.image_id in truths]
    with ThreadPoolExecutor(_PARALLEL_ANSWERS) as people_type_in_parallel:
        return len(list(people_type_in_parallel.map(answer, tasks)))


def decide_answer(
    annotator: SimulatedAnnotator, image_id: str, truth: ImageTruth, class_ids: Sequence[str]
) -> SimulatedAnswer:
    """Decide what a person answers to an image; the same arguments give the same answer.

    A person who takes the image for another class takes the things in it for that class, too.
    """
    random = Random(f"{annotator.email}\n{image_id}")
    lead_time_s = round(annotator.seconds_per_task * random.uniform(0.5, 1.5), 2)
    if random.random() < annotator.skip_rate:
        return SimulatedAnswer((), is_skip=True, lead_time_s=lead_time_s)
    seen_as = _choose_class(random, truth.class_id, class_ids, annotator.accuracy)
    marks = [build_choice(seen_as)]
    for number, box in enumerate(truth.boxes, start=1):
        is_missed = random.random() < annotator.box_miss_rate
        drawn = _jitter_box(random, box, annotator.box_jitter)
        if not is_missed:
            marks.append(build_box(seen_as, drawn, mark_id=f"box{number}"))
    return SimulatedAnswer(tuple(marks), is_skip=False, lead_time_s=lead_time_s)


def _choose_class(random: Random, right: str, class_ids: Sequence[str], accuracy: float) -> str:
    wrong = [class_id for class_id in class_ids if class_id != right]
    return right if random.random() < accuracy or not wrong else random.choice(wrong)


def _jitter_box(random: Random, box: Box, jitter: float) -> Box:
    left = box.x + random.gauss(0, jitter) * box.width
    top = box.y + random.gauss(0, jitter) * box.height
    right = box.x + box.width + random.gauss(0, jitter) * box.width
    bottom = box.y + box.height + random.gauss(0, jitter) * box.height
    x, y = _clip(left, 1 - _SMALLEST_BOX), _clip(top, 1 - _SMALLEST_BOX)
    return Box(x, y, max(_clip(right) - x, _SMALLEST_BOX), max(_clip(bottom) - y, _SMALLEST_BOX))


def _clip(share: float, upper: float = 1.0) -> float:
    return min(max(share, 0.0), upper)
