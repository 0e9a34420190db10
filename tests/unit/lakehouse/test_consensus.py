import random
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.annotations import FLAT_ANSWERS
from lakehouse.consensus import LABEL_COLUMNS, Box, ConsensusSettings, compute_iou, decide_labels
from lakehouse.schemas import ANNOTATION_TASKS

SETTINGS = ConsensusSettings()
DAY = date(2025, 6, 1)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)

Row = dict[str, Any]


def mark(annotator: str, kind: str, class_id: str | None = None, **more: Any) -> Row:
    """Return a row of `annotations`: one answer per person unless `annotation_id` says otherwise."""
    minutes = more.pop("minutes", 0)
    return {
        "image_id": "image-1",
        "ingest_date": DAY,
        "task_id": 1,
        "annotation_id": sum(map(ord, annotator)),
        "mark_id": kind,
        "annotator": annotator,
        "kind": kind,
        "class_id": class_id,
        "created_at": NOON,
        "updated_at": NOON + timedelta(minutes=minutes),
        **more,
    }


def choose(annotator: str, class_id: str, **more: Any) -> Row:
    return mark(annotator, "choice", class_id, **more)


def draw(annotator: str, class_id: str, x: float, y: float, width: float, height: float, **more: Any) -> Row:
    box = {"box_x_px": x, "box_y_px": y, "box_width_px": width, "box_height_px": height}
    return mark(annotator, "box", class_id, **{"mark_id": f"box {x} {y}", **box, **more})


def skip(annotator: str, **more: Any) -> Row:
    return mark(annotator, "skip", **more)


def make_tasks(assignees: dict[str, list[str]]) -> pa.Table:
    rows = [
        {
            "image_id": image_id,
            "ingest_date": DAY,
            "task_id": 1,
            "project_id": 1,
            "assignees": names,
            "standard_key": "key",
            "image_width_px": 100,
            "image_height_px": 100,
            "fingerprint": "",
        }
        for image_id, names in assignees.items()
    ]
    return pa.Table.from_pylist(rows, schema=ANNOTATION_TASKS)


def decide(rows: list[Row], assignees: int = 3, settings: ConsensusSettings = SETTINGS) -> list[Row]:
    tasks = make_tasks({"image-1": [f"person {number}" for number in range(assignees)]})
    labels: list[Row] = decide_labels(pa.Table.from_pylist(rows, schema=FLAT_ANSWERS), tasks, settings).to_pylist()
    return labels


def test_an_agreed_choice_is_a_complete_label() -> None:
    assert decide([choose("ann", "cow"), choose("bob", "cow"), choose("cem", "cow")]) == [
        {
            "image_id": "image-1",
            "ingest_date": DAY,
            "label_id": "choice",
            "kind": "choice",
            "class_id": "cow",
            "box_x_px": None,
            "box_y_px": None,
            "box_width_px": None,
            "box_height_px": None,
            "confidence": 1.0,
            "agreement": 1.0,
            "votes_for": 3,
            "votes_total": 3,
            "annotators": ["ann", "bob", "cem"],
            "rule": "majority",
            "phase": "complete",
            "is_conflict": False,
            "conflict_reason": None,
        }
    ]


def test_a_majority_outvotes_a_dissenter_and_the_agreement_says_so() -> None:
    (label,) = decide([choose("cem", "cow"), choose("bob", "pig"), choose("ann", "cow")])
    assert (label["class_id"], label["phase"], label["votes_for"], label["votes_total"]) == ("cow", "complete", 2, 3)
    assert label["confidence"] == pytest.approx(2 / 3)
    assert label["agreement"] == pytest.approx(1 / 3)
    assert label["annotators"] == ["ann", "cem"]


@pytest.mark.parametrize(
    ("classes", "leader"), [(["pig", "cow"], "cow"), (["pig", "cow", "pig", "cow"], "cow"), (["a", "c", "b", "c"], "c")]
)
def test_a_tie_and_half_of_the_votes_are_conflicts_that_name_the_leader(classes: list[str], leader: str) -> None:
    (label,) = decide([choose(f"person {number}", class_id) for number, class_id in enumerate(classes)], 2)
    assert (label["phase"], label["is_conflict"], label["conflict_reason"]) == ("conflict", True, "classes_differ")
    assert label["class_id"] == leader


