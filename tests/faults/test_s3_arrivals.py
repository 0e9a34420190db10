"""Arrivals on a real S3 that fails, with events that come twice, late or never."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path, PurePosixPath

import dagster as dg
import httpx
import pyarrow.compute as pc
import pytest

from adapters import event_notes, inbox
from adapters.lake import Lake
from benchmarks.s3_server import S3Server, start_s3_server
from cli.doctor import CHECKS, examine
from cli.runs import run_assets
from farmy_assets.reconciliation import reconcile_lake
from lakehouse import run_requests
from lakehouse.arrivals import OBJECT_DELETED
from lakehouse.errors import AccessRefusedError, StorageError
from tests.contracts.aws_server import AwsServer, start_aws_server
from tests.faults.s3_lakes import Daemon, Place, Producer, read_tables
from tests.faults.s3_proxy import Fault, S3Proxy, start_s3_proxy
from tests.graph.lakes import IMAGE_TABLES, list_notes, make_picture, recompress
from tests.unit.cli.calls import call

SEED = 4
SHARE_OF_FAULTS = 0.05
ODD_NAMES = ("a b+c #1.jpg", "Äpfel 苹果.jpg", "100%25.jpg", "field/[2] (3).jpg")
UNREADABLE = ("no JSON at all", '{"Records": "none"}', '{"detail-type": "Object Created", "source": "aws.ec2"}')

names = (f"place-{number}" for number in count())


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with start_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    with start_aws_server(tmp_path_factory.mktemp("aws")) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The S3's credentials, which the queue takes too, and none of this machine's."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FARMY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    # Nobody else works on these lakes, so nothing is to be waited for.
    monkeypatch.setattr(run_requests, "FIRST_PAUSE", timedelta(0))
    monkeypatch.setattr(event_notes, "_WAIT_S", 0)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with start_s3_proxy(s3_server.endpoint, SEED) as proxy:
        yield proxy


@pytest.fixture
def place(s3_server: S3Server, aws_server: AwsServer) -> Place:
    place = Place(s3_server, aws_server, next(names))
    assert place.queue_url
    return place


@pytest.fixture
def producer(place: Place) -> Producer:
    return Producer(place)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def lake(place: Place, proxy: S3Proxy, tmp_path: Path) -> Iterator[Lake]:
    """A lake that hears of events and reaches S3 through the proxy."""
    with place.open_lake(tmp_path / "home", proxy.endpoint) as lake:
        yield lake


@pytest.fixture
def undisturbed(place: Place, tmp_path: Path) -> Iterator[Lake]:
    """A lake over the same landing, with tables of its own, that reaches S3 directly and lists it."""
    with place.open_lake(tmp_path / "undisturbed", queue_url=None) as lake:
        yield lake


@pytest.fixture
def daemon(place: Place, lake: Lake, instance: dg.DagsterInstance) -> Daemon:
    return Daemon(place, lake, instance)


def land_first_wave(producer: Producer) -> None:
    """Land what arrivals are like: most heard of, some twice, some never, a few odd ones among them."""
    pictures = [make_picture(seed) for seed in range(12)]
    for number, picture in enumerate(pictures):
        key = producer.put(f"{number:02}.jpg", picture, is_heard_of=number % 5 != 1)
        if number % 4 == 0:
            producer.tell_of(key, picture)
    for number, name in enumerate(ODD_NAMES):
        producer.put(name, make_picture(100 + number))
    for number in range(3):
        producer.put(f"copy of {number}.jpg", pictures[number])
        producer.put(f"near {number}.jpg", recompress(pictures[number]), is_heard_of=number != 1)
    producer.put("large.jpg", make_picture(200, (1600, 1200)))
    producer.put("broken.jpg", pictures[5][:2000])
    producer.put("02.jpg.json", b'{"licence": "CC0-1.0", "consent": "granted"}')
    producer.put("03.jpg.json", b"{", is_heard_of=False)
    producer.put("04.jpg.json", b'{"consent": "withdrawn"}')
    producer.put("overwritten.jpg", make_picture(300))
    producer.put("overwritten.jpg", make_picture(301))
    producer.delete(producer.put("vanished.jpg", make_picture(302)), is_heard_of=False)
    for body in UNREADABLE:
        producer.send(body)


def land_second_wave(producer: Producer) -> None:
    """Land what changes what is there, and delete some of it."""
    producer.put("copy of 3.jpg", make_picture(3))
    producer.put("near 100.jpg", recompress(make_picture(100)))
    producer.put("05.jpg.json", b'{"consent": "withdrawn"}')
    producer.put("07.jpg", make_picture(400, (200, 200)))
    producer.put("unheard.jpg", make_picture(401), is_heard_of=False)
    producer.delete(producer.put("00.jpg", make_picture(402, (100, 100))))
    producer.delete(producer.put("08.jpg", make_picture(403, (100, 100))), is_heard_of=False)


def test_a_lake_whose_storage_fails_at_one_call_in_twenty_holds_what_an_undisturbed_one_holds(
    proxy: S3Proxy, producer: Producer, place: Place, lake: Lake, undisturbed: Lake, daemon: Daemon
) -> None:
    proxy.share = SHARE_OF_FAULTS
    land_first_wave(producer)
    daemon.work()
    take_in_without_faults(undisturbed)
    land_second_wave(producer)
    daemon.reconcile()
    daemon.work()
    proxy.share = 0
    assert list_notes(lake) == []
    take_in_without_faults(undisturbed)

    assert proxy.count_faults().keys() == set(Fault)
    assert proxy.count_faults().total() > proxy.calls.total() / 40
    assert read_tables(lake) == read_tables(undisturbed)
    assert undisturbed.tables.count_rows("raw_images") > 25
    originals = undisturbed.objects.list("raw/")
    assert all(hash_object(undisturbed, fact.key) == PurePosixPath(fact.key).name for fact in originals)
    wait_for_count(place, 0)
    reasons = place.read_dead_letters()
    assert sorted(reasons) == sorted(UNREADABLE)
    assert all(reason is not None and "A message of the event queue" in reason for reason in reasons.values())
    assert daemon.checks == {"no_dead_letters": False, "nothing_parked": True}
    assert not examine("event queue", CHECKS["event queue"], lake).is_well
    assert examine("notes", CHECKS["notes"], lake).is_well


def take_in_without_faults(lake: Lake) -> None:
    """Compare landing with the tables, and run until nothing waits."""
    reconcile_lake(lake, datetime.now(UTC))
    while days := list(inbox.list_days_with_arrivals(lake)):
        run_assets(lake, days, IMAGE_TABLES)


def hash_object(lake: Lake, key: str) -> str:
    return hashlib.sha256(lake.objects.read(key)).hexdigest()


def test_messages_and_notes_wait_while_the_storage_does_not_answer_at_all(
    proxy: S3Proxy, producer: Producer, place: Place, lake: Lake, daemon: Daemon
) -> None:
    keys = [producer.put(f"{number}.jpg", make_picture(number)) for number in range(3)]
    proxy.share = 1
    with pytest.raises(StorageError, match="Could not write inbox/arrivals/"):
        daemon.tick()
    wait_for_count(place, 1 + len(keys))  # the first is S3's test event

    proxy.share = 0
    requests = wait_for_requests(daemon)
    proxy.share = 1
    assert not any(map(daemon.run, requests))

    proxy.share = 0
    daemon.work()
    assert list_keys(lake) == keys
    assert list_notes(lake) == []
    wait_for_count(place, 0)
    assert place.read_dead_letters() == {}


def wait_for_count(place: Place, messages: int) -> None:
    """Wait until the queue says that it holds so many: one that comes back just then counts twice, or not at all."""
    deadline = time.monotonic() + 20
    while (found := place.count_messages()) != messages:
        assert time.monotonic() < deadline, f"{found} messages, and not {messages}"
        time.sleep(0.2)


def wait_for_requests(daemon: Daemon) -> Sequence[dg.RunRequest]:
    """Tick until the messages of an earlier tick have come again."""
    while not (requests := daemon.tick()):
        time.sleep(0.1)
    return requests


@pytest.mark.parametrize("fault", Fault)
def test_every_operation_on_objects_survives_a_fault_of_every_kind(proxy: S3Proxy, lake: Lake, fault: Fault) -> None:
    objects, facts = lake.objects, []
    for method, operation in (
        ("PUT", lambda: objects.create("raw/once", b"bytes")),
        ("GET", lambda: objects.read("raw/once")),
        ("GET", lambda: facts.append(objects.fetch("raw/once", 100).fact)),
        ("HEAD", lambda: objects.exists("raw/once")),
        ("GET", lambda: list(objects.list_folders(""))),
        ("GET", lambda: facts.extend(objects.list("raw/"))),
    ):
        proxy.fail_next(method, fault)
        operation()
    assert objects.read("raw/once") == b"bytes"
    assert facts[0] == facts[1]
    assert not objects.create("raw/once", b"others")

    proxy.fail_next("POST", fault)
    objects.delete(["raw/once"])
    assert objects.list("raw/") == []
    assert proxy.count_faults() == {fault: 7}


def test_a_submission_whose_answer_is_lost_lands_once(
    proxy: S3Proxy, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter_home(lake, monkeypatch)
    (tmp_path / "leaf.jpg").write_bytes(make_picture(1))
    proxy.fail_next("PUT", Fault.LOST_ANSWER)
    (image,) = call("submit", str(tmp_path / "leaf.jpg"), "--json").answer["images"]
    assert image["reason"] is None
    assert [fact.key for fact in lake.objects.list("landing/")] == [image["object_key"]]


def enter_home(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the `farmy` command work on a lake."""
    monkeypatch.setenv("FARMY_HOME", str(lake.settings.home))
    for name in ("objects", "s3_endpoint", "queue_url"):
        monkeypatch.setenv(f"FARMY_{name.upper()}", str(getattr(lake.settings, name)))


