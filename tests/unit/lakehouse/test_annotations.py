from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.annotations import (
    FLAT_ANSWERS,
    Answer,
    Box,
    TaskAnswers,
    build_box,
    build_choice,
    convert_percent_to_pixels,
    convert_pixels_to_percent,
    flatten_answers,
)

SIZES = {"apple": (800, 600), "cow": (1000, 500)}
FIRST = datetime(2026, 11, 22, 13, 35, 1, 402028, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 13, 36, 9, tzinfo=UTC)

# As Label Studio 1.23.2 stored them after a person chose a class and drew a box in the browser.
DRAWN_BY_HAND: tuple[dict[str, Any], ...] = (
    {
        "value": {"choices": ["cow"]},
        "id": "BcYEj1e2tY",
        "from_name": "class",
        "to_name": "image",
        "type": "choices",
        "origin": "manual",
    },
    {
        "original_width": 800,
        "original_height": 600,
        "image_rotation": 0,
        "value": {
            "x": 7.733312595504917,
            "y": 10.234679528396127,
            "width": 19.241284099163163,
            "height": 17.10336364370059,
            "rotation": 0,
            "rectanglelabels": ["cow"],
        },
        "id": "S1yz0ugPtJ",
        "from_name": "box",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
    },
)

# As it stored them after a person submitted a prediction unchanged.
TAKEN_FROM_A_PREDICTION: tuple[dict[str, Any], ...] = (
    {
        "value": {"choices": ["red_apple"]},
        "meta": {"model_version": "3f9a"},
        "id": "prelabel",
        "from_name": "class",
        "to_name": "image",
        "type": "choices",
        "origin": "prediction",
    },
)


def answer(
    *result: Mapping[str, Any], annotation_id: int = 1, annotator: str = "ann@farm.example", is_skip: bool = False
) -> Answer:
    return Answer(annotation_id, annotator, FIRST, LATER, 3.5, is_skip, result)


def task(*answers: Answer, task_id: int = 7, image_id: str = "apple", day: int = 22) -> TaskAnswers:
    return TaskAnswers(task_id, image_id, date(2026, 11, day), answers)


def test_an_answer_from_the_browser_becomes_one_row_per_mark_in_pixels() -> None:
    flat = flatten_answers([task(answer(*DRAWN_BY_HAND, annotation_id=108))], SIZES)

    choice, box = flat.table.to_pylist()
    assert choice == {
        "image_id": "apple",
        "ingest_date": date(2026, 11, 22),
        "task_id": 7,
        "annotation_id": 108,
        "mark_id": "BcYEj1e2tY",
        "annotator": "ann@farm.example",
        "kind": "choice",
        "class_id": "cow",
        "box_x_px": None,
        "box_y_px": None,
        "box_width_px": None,
        "box_height_px": None,
        "created_at": FIRST,
        "updated_at": LATER,
        "lead_time_s": 3.5,
    }
    assert (box["kind"], box["class_id"], box["mark_id"]) == ("box", "cow", "S1yz0ugPtJ")
    assert [box[f"box_{side}_px"] for side in ("x", "y", "width", "height")] == pytest.approx(
        [61.8665, 61.4081, 153.9303, 102.6202], abs=1e-3
    )
    assert flat.table.schema.equals(FLAT_ANSWERS)
    assert flat.problems == ()


def test_a_prediction_that_a_person_submitted_counts_as_that_persons_choice() -> None:
    rows = flatten_answers([task(answer(*TAKEN_FROM_A_PREDICTION))], SIZES).table.to_pylist()

    assert [(row["kind"], row["class_id"], row["annotator"]) for row in rows] == [
        ("choice", "red_apple", "ann@farm.example")
    ]


def test_a_skip_is_one_row_without_a_class_whatever_was_marked_before() -> None:
    rows = flatten_answers([task(answer(*DRAWN_BY_HAND, is_skip=True))], SIZES).table.to_pylist()

    assert [(row["kind"], row["class_id"]) for row in rows] == [("skip", None)]


def test_an_answer_without_marks_is_one_row_so_that_the_person_has_answered() -> None:
    rows = flatten_answers([task(answer())], SIZES).table.to_pylist()

    assert [(row["kind"], row["class_id"]) for row in rows] == [("empty", None)]


def test_no_answers_give_an_empty_table_with_all_columns() -> None:
    flat = flatten_answers([task()], SIZES)

    assert flat.table.num_rows == 0
    assert flat.table.schema.equals(FLAT_ANSWERS)


