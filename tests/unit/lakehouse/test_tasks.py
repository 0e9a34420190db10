from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.schemas import ANNOTATION_TASKS, PREDICTED_LABELS, TASK_PRE_LABELS
from lakehouse.tasks import (
    assign_annotators,
    build_tasks,
    list_closed_images,
    select_images_to_annotate,
    select_pre_labels,
)

DAY = date(2026, 11, 2)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
CLASSES = {"cow", "hen"}

names = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=8)


def make_cleansed(*images: tuple[str, str]) -> pa.Table:
    return pa.table(
        {
            "image_id": [image_id for image_id, _ in images],
            "ingest_date": [DAY] * len(images),
            "landed_at": [NOON - timedelta(seconds=number) for number in range(len(images))],
            "status": [status for _, status in images],
            "standard_key": [f"staging/{image_id}" for image_id, _ in images],
            "standard_width_px": [640] * len(images),
            "standard_height_px": [480] * len(images),
        }
    )


def make_groups(leaders: dict[str, str]) -> pa.Table:
    return pa.table({"image_id": list(leaders), "leader_image_id": list(leaders.values())})


def make_tasks(*image_ids: str) -> pa.Table:
    images = pa.table(
        {
            "image_id": image_ids,
            "ingest_date": [DAY] * len(image_ids),
            "standard_key": image_ids,
            "image_width_px": [640] * len(image_ids),
            "image_height_px": [480] * len(image_ids),
            "fingerprint": ["f"] * len(image_ids),
        }
    )
    ids = {image_id: number for number, image_id in enumerate(image_ids, start=1)}
    return build_tasks(images, ids, 7, {image_id: ["ann", "bob"] for image_id in image_ids})


def make_guess(
    image_id: str, class_id: str | None, confidence: float = 0.75, rank: int = 1, **more: Any
) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "ingest_date": DAY,
        "model_name": "image_model",
        "model_version": "1",
        "rank": rank,
        "label": "in words",
        "class_id": class_id,
        "confidence": confidence,
        "fingerprint": "f",
        **more,
    }


def guess(
    tasks: pa.Table, *predicted: dict[str, Any], standing: pa.Table | None = None, closed: tuple[str, ...] = ()
) -> dict[str, dict[str, Any]]:
    rows = select_pre_labels(
        tasks,
        pa.Table.from_pylist(list(predicted), schema=PREDICTED_LABELS),
        TASK_PRE_LABELS.empty_table() if standing is None else standing,
        closed,
        CLASSES,
    )
    assert rows.column_names == [name for name in TASK_PRE_LABELS.names if name != "fingerprint"]
    return {row["image_id"]: row for row in rows.to_pylist()}


def test_people_see_clean_leaders_in_the_order_of_their_arrival() -> None:
    cleansed = make_cleansed(("late", "clean"), ("member", "clean"), ("dark", "suspect"), ("early", "clean"))
    groups = make_groups({"late": "late", "member": "late", "dark": "dark", "early": "early"})
    selected = select_images_to_annotate(cleansed, groups)
    assert selected.to_pylist() == [
        {
            "image_id": image_id,
            "ingest_date": DAY,
            "standard_key": f"staging/{image_id}",
            "image_width_px": 640,
            "image_height_px": 480,
        }
        for image_id in ("early", "late")
    ]


def test_an_image_that_is_not_grouped_yet_waits() -> None:
    assert select_images_to_annotate(make_cleansed(("a", "clean")), make_groups({"b": "b"})).num_rows == 0


def test_an_empty_day_has_nothing_to_annotate() -> None:
    groups = pa.table({"image_id": pa.array([], pa.string()), "leader_image_id": pa.array([], pa.string())})
    assert select_images_to_annotate(make_cleansed(("a", "clean")).slice(1), groups).num_rows == 0


