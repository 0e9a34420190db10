"""Sensors, evaluated twice at one cursor over a real lake and a real Dagster instance."""

import json
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from adapters import inbox
from adapters.lake import Lake
from adapters.objects import Objects
from farmy_assets.definitions import build_definitions
from lakehouse import run_requests
from lakehouse.arrivals import ObjectFact, merge_hints
from lakehouse.run_requests import MAX_ATTEMPTS
from tests.contracts.memory_queue import MemoryQueue
from tests.graph.lakes import DAY_1, DAY_2, DAY_3, land, list_notes, make_picture, take_in

TODAY = datetime.now(UTC).date()


def evaluate(lake: Lake, instance: dg.DagsterInstance, name: str = "arrivals_sensor") -> SensorExecutionData:
    definitions = build_definitions(lake)
    context = dg.build_sensor_context(instance=instance, definitions=definitions, resources={"lake": lake})
    return definitions.resolve_sensor_def(name).evaluate_tick(context)


def list_requested_days(tick: SensorExecutionData) -> list[str | None]:
    return [request.partition_key for request in tick.run_requests or []]


def record_run(instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    """Record a run for a request as the daemon does, in a state of its life."""
    job = build_definitions().resolve_job_def("images_job")
    tags = {**request.tags, "dagster/partition": str(request.partition_key)}
    return instance.create_run_for_job(job, status=status, tags=tags)


def fail_a_run(lake: Lake, instance: dg.DagsterInstance, request: dg.RunRequest) -> None:
    """Run what was asked for, really, and have it fail."""
    job = build_definitions(lake).resolve_job_def("images_job")
    result = job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        tags=dict(request.tags),
        asset_selection=[dg.AssetKey("raw_images")],
        raise_on_error=False,
    )
    assert not result.success


def test_each_waiting_day_is_asked_for_once_however_many_images_it_has(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "2.jpg", make_picture(2), DAY_1)
    land(lake, "3.jpg", make_picture(3), DAY_2)
    inbox.note_all_arrivals(lake)

    assert list_requested_days(evaluate(lake, instance)) == [DAY_2.isoformat(), DAY_1.isoformat()]