def test_a_tie_is_a_conflict_even_where_a_smaller_share_would_do() -> None:
    settings = ConsensusSettings(min_share=0.2)
    (tie,) = decide([choose("ann", "cow"), choose("bob", "pig")], 2, settings)
    (lead,) = decide([choose("ann", "a"), choose("bob", "b"), choose("cem", "c"), choose("dan", "c")], 4, settings)
    assert (tie["phase"], lead["phase"]) == ("conflict", "complete")


def test_a_higher_share_can_be_asked_for() -> None:
    rows = [choose("ann", "cow"), choose("bob", "cow"), choose("cem", "pig")]
    assert decide(rows, settings=ConsensusSettings(min_share=0.7))[0]["phase"] == "conflict"


def test_an_image_is_annotating_and_not_yet_contested_until_all_assignees_answered() -> None:
    rows = [choose("ann", "cow"), choose("bob", "pig")]
    (label,) = decide(rows, 3)
    assert (label["phase"], label["is_conflict"], label["conflict_reason"]) == ("annotating", False, None)
    assert decide(rows, 2)[0]["phase"] == "conflict"


def test_without_assignees_the_settings_say_how_many_answers_to_wait_for() -> None:
    rows = [choose("ann", "cow"), choose("bob", "cow")]
    assert decide(rows, 0, ConsensusSettings(min_votes=2))[0]["phase"] == "complete"
    assert decide(rows, 0, ConsensusSettings(min_votes=3))[0]["phase"] == "annotating"


def test_an_adjudicator_who_was_not_assigned_settles_a_conflict() -> None:
    rows = [choose("ann", "cow"), choose("bob", "pig")]
    (label,) = decide([*rows, choose("judge", "pig")], 2)
    assert (label["class_id"], label["phase"], label["annotators"]) == ("pig", "complete", ["bob", "judge"])


def test_the_agreement_of_one_person_is_unknown() -> None:
    assert decide([choose("ann", "cow")], 1)[0]["agreement"] is None


def test_only_the_newest_answer_of_a_person_counts() -> None:
    rows = [
        choose("ann", "cow", annotation_id=9, minutes=0),
        draw("ann", "cow", 0, 0, 10, 10, annotation_id=9, minutes=0),
        choose("ann", "pig", annotation_id=2, minutes=5),
        choose("bob", "pig"),
    ]
    (label,) = decide(rows, 2)
    assert (label["class_id"], label["votes_for"], label["votes_total"]) == ("pig", 2, 2)


def test_of_answers_changed_in_the_same_moment_the_one_given_last_counts() -> None:
    rows = [choose("ann", "cow", annotation_id=1), choose("ann", "pig", annotation_id=2)]
    assert decide(rows, 1)[0]["class_id"] == "pig"


def test_an_image_that_most_people_skip_has_an_accepted_label_without_a_class() -> None:
    (label,) = decide([skip("ann"), skip("bob"), choose("cem", "cow")])
    assert (label["class_id"], label["phase"], label["annotators"]) == (None, "complete", ["ann", "bob"])


def test_a_skip_against_a_choice_is_a_conflict_led_by_the_class() -> None:
    (label,) = decide([skip("ann"), choose("bob", "cow")], 2)
    assert (label["class_id"], label["phase"], label["confidence"]) == ("cow", "conflict", 0.5)


def test_an_empty_answer_counts_as_an_answer() -> None:
    (label,) = decide([mark("ann", "empty"), choose("bob", "cow"), choose("cem", "cow")])
    assert (label["class_id"], label["votes_for"], label["votes_total"]) == ("cow", 2, 3)


def test_an_answer_that_could_not_be_read_is_an_answer_for_no_class() -> None:
    (label,) = decide([mark("ann", "box", "cow"), mark("bob", "polygonlabels", "cow")], 2)
    assert (label["label_id"], label["class_id"], label["votes_total"]) == ("choice", None, 2)


