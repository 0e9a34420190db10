from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import pytest

from lakehouse.annotations import Box, OpenTask
from samples.annotators import (
    GOOD,
    HASTY,
    SIMULATED_ANNOTATORS,
    ImageTruth,
    SimulatedAnnotator,
    answer_open_tasks,
    build_image_truth,
    decide_answer,
)
from samples.truth import SampleBox, SampleTruth

CLASSES = ("apple", "cow", "hen")
TRUTH = ImageTruth("cow", (Box(0.1, 0.1, 0.4, 0.4), Box(0.9, 0.9, 0.1, 0.1)))
IMAGES = [f"image{number}" for number in range(1_000)]


class Desk:
    """One person's tasks, in memory."""

    def __init__(self, tasks: Sequence[OpenTask]) -> None:
        self.waiting = {task.task_id: task for task in tasks}
        self.answers: dict[int, Sequence[Mapping[str, Any]]] = {}
        self._lock = Lock()

    def list_open_tasks(self, project_id: int) -> Sequence[OpenTask]:
        return list(self.waiting.values()) if project_id == 1 else []

    def submit_answer(
        self,
        task_id: int,
        result: Sequence[Mapping[str, Any]],
        lead_time_s: float,
        *,
        is_skip: bool = False,
    ) -> None:
        assert lead_time_s > 0
        assert is_skip is not bool(result)
        with self._lock:
            self.answers[task_id] = result
            del self.waiting[task_id]


def share_right(annotator: SimulatedAnnotator) -> float:
    answers = [decide_answer(annotator, image, TRUTH, CLASSES) for image in IMAGES]
    chosen = [answer.result[0]["value"]["choices"][0] for answer in answers if not answer.is_skip]
    return chosen.count("cow") / len(chosen)


@pytest.mark.parametrize("annotator", SIMULATED_ANNOTATORS, ids=lambda annotator: annotator.email)
def test_a_person_is_right_as_often_as_the_persons_skill_says(annotator: SimulatedAnnotator) -> None:
    assert share_right(annotator) == pytest.approx(annotator.accuracy, abs=0.04)


def test_a_person_answers_an_image_the_same_whatever_came_before() -> None:
    forwards = {image: decide_answer(HASTY, image, TRUTH, CLASSES) for image in IMAGES}
    backwards = {image: decide_answer(HASTY, image, TRUTH, CLASSES) for image in reversed(IMAGES)}

    assert forwards == backwards


def test_people_err_on_different_images() -> None:
    other = replace(HASTY, email="other@farmy.local")

    assert [decide_answer(HASTY, image, TRUTH, CLASSES) for image in IMAGES] != [
        decide_answer(other, image, TRUTH, CLASSES) for image in IMAGES
    ]


def test_every_drawn_box_lies_within_the_image() -> None:
    for image in IMAGES:
        for mark in decide_answer(HASTY, image, TRUTH, CLASSES).result[1:]:
            value = mark["value"]
            assert value["x"] >= 0
            assert value["width"] > 0
            assert value["x"] + value["width"] <= 100 + 1e-9
            assert value["y"] + value["height"] <= 100 + 1e-9


def test_tasks_of_unknown_images_are_left_alone_and_each_answer_is_reported() -> None:
    desk = Desk([OpenTask(1, "image1"), OpenTask(2, "image2"), OpenTask(3, "somebody's own picture")])
    reported: list[None] = []

    answered = answer_open_tasks(
        desk, 1, GOOD, dict.fromkeys(IMAGES, TRUTH), CLASSES, on_answer=lambda: reported.append(None)
    )
    assert answered == len(reported) == 2
    assert list(desk.waiting) == [3]


def test_the_truth_of_a_file_becomes_shares_of_its_size() -> None:
    truth = SampleTruth("cow", (SampleBox(100, 50, 200, 25),), "cow.jpg", "scene", None, is_held_out=False)

    assert build_image_truth(truth, 400, 100) == ImageTruth("cow", (Box(0.25, 0.5, 0.5, 0.25),))


def test_a_file_without_a_picture_has_no_truth_to_answer() -> None:
    assert build_image_truth(SampleTruth(None, (), None, "page", "html", is_held_out=False), 1, 1) is None