def test_a_second_evaluation_at_the_same_cursor_asks_for_the_same_and_notes_nothing_twice(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    land(lake, "1.jpg", make_picture(1), TODAY, hour=0)

    first, notes = evaluate(lake, instance), list_notes(lake)
    second = evaluate(lake, instance)

    assert len(notes) == 1
    assert list_notes(lake) == notes
    # The same key, which Dagster runs once.
    assert [request.run_key for request in first.run_requests or []] == [
        request.run_key for request in second.run_requests or []
    ]


def test_nothing_is_asked_for_where_nothing_waits(lake: Lake, instance: dg.DagsterInstance) -> None:
    land(lake, "1.jpg", make_picture(1), TODAY, hour=0)
    take_in(lake, [TODAY], ["raw_images"])

    tick = evaluate(lake, instance)

    assert list_requested_days(tick) == []
    assert tick.skip_message
    assert list_notes(lake) == []


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_day_with_an_active_run_is_not_asked_for(
    lake: Lake, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "2.jpg", make_picture(2), DAY_2)
    inbox.note_all_arrivals(lake)
    requests = {request.partition_key: request for request in evaluate(lake, instance).run_requests or []}
    record_run(instance, requests[DAY_1.isoformat()], status)

    land(lake, "3.jpg", make_picture(3), DAY_1)
    inbox.note_all_arrivals(lake)

    assert list_requested_days(evaluate(lake, instance)) == [DAY_2.isoformat()]


@pytest.mark.parametrize(
    ("job", "tags"),
    [
        ("labels_job", {"dagster/partition": DAY_2.isoformat()}),
        (
            "loop_job",
            {
                "dagster/asset_partition_range_start": DAY_2.isoformat(),
                "dagster/asset_partition_range_end": DAY_3.isoformat(),
            },
        ),
    ],
    ids=["another job", "a range of days"],
)
def test_a_day_on_which_any_run_works_waits_for_it(
    lake: Lake, instance: dg.DagsterInstance, job: str, tags: dict[str, str]
) -> None:
    for number, day in enumerate((DAY_1, DAY_2, DAY_3)):
        land(lake, f"{number}.jpg", make_picture(number), day)
    inbox.note_all_arrivals(lake)
    busy = {date.fromisoformat(day) for day in tags.values()}
    status = dg.DagsterRunStatus.STARTED
    run = instance.create_run_for_job(build_definitions().resolve_job_def(job), status=status, tags=tags)

    asked = list_requested_days(evaluate(lake, instance))
    instance.report_run_canceled(run)

    assert asked == [day.isoformat() for day in (DAY_3, DAY_2, DAY_1) if day not in busy]
    assert len(list_requested_days(evaluate(lake, instance))) == 3


def test_a_failed_attempt_is_repeated_only_after_a_pause(lake: Lake, instance: dg.DagsterInstance) -> None:
    lake.objects.create(f"inbox/arrivals/{DAY_1}/nonsense.json", b"not a note")
    fail_a_run(lake, instance, (evaluate(lake, instance).run_requests or [])[0])
    assert list_requested_days(evaluate(lake, instance)) == []

    land(lake, "new.jpg", make_picture(1), DAY_1)
    inbox.note_all_arrivals(lake)
    assert list_requested_days(evaluate(lake, instance)) == [DAY_1.isoformat()]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass between attempts."""
    monkeypatch.setattr(run_requests, "FIRST_PAUSE", timedelta(0))


@pytest.mark.usefixtures("impatient")
def test_failed_attempts_are_counted_and_given_up_until_something_new_arrives(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    lake.objects.create(f"inbox/arrivals/{DAY_1}/nonsense.json", b"not a note")
    keys = []
    for _ in range(MAX_ATTEMPTS):
        (request,) = evaluate(lake, instance).run_requests or []
        keys.append(request.run_key)
        fail_a_run(lake, instance, request)

    assert len(set(keys)) == MAX_ATTEMPTS
    assert list_requested_days(evaluate(lake, instance)) == []

    land(lake, "new.jpg", make_picture(1), DAY_1)
    inbox.note_all_arrivals(lake)
    assert list_requested_days(evaluate(lake, instance)) == [DAY_1.isoformat()]


def test_more_days_than_a_tick_may_ask_for_are_asked_for_newest_first(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_requests, "MAX_REQUESTS", 2)
    for number, day in enumerate((DAY_1, DAY_2, DAY_3)):
        land(lake, f"{number}.jpg", make_picture(number), day)
    inbox.note_all_arrivals(lake)

    assert list_requested_days(evaluate(lake, instance)) == [DAY_3.isoformat(), DAY_2.isoformat()]


def test_with_a_queue_its_events_are_noted_and_landing_is_not_listed(lake: Lake, instance: dg.DagsterInstance) -> None:
    lake.__dict__["objects"] = objects = BucketObjects(lake.objects)
    lake.__dict__["event_queue"] = queue = MemoryQueue()
    told = land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "untold.jpg", make_picture(2), TODAY, hour=0)
    queue.send(make_message(told, DAY_1), make_message(told, DAY_1), make_message("raw/ab/x", DAY_2), "no message")

    tick = evaluate(lake, instance)

    assert list_requested_days(tick) == [DAY_1.isoformat()]
    assert [hint.object_key for hint in merge_hints(inbox.read_notes(lake, DAY_1))] == [told]
    assert "landing/" not in objects.listed
    assert queue.measure().waiting == queue.measure().in_flight == 0
    assert [body for body, _ in queue.dead] == ["no message"]


class BucketObjects(Objects):
    """A folder's objects that say they live in a bucket.

    Args:
        inner: The folder's.

    Attributes:
        listed: The prefixes that were listed.
    """

    def __init__(self, inner: Objects) -> None:
        super().__init__(inner._store, inner.root, inner.folder)
        self.listed: list[str] = []

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        return "farm-lake", "herd"

    def list(self, prefix: str) -> list[ObjectFact]:
        self.listed.append(prefix)
        return super().list(prefix)


def make_message(key: str, day: date) -> str:
    """Return S3's message that an object was written at noon of a day."""
    stored = {"key": f"herd/{key}", "size": 5, "sequencer": "0A"}
    record = {
        "eventVersion": "2.1",
        "eventName": "ObjectCreated:Put",
        "eventTime": f"{day}T12:00:00Z",
        "s3": {"bucket": {"name": "farm-lake"}, "object": stored},
    }
    return json.dumps({"Records": [record]})


def test_the_run_that_is_asked_for_takes_the_notes_in(lake: Lake, instance: dg.DagsterInstance) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    inbox.note_all_arrivals(lake)
    request = (evaluate(lake, instance).run_requests or [])[0]

    job = build_definitions(lake).resolve_job_def("images_job")
    job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        tags=dict(request.tags),
        asset_selection=[dg.AssetKey(name) for name in ("raw_images", "cleansed_images")],
    )

    assert lake.tables.count_rows("cleansed_images") == 1
    assert list_requested_days(evaluate(lake, instance)) == []


def test_objects_that_arrived_long_ago_are_left_to_the_reconcile(lake: Lake, instance: dg.DagsterInstance) -> None:
    land(lake, "old.jpg", make_picture(1), date(2026, 1, 5))

    assert list_requested_days(evaluate(lake, instance)) == []
    assert list_notes(lake) == []


def test_nobody_is_asked_about_answers_while_label_studio_does_not_run(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    tick = evaluate(lake, instance, "annotation_progress_sensor")

    assert list_requested_days(tick) == []
    assert "farmy up" in str(tick.skip_message)


def test_no_training_is_asked_for_before_anything_is_labelled(lake: Lake, instance: dg.DagsterInstance) -> None:
    take_in(lake, [DAY_1], ["raw_images"])

    tick = evaluate(lake, instance, "training_sensor")

    assert not tick.run_requests
    assert tick.skip_message