def test_people_who_draw_and_leave_the_choice_alone_do_not_vote_for_no_class() -> None:
    (label,) = decide([draw("ann", "cow", 0, 0, 10, 10), draw("bob", "cow", 0, 0, 10, 10), mark("cem", "empty")])
    assert (label["label_id"], label["phase"], label["votes_for"], label["votes_total"]) == ("box-1", "complete", 2, 3)


def test_boxes_that_overlap_are_one_box_at_the_median_of_their_edges() -> None:
    rows = [draw("ann", "cow", 0, 0, 100, 100), draw("bob", "cow", 10, 4, 100, 100), draw("cem", "cow", 20, 8, 70, 90)]
    (label,) = decide(rows)
    assert [label[name] for name in ("box_x_px", "box_y_px", "box_width_px", "box_height_px")] == [10, 4, 90, 96]
    assert (label["label_id"], label["kind"], label["class_id"], label["phase"]) == ("box-1", "box", "cow", "complete")
    assert (label["votes_for"], label["annotators"], label["agreement"]) == (3, ["ann", "bob", "cem"], None)


def test_a_median_box_never_leaves_the_image() -> None:
    rows = [draw("ann", "cow", 0, 0, 100, 100), draw("bob", "cow", 40, 0, 60, 100), draw("cem", "cow", 40, 0, 60, 100)]
    (label,) = decide([*rows[:2], {**rows[2], "box_x_px": 20.0, "box_width_px": 80.0}])
    assert label["box_x_px"] + label["box_width_px"] <= 100


def test_a_box_that_the_minority_drew_is_outvoted() -> None:
    choices = [choose(name, "cow") for name in ("ann", "bob", "cem")]
    (choice,) = decide([*choices, draw("ann", "cow", 0, 0, 10, 10)])
    assert (choice["kind"], choice["is_conflict"], choice["phase"]) == ("choice", False, "complete")


def test_boxes_alone_are_contested_where_all_of_them_are_outvoted() -> None:
    people = ("ann", "bob", "cem")
    labels = decide([draw(name, "cow", 100 * number, 0, 10, 10) for number, name in enumerate(people)])
    assert [(label["conflict_reason"], label["phase"]) for label in labels] == [("missed_box", "conflict")] * 3


def test_a_box_that_half_the_people_drew_is_contested_and_so_is_its_image() -> None:
    rows = [choose("ann", "cow"), choose("bob", "cow"), draw("ann", "cow", 0, 0, 10, 10)]
    choice, box = decide(rows, 2)
    assert (box["is_conflict"], box["conflict_reason"], box["votes_for"]) == (True, "missed_box", 1)
    assert (choice["is_conflict"], choice["phase"], box["phase"]) == (False, "conflict", "conflict")


def test_boxes_of_different_classes_or_of_little_overlap_stay_apart() -> None:
    by_class = decide([draw("ann", "cow", 0, 0, 10, 10), draw("bob", "pig", 0, 0, 10, 10)], 2)
    by_place = decide([draw("ann", "cow", 0, 0, 10, 10), draw("bob", "cow", 5, 0, 10, 10)], 2)
    assert [label["class_id"] for label in by_class] == ["cow", "pig"]
    assert [label["box_x_px"] for label in by_place] == [0, 5]


def test_the_overlap_that_makes_one_box_can_be_set() -> None:
    rows = [draw("ann", "cow", 0, 0, 10, 10), draw("bob", "cow", 5, 0, 10, 10)]
    assert len(decide(rows, 2, ConsensusSettings(min_box_iou=1 / 3))) == 1


def test_two_boxes_of_one_person_are_never_one_box() -> None:
    rows = [draw("ann", "cow", 0, 0, 10, 10), draw("ann", "cow", 1, 0, 10, 10), draw("bob", "cow", 1, 0, 10, 10)]
    first, second = decide(rows, 2)
    assert (first["box_x_px"], first["annotators"]) == (0, ["ann"])
    assert (second["box_x_px"], second["annotators"]) == (1, ["ann", "bob"])