def test_a_wrong_secret_is_one_sentence_and_loses_nothing(
    producer: Producer,
    place: Place,
    lake: Lake,
    daemon: Daemon,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = producer.put("1.jpg", make_picture(1))
    daemon.work()
    second = producer.put("2.jpg", make_picture(2))
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with place.open_lake(lake.settings.home) as stranger:
            for attempt in (
                Daemon(place, stranger, instance).tick,
                lambda: stranger.objects.fetch(first, 1000),
                lambda: stranger.objects.list("landing/"),
                lambda: stranger.tables.read("raw_images"),
            ):
                with pytest.raises(AccessRefusedError, match=r"^May not [^\n]*nothing was lost\.$"):
                    attempt()
    wait_for_count(place, 1)

    daemon.work()
    assert list_keys(lake) == [first, second]
    assert place.read_dead_letters() == {}


def test_the_time_of_an_arrival_is_the_same_in_every_answer_and_in_its_row(
    producer: Producer, lake: Lake, daemon: Daemon
) -> None:
    keys = [producer.put(f"{number}.jpg", make_picture(number)) for number in range(4)]
    daemon.work()
    listed = {fact.key: fact for fact in lake.objects.list("landing/")}
    rows = {row["object_key"]: row for row in lake.tables.read("raw_images").to_pylist()}
    assert sorted(rows) == sorted(listed) == keys
    for key, fact in listed.items():
        assert lake.objects.fetch(key, 1_000_000).fact == fact
        assert (rows[key]["landed_at"], rows[key]["size_bytes"]) == (fact.modified_at, fact.size_bytes)
    assert inbox.note_all_arrivals(lake) == 0


def test_a_presigned_upload_and_a_submission_are_taken_in_by_their_events(
    producer: Producer, lake: Lake, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = lake.presigned_uploads.create("phone", "leaf.jpg")
    answer = httpx.post(upload.url, data=upload.fields, files={"file": ("leaf.jpg", make_picture(1), "image/jpeg")})
    assert answer.is_success
    enter_home(lake, monkeypatch)
    (tmp_path / "barn.jpg").write_bytes(make_picture(2))
    (image,) = call("submit", str(tmp_path / "barn.jpg"), "--json").answer["images"]
    producer.tell_of(upload.object_key, make_picture(1))
    producer.tell_of(image["object_key"], make_picture(2))

    daemon.work()

    rows = lake.tables.read("raw_images").to_pylist()
    assert {row["object_key"]: row["source"] for row in rows} == {
        upload.object_key: "phone",
        image["object_key"]: "submit",
    }
    assert lake.tables.count_rows("cleansed_images") == 2


def test_an_object_that_is_deleted_takes_its_image_back_by_its_event_or_else_by_the_reconcile(
    producer: Producer, lake: Lake, daemon: Daemon
) -> None:
    kept = producer.put("kept.jpg", make_picture(1))
    heard = producer.put("heard.jpg", make_picture(2))
    unheard = producer.put("unheard.jpg", make_picture(3))
    copied = producer.put("copied.jpg", make_picture(4))
    copy = producer.put("copied too.jpg", make_picture(4))
    daemon.work()
    assert len(list_images(lake, "near_duplicates")) == 4

    producer.delete(heard)
    producer.delete(copied)
    producer.delete(unheard, is_heard_of=False)
    daemon.work()
    assert list_withdrawn(lake) == sorted([heard, copied])
    assert list_images(lake, "cleansed_images") == list_images(lake, "near_duplicates") == hash_pictures(1, 3, 4)

    daemon.reconcile()
    daemon.work()
    assert list_withdrawn(lake) == sorted([heard, copied, unheard])
    assert list_images(lake, "cleansed_images") == list_images(lake, "near_duplicates") == hash_pictures(1, 4)
    firsts = lake.tables.read("raw_images").filter(pc.field("is_first") & pc.field("withdrawal").is_null())
    assert sorted(firsts.column("object_key").to_pylist()) == sorted([kept, copy])


def list_keys(lake: Lake) -> list[str]:
    return sorted(lake.tables.read("raw_images").column("object_key").to_pylist())


def list_images(lake: Lake, table: str) -> list[str]:
    return sorted(lake.tables.read(table).column("image_id").to_pylist())


def list_withdrawn(lake: Lake) -> list[str]:
    rows = lake.tables.read("raw_images").to_pylist()
    return sorted(row["object_key"] for row in rows if row["withdrawal"] == OBJECT_DELETED)


def hash_pictures(*seeds: int) -> list[str]:
    return sorted(hashlib.sha256(make_picture(seed)).hexdigest() for seed in seeds)