@given(st.text(max_size=5), names, st.integers(0, 10), st.randoms(use_true_random=False))
def test_assignees_follow_from_image_and_names_alone(
    image_id: str, people: list[str], overlap: int, random: Any
) -> None:
    chosen = assign_annotators(image_id, people, overlap)
    assert len(chosen) == min(overlap, len(people))
    assert set(chosen) <= set(people)
    assert chosen == sorted(chosen)
    shuffled = random.sample(people, len(people))
    assert assign_annotators(image_id, shuffled, overlap) == chosen


@given(st.text(max_size=5), st.lists(st.text(min_size=1, max_size=5), unique=True, min_size=1, max_size=8), st.data())
def test_a_person_who_leaves_moves_only_that_persons_share(
    image_id: str, people: list[str], data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(1, len(people)))
    gone = data.draw(st.sampled_from(people))
    before = set(assign_annotators(image_id, people, overlap))
    after = set(assign_annotators(image_id, [name for name in people if name != gone], overlap))
    assert before - {gone} <= after
    if gone not in before:
        assert after == before


def test_work_is_spread_evenly() -> None:
    people = [f"person-{number}" for number in range(5)]
    work = Counter(name for number in range(1000) for name in assign_annotators(f"image-{number}", people, 2))
    assert all(abs(count - 400) < 60 for count in work.values())


def test_tasks_say_who_was_asked_and_what_was_shown() -> None:
    tasks = make_tasks("a", "b")
    assert tasks.schema == ANNOTATION_TASKS
    assert tasks.column("task_id").to_pylist() == [1, 2]
    assert tasks.column("assignees").to_pylist() == [["ann", "bob"]] * 2


def test_the_most_probable_class_of_the_project_is_shown() -> None:
    found = guess(
        make_tasks("a"),
        make_guess("a", None, 0.9, rank=1),
        make_guess("a", "elephant", 0.8, rank=2),
        make_guess("a", "hen", 0.25, rank=4),
        make_guess("a", "cow", 0.5, rank=3),
    )
    assert (found["a"]["class_id"], found["a"]["confidence"], found["a"]["priority"]) == ("cow", 0.5, 0.5)
    assert (found["a"]["task_id"], found["a"]["project_id"]) == (1, 7)


def test_the_projects_own_model_speaks_before_the_packaged_one() -> None:
    own = make_guess("a", "hen", 0.1, model_name="label_model", model_version="v2")
    found = guess(make_tasks("a"), make_guess("a", "cow", 0.99), own)
    assert (found["a"]["class_id"], found["a"]["model_name"], found["a"]["model_version"]) == (
        "hen",
        "label_model",
        "v2",
    )


def test_a_task_without_a_guess_has_no_row_and_a_guess_without_a_task_neither() -> None:
    assert guess(make_tasks("a"), make_guess("b", "cow"), make_guess("a", None)) == {}


def test_a_closed_task_keeps_the_guess_that_people_saw() -> None:
    before = pa.Table.from_pylist(
        [
            {**row, "fingerprint": "f"}
            for row in guess(make_tasks("a", "b"), *(make_guess(i, "cow") for i in "ab")).values()
        ],
        schema=TASK_PRE_LABELS,
    )
    better = [make_guess(image_id, "hen", 0.99, model_name="label_model") for image_id in "ab"]
    found = guess(make_tasks("a", "b"), *better, standing=before, closed=("a",))
    assert [found[image_id]["class_id"] for image_id in "ab"] == ["cow", "hen"]


def test_a_closed_task_that_never_had_a_guess_gets_none() -> None:
    assert guess(make_tasks("a"), make_guess("a", "cow"), closed=("a",)) == {}


@pytest.mark.parametrize(("phase", "is_closed"), [("annotating", False), ("complete", True), ("conflict", True)])
def test_a_task_is_closed_once_people_have_decided_or_disagree(phase: str, is_closed: bool) -> None:  # noqa: FBT001
    labelled = pa.table({"image_id": ["a"], "phase": [phase]})
    assert list_closed_images(labelled) == ({"a"} if is_closed else set())