def test_boxes_are_numbered_by_class_and_from_left_to_right() -> None:
    rows = [draw("ann", "pig", 0, 0, 10, 10), draw("ann", "cow", 50, 0, 10, 10), draw("ann", "cow", 20, 0, 10, 10)]
    labels = decide(rows, 1)
    assert [(label["label_id"], label["class_id"], label["box_x_px"]) for label in labels] == [
        ("box-1", "cow", 20),
        ("box-2", "cow", 50),
        ("box-3", "pig", 0),
    ]


def test_an_image_nobody_answered_about_has_no_labels() -> None:
    labels = decide_labels(FLAT_ANSWERS.empty_table(), make_tasks({"image-1": ["ann"]}), SETTINGS)
    assert labels.num_rows == 0
    assert labels.schema == LABEL_COLUMNS


def test_the_overlap_of_boxes_is_that_of_their_areas() -> None:
    assert compute_iou(Box(0, 0, 10, 10), Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert compute_iou(Box(0, 0, 10, 10), Box(10, 0, 20, 10)) == 0
    assert compute_iou(Box(5, 5, 5, 5), Box(5, 5, 5, 5)) == 0


people = st.sampled_from(["ann", "bob", "cem"])
more = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from(["image-1", "image-2"]),
        "annotation_id": st.integers(1, 4),
        "minutes": st.integers(0, 2),
        "mark_id": st.uuids().map(str),
    }
)
marks = st.one_of(
    st.builds(lambda who, what, more: choose(who, what, **more), people, st.sampled_from(["cow", "pig"]), more),
    st.builds(lambda who, more: skip(who, **more), people, more),
    st.builds(
        lambda who, what, edges, more: draw(who, what, *edges, **more),
        people,
        st.sampled_from(["cow", "pig"]),
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
        more,
    ),
)


@given(st.lists(marks, max_size=24), st.randoms(use_true_random=False))
def test_the_order_of_annotations_changes_nothing(rows: list[Row], shuffler: random.Random) -> None:
    tasks = make_tasks({"image-1": ["ann", "bob"], "image-2": []})
    expected = decide_labels(pa.Table.from_pylist(rows, schema=FLAT_ANSWERS), tasks, SETTINGS)
    shuffled = shuffler.sample(rows, len(rows))
    assert decide_labels(pa.Table.from_pylist(shuffled, schema=FLAT_ANSWERS), tasks, SETTINGS).equals(expected)


@given(st.lists(marks, max_size=24))
def test_every_image_with_an_answer_has_labels_and_no_box_supports_two_of_them(rows: list[Row]) -> None:
    annotations = pa.Table.from_pylist(rows, schema=FLAT_ANSWERS)
    labels = decide_labels(annotations, make_tasks({}), SETTINGS).to_pylist()
    assert {label["image_id"] for label in labels} == {row["image_id"] for row in rows}
    newest = {}
    for row in sorted(rows, key=lambda row: (row["updated_at"], row["annotation_id"])):
        newest[row["image_id"], row["annotator"]] = (row["updated_at"], row["annotation_id"])
    drawn = [
        row
        for row in rows
        if row["kind"] == "box"
        and newest[row["image_id"], row["annotator"]] == (row["updated_at"], row["annotation_id"])
    ]
    assert sum(label["votes_for"] for label in labels if label["kind"] == "box") <= len(drawn)


def test_a_hundred_thousand_annotations_take_seconds() -> None:
    rows = [
        row
        for image in range(16_667)
        for annotator in ("ann", "bob", "cem")
        for row in (
            choose(annotator, "cow", image_id=f"image-{image}"),
            draw(annotator, "cow", ord(annotator[0]) - 97, 0, 50, 50, image_id=f"image-{image}"),
        )
    ]
    annotations = pa.Table.from_pylist(rows, schema=FLAT_ANSWERS)
    started = time.process_time()
    labels = decide_labels(annotations, make_tasks({}), SETTINGS)
    assert time.process_time() - started < 10
    assert labels.num_rows == 2 * 16_667