def test_rows_come_in_one_order_whatever_the_order_of_the_tasks() -> None:
    tasks = [
        task(answer(*DRAWN_BY_HAND, annotation_id=3), answer(annotation_id=2), task_id=9),
        task(answer(annotation_id=5), task_id=8, image_id="cow", day=21),
    ]

    forwards, backwards = flatten_answers(tasks, SIZES).table, flatten_answers(tasks[::-1], SIZES).table
    assert forwards.equals(backwards)
    assert forwards.column("annotation_id").to_pylist() == [5, 2, 3, 3]


def test_a_second_choice_on_one_mark_is_a_row_of_its_own() -> None:
    both = {**build_choice("cow"), "value": {"choices": ["cow", "hen"]}}

    rows = flatten_answers([task(answer(both))], SIZES).table.to_pylist()
    assert [(row["mark_id"], row["class_id"]) for row in rows] == [("choice", "cow"), ("choice/2", "hen")]


def test_a_class_that_the_project_no_longer_has_keeps_its_id() -> None:
    rows = flatten_answers([task(answer(build_choice("dodo")))], SIZES).table.to_pylist()

    assert [row["class_id"] for row in rows] == ["dodo"]


def test_a_shape_that_the_project_does_not_use_is_kept_and_reported() -> None:
    polygon = {"id": "p1", "type": "polygonlabels", "value": {"points": [[1, 2]], "polygonlabels": ["cow"]}}

    flat = flatten_answers([task(answer(polygon, annotation_id=4))], SIZES)
    assert [(row["kind"], row["class_id"]) for row in flat.table.to_pylist()] == [("polygonlabels", "cow")]
    (problem,) = flat.problems
    assert problem.startswith("Mark p1 of annotation 4 by ann@farm.example on task 7 is of the kind 'polygonlabels'")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rotation": 30}, "is turned by 30 degrees"),
        ({"rectanglelabels": []}, "has no class"),
        ({"width": None}, "has no position and size"),
        ({"x": float("nan")}, "has no position and size"),
    ],
)
def test_a_box_that_a_row_cannot_hold_in_full_is_kept_and_reported(change: dict[str, Any], problem: str) -> None:
    box = build_box("cow", Box(0.1, 0.2, 0.3, 0.4), "b1")
    box["value"] |= change

    flat = flatten_answers([task(answer(box))], SIZES)
    assert flat.table.column("kind").to_pylist() == ["box"]
    assert len(flat.problems) == 1
    assert problem in flat.problems[0]


def test_a_box_drawn_on_a_picture_of_another_shape_is_reported() -> None:
    box = build_box("cow", Box(0.1, 0.2, 0.3, 0.4), "b1") | {"original_width": 600, "original_height": 800}

    assert "was drawn on a picture of 600 x 800 px" in flatten_answers([task(answer(box))], SIZES).problems[0]


def test_a_box_drawn_on_a_smaller_copy_of_the_picture_is_right() -> None:
    box = build_box("cow", Box(0.1, 0.2, 0.3, 0.4), "b1") | {"original_width": 200, "original_height": 150}

    assert flatten_answers([task(answer(box))], SIZES).problems == ()


SHARES = st.floats(0, 1)


@given(SHARES, SHARES, SHARES, SHARES, st.integers(1, 20_000), st.integers(1, 20_000))
def test_percent_to_pixels_and_back_gives_the_same_box(
    x: float, y: float, width: float, height: float, width_px: int, height_px: int
) -> None:
    percent = Box(100 * x, 100 * y, 100 * width, 100 * height)

    back = convert_pixels_to_percent(convert_percent_to_pixels(percent, width_px, height_px), width_px, height_px)
    assert [back.x, back.y, back.width, back.height] == pytest.approx(
        [percent.x, percent.y, percent.width, percent.height], abs=1e-9
    )


@given(SHARES, SHARES, SHARES, SHARES)
def test_a_box_that_is_built_comes_out_as_the_same_share_of_the_image(
    x: float, y: float, width: float, height: float
) -> None:
    flat = flatten_answers([task(answer(build_box("cow", Box(x, y, width, height), "b1")))], SIZES)

    (row,) = flat.table.to_pylist()
    assert [
        row["box_x_px"] / 800,
        row["box_y_px"] / 600,
        row["box_width_px"] / 800,
        row["box_height_px"] / 600,
    ] == pytest.approx([x, y, width, height], abs=1e-9)
