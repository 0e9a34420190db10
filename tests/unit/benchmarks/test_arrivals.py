import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from adapters.event_queue import SqsQueue
from benchmarks import batches, landings
from benchmarks.arrivals import Bucket, describe_event
from benchmarks.batches import describe_without_decoding, measure_batch
from benchmarks.environments import bare_environment
from benchmarks.landings import BUCKET, OBJECTS_A_DAY, SimulatedLanding, build_rows, count_objects, make_facts
from benchmarks.sqs_server import Queue, answer, send_messages, start_sqs_server
from benchmarks.ticks import open_instance
from lakehouse.arrivals import build_arrival, list_watched_prefixes, select_new_arrivals
from lakehouse.landing_events import parse_message
from lakehouse.quality import CLEAN, CleansingRecipe, QualitySettings, judge
from lakehouse.schemas import RAW_IMAGES

DAY = date(2026, 11, 2)
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}


@pytest.fixture
def queue_url(tmp_path: Path) -> Iterator[str]:
    bodies = tmp_path / "bodies"
    bodies.write_text("first\nsecond")
    with bare_environment(CREDENTIALS), start_sqs_server(bodies) as url:
        yield url


def test_the_queue_holds_what_it_was_started_with_and_what_is_sent_until_it_is_deleted(queue_url: str) -> None:
    queue = SqsQueue(queue_url)
    send_messages(queue_url, [f"more {number}" for number in range(11)])
    received = queue.receive() + queue.receive()
    assert {message.body for message in received} == {"first", "second", *(f"more {number}" for number in range(11))}
    assert queue.delete(received) == 13
    assert queue.receive() == []


def test_a_message_that_is_not_deleted_comes_again_and_one_that_is_does_not() -> None:
    now = 0.0
    queue = Queue(["kept", "deleted", "deleted late"], lambda: now)
    handles = {body: handle for handle, body in queue.receive(10, 0)}
    queue.delete([handles["deleted"]])
    assert queue.receive(10, 0) == []
    now = 3600.0
    queue.delete([handles["deleted late"]])
    assert [body for _, body in queue.receive(10, 0)] == ["kept"]


def test_what_the_queue_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="does not answer PurgeQueue"):
        answer(Queue(), "PurgeQueue", {})


def test_buckets_of_any_size_hold_as_much_in_the_days_that_are_watched() -> None:
    small, large = count_objects(DAY, 0), count_objects(DAY, 999)
    assert sum(small.values()) == OBJECTS_A_DAY
    assert sum(large.values()) == 1_000_000
    assert {day: large[day] for day in small} == small


def test_a_made_up_landing_lists_days_and_refuses_to_list_everything(tmp_path: Path) -> None:
    landing = SimulatedLanding(tmp_path, DAY, older_days=1)
    landing.new = make_facts(DAY, 2, "new")
    prefixes = list_watched_prefixes(landing.list_folders("landing/"), DAY, landings.WATCHED_DAYS)
    listed = [fact for prefix in prefixes for fact in landing.list(prefix)]
    assert len({fact.key for fact in listed}) == OBJECTS_A_DAY + 2
    with pytest.raises(RuntimeError, match="all of landing was listed"):
        landing.list("landing/")


def test_rows_of_a_made_up_history_are_those_of_its_objects() -> None:
    arrivals = [build_arrival(fact, None) for fact in make_facts(DAY, 5)]
    rows = build_rows(DAY, arrivals[:4])
    assert rows.schema == RAW_IMAGES
    assert select_new_arrivals(arrivals, rows) == [arrivals[4]]


def test_a_message_tells_of_its_object() -> None:
    (fact,) = make_facts(DAY, 1)
    (event,) = parse_message(describe_event(BUCKET, fact))
    assert (event.bucket, event.key, event.size_bytes) == (BUCKET, fact.key, fact.size_bytes)
    assert event.occurred_at == fact.modified_at
    assert not event.is_removal


def test_what_is_said_without_decoding_is_a_clean_image_of_its_own() -> None:
    images = [describe_without_decoding(data, CleansingRecipe()) for data in (b"one", b"two")]
    assert {judge(vars(image), QualitySettings()).status for image in images} == {CLEAN}
    for name in ("perceptual_hash", "detail_hash", "strength_hash", "standard_jpeg", "thumbnail_jpeg"):
        assert len({getattr(image, name) for image in images}) == 2


def test_a_tick_finds_new_objects_by_listing_and_from_a_queue_and_each_time_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landings, "OBJECTS_A_DAY", 6)
    empty = tmp_path / "bodies"
    empty.touch()
    today = datetime.now(UTC).date()
    with bare_environment(CREDENTIALS), open_instance() as instance, start_sqs_server(empty) as queue_url:
        bucket = Bucket(tmp_path / "bucket", today, 2, instance)
        for _ in range(2):
            assert bucket.tick().cpu_s > 0
            assert bucket.tick(queue_url).days == [today.isoformat()]
        assert bucket.tick(is_first=True).peak_bytes > 0


def test_a_batch_that_costs_something_is_taken_in_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "IMAGES", 5)
    cost = measure_batch()
    assert 0 < cost.tick_s < cost.run_s < cost.all_s


def test_a_batch_lands_as_if_on_its_day(tmp_path: Path) -> None:
    batches.land_batch(tmp_path, DAY, 2)
    paths = sorted(tmp_path.rglob("*.jpg"))
    midnight = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    assert [datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in paths] == [midnight] * 2
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_an_environment_says_nothing_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARMY_HOME", "mine")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    with bare_environment({"FARMY_OBJECTS": "s3://bucket"}):
        said = {name for name in os.environ if name.startswith(("FARMY_", "AWS_"))}
    assert said == {"FARMY_OBJECTS"}
    assert os.environ["FARMY_HOME"] == "mine"
