from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.annotation_progress import (
    OVERLAP,
    ProgressCursor,
    build_progress_note_key,
    combine_answers,
    list_image_sizes,
    list_progress_notes_prefix,
    parse_progress_note_key,
    select_progress,
)
from lakehouse.annotations import Answer, ChangedTask, TaskAnswers, build_choice
from lakehouse.errors import SchemaMismatchError
from lakehouse.schemas import ANNOTATION_TASKS, ANNOTATIONS

DAY = date(2026, 11, 2)
START = datetime(2026, 11, 2, 12, tzinfo=UTC)


def make_change(task_id: int, seconds: float) -> ChangedTask:
    return ChangedTask(task_id, f"image-{task_id}", DAY, START + timedelta(seconds=seconds))


def make_answers(task_id: int, *classes: str) -> TaskAnswers:
    answers = tuple(
        Answer(
            10 * task_id + number, f"person-{number}", START, START, 1.5, is_skip=False, result=(build_choice(name),)
        )
        for number, name in enumerate(classes)
    )
    return TaskAnswers(task_id, f"image-{task_id}", DAY, answers)


SIZES = {f"image-{number}": (100, 80) for number in range(5)}
NONE = ANNOTATIONS.empty_table()


def combine(standing: pa.Table, *answers: TaskAnswers, gone: tuple[int, ...] = (), version: str = "1") -> pa.Table:
    changed = {task.task_id for task in answers} | set(gone)
    return combine_answers(standing, answers, changed, SIZES, version)[0]


def list_classes(rows: pa.Table) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = {}
    for row in rows.to_pylist():
        classes.setdefault(row["image_id"], []).append(row["class_id"])
    return {image_id: sorted(found) for image_id, found in classes.items()}


def test_the_first_poll_asks_for_everything_and_the_next_overlaps_it() -> None:
    assert ProgressCursor().since is None
    news, cursor = select_progress(ProgressCursor(), [make_change(1, 0), make_change(2, 50)])
    assert [task.task_id for task in news] == [1, 2]
    assert cursor.since == START + timedelta(seconds=50) - OVERLAP
    assert cursor.seen == {2: START + timedelta(seconds=50)}


def test_a_poll_that_finds_nothing_leaves_the_cursor() -> None:
    cursor = ProgressCursor(START, {1: START})
    assert select_progress(cursor, []) == ([], cursor)
    assert select_progress(ProgressCursor(), []) == ([], ProgressCursor())


def test_a_task_that_changes_again_is_news_again() -> None:
    _, cursor = select_progress(ProgressCursor(), [make_change(1, 0)])
    news, cursor = select_progress(cursor, [make_change(1, 1)])
    assert news == [make_change(1, 1)]
    assert select_progress(cursor, [make_change(1, 1)])[0] == []


# Who changes which task, how long after the last change, and how long the server takes to show it.
changes = st.lists(
    st.tuples(st.integers(1, 3), st.floats(0, 40), st.floats(0, OVERLAP.total_seconds() - 1)), min_size=1, max_size=15
)


@given(changes, st.lists(st.floats(0, 60), max_size=20))
def test_polling_with_an_overlap_misses_no_change_and_repeats_none(
    drawn: list[tuple[int, float, float]], pauses: list[float]
) -> None:
    now = 0.0
    committed = []
    for task_id, pause, delay in drawn:
        now += pause
        committed.append((make_change(task_id, now), now + delay))
    polls = [sum(pauses[: number + 1]) for number in range(len(pauses))] + [now + 2 * OVERLAP.total_seconds()]
    polls = sorted(polls)
    cursor, told = ProgressCursor(), []
    for poll in polls:
        shown: dict[int, ChangedTask] = {}
        for change, visible_at in committed:
            newer = shown.get(change.task_id)
            if visible_at <= poll and (newer is None or newer.updated_at < change.updated_at):
                shown[change.task_id] = change
        listed = [change for change in shown.values() if cursor.since is None or change.updated_at >= cursor.since]
        news, cursor = select_progress(ProgressCursor.decode(cursor.encode()), listed)
        told += news
    keys = [build_progress_note_key(change) for change in told]
    assert len(keys) == len(set(keys))
    latest = {change.task_id: change for change, _ in committed}
    assert {build_progress_note_key(change) for change in latest.values()} <= set(keys)


times = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.none() | times, st.dictionaries(st.integers(1, 2**53), times, max_size=4))
def test_a_cursor_that_is_written_and_read_is_the_same(newest: datetime | None, seen: dict[int, datetime]) -> None:
    cursor = ProgressCursor(newest, seen)
    assert ProgressCursor.decode(cursor.encode()) == cursor


def test_without_a_cursor_everything_is_followed_from_the_beginning() -> None:
    assert ProgressCursor.decode(None) == ProgressCursor()


@given(st.integers(1, 2**62), times)
def test_a_note_tells_its_task_and_lies_below_its_day(task_id: int, updated_at: datetime) -> None:
    key = build_progress_note_key(ChangedTask(task_id, "image", DAY, updated_at))
    assert parse_progress_note_key(key) == task_id
    assert key.startswith(list_progress_notes_prefix(DAY))


def test_every_change_has_its_own_note() -> None:
    instants = [0, 0.000001, 1]
    assert len({build_progress_note_key(make_change(task, at)) for task in (1, 2) for at in instants}) == 6


@pytest.mark.parametrize("key", ["inbox/annotations/2026-11-02/readme.txt", "inbox/annotations/2026-11-02/-5.json", ""])
def test_what_is_no_note_is_refused_with_the_remedy(key: str) -> None:
    with pytest.raises(SchemaMismatchError, match="delete it"):
        parse_progress_note_key(key)


def test_a_changed_task_replaces_its_rows_and_leaves_those_of_others() -> None:
    before = combine(NONE, make_answers(1, "cow"), make_answers(2, "hen", "cow"))
    after = combine(before, make_answers(1, "hen", "hen"))
    assert list_classes(after) == {"image-1": ["hen", "hen"], "image-2": ["cow", "hen"]}
    assert after.schema == ANNOTATIONS


def test_a_task_that_is_gone_or_has_no_answer_left_has_no_rows() -> None:
    before = combine(NONE, make_answers(1, "cow"), make_answers(2, "hen"))
    assert list_classes(combine(before, make_answers(1))) == {"image-2": ["hen"]}
    assert list_classes(combine(before, gone=(2,))) == {"image-1": ["cow"]}


def test_all_rows_of_an_image_share_a_fingerprint_that_follows_all_of_them() -> None:
    before = combine(NONE, make_answers(1, "cow", "hen"), make_answers(2, "cow", "hen"))
    after = combine(before, make_answers(1, "cow", "cow"))
    prints = [
        {row["fingerprint"] for row in rows.to_pylist() if row["image_id"] == image_id}
        for image_id in ("image-1", "image-2")
        for rows in (before, after)
    ]
    assert [len(found) for found in prints] == [1, 1, 1, 1]
    assert prints[0] != prints[1]
    assert prints[2] == prints[3]


def test_taking_the_same_answers_in_again_changes_nothing_unless_the_code_changed() -> None:
    before = combine(NONE, make_answers(1, "cow", "hen"))
    assert combine(before, make_answers(1, "cow", "hen")) == before
    after = combine(before, make_answers(1, "cow", "hen"), version="2")
    assert after.column("fingerprint").to_pylist() != before.column("fingerprint").to_pylist()


def test_answers_to_an_image_that_was_never_put_before_people_are_left_out() -> None:
    assert combine(NONE, make_answers(9, "cow")).num_rows == 0


def test_sizes_are_those_of_the_picture_that_people_saw() -> None:
    row = {
        "image_id": "image-1",
        "ingest_date": DAY,
        "task_id": 1,
        "project_id": 1,
        "assignees": ["ann"],
        "standard_key": "staging/x",
        "image_width_px": 640,
        "image_height_px": 480,
        "fingerprint": "",
    }
    assert list_image_sizes(pa.Table.from_pylist([row], schema=ANNOTATION_TASKS)) == {"image-1": (640, 480)}
