import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydantic import ValidationError

from adapters.event_queue import MAX_SET_ASIDE_BYTES, EventQueue, QueueDepth, QueueMessage, SqsQueue
from adapters.lake import Lake
from adapters.settings import Settings
from benchmarks.loop import find_free_ports
from lakehouse.errors import (
    AccessRefusedError,
    FarmyError,
    NotFoundError,
    PermanentError,
    QueueUnavailableError,
    SettingsError,
)
from lakehouse.ontology import LabelClass
from tests.contracts.aws_server import AwsServer, start_aws_server
from tests.contracts.memory_queue import MemoryQueue

MAX_RECEIVES = 3
VISIBILITY_S = 600

names = (f"queue-{number}" for number in count())


class QueueUnderTest(Protocol):
    """A queue, and what a test may do to it from outside."""

    queue: EventQueue

    def send(self, *bodies: str) -> None: ...

    def expire(self, messages: list[QueueMessage]) -> None: ...
    def read_dead(self) -> list[tuple[str, str | None]]: ...


class InMemory:
    def __init__(self) -> None:
        self._memory = MemoryQueue(VISIBILITY_S, MAX_RECEIVES, seed=1)
        self.queue: EventQueue = self._memory

    def send(self, *bodies: str) -> None:
        self._memory.send(*bodies)

    def expire(self, messages: list[QueueMessage]) -> None:  # noqa: ARG002
        self._memory.pass_time(VISIBILITY_S)

    def read_dead(self) -> list[tuple[str, str | None]]:
        return self._memory.dead


class OnSqs:
    def __init__(self, server: AwsServer) -> None:
        self._client = server.open_client("sqs")
        self._dead_url, self.url = create_queues(self._client)
        self.queue: EventQueue = SqsQueue(self.url)

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self._client.send_message(QueueUrl=self.url, MessageBody=body)

    def expire(self, messages: list[QueueMessage]) -> None:
        for message in messages:
            self._client.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=message.receipt, VisibilityTimeout=0
            )

    def read_dead(self) -> list[tuple[str, str | None]]:
        response = self._client.receive_message(
            QueueUrl=self._dead_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return [
            (message["Body"], message.get("MessageAttributes", {}).get("reason", {}).get("StringValue"))
            for message in response.get("Messages", [])
        ]


def create_queues(client: Any) -> tuple[str, str]:
    """Create a queue with its dead-letter queue and return the addresses of both, the latter's first."""
    name = next(names)
    dead_url = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    dead = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": str(MAX_RECEIVES)})
    attributes = {"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": policy}
    return dead_url, client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


@pytest.fixture(scope="module")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    with start_aws_server(tmp_path_factory.mktemp("aws")) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that say nothing, and none of this machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "farmy-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")


@pytest.fixture(params=["memory", "SQS"])
def place(request: pytest.FixtureRequest) -> QueueUnderTest:
    return InMemory() if request.param == "memory" else OnSqs(request.getfixturevalue("aws_server"))


def receive_all(queue: EventQueue) -> list[QueueMessage]:
    """Receive until nothing comes."""
    received: list[QueueMessage] = []
    while messages := queue.receive():
        received += messages
    return received


def list_bodies(messages: list[QueueMessage]) -> list[str]:
    return sorted(message.body for message in messages)


def test_nothing_is_received_from_an_empty_queue(place: QueueUnderTest) -> None:
    assert place.queue.receive() == []
    assert place.queue.measure() == QueueDepth(0, 0, 0, 0)


@pytest.mark.parametrize("body", ["{}", "Äpfel 苹果 🐄\n\t", "<a & b>", "x" * 200_000])
def test_a_message_is_received_as_it_was_sent(place: QueueUnderTest, body: str) -> None:
    place.send(body)
    (message,) = place.queue.receive()
    assert message.body == body


def test_at_most_ten_are_received_at_once_and_all_in_the_end(place: QueueUnderTest) -> None:
    place.send(*map(str, range(23)))
    received = place.queue.receive()
    assert 1 <= len(received) <= 10
    received += receive_all(place.queue)
    assert list_bodies(received) == sorted(map(str, range(23)))


def test_what_is_received_stays_away_and_comes_again_unless_it_is_deleted(place: QueueUnderTest) -> None:
    place.send("kept", "deleted")
    first = {message.body: message for message in receive_all(place.queue)}
    assert place.queue.receive() == []
    assert place.queue.delete([first["deleted"]]) == 1
    place.expire([first["kept"]])
    (again,) = receive_all(place.queue)
    assert (again.body, again.message_id) == ("kept", first["kept"].message_id)
    assert again.receipt != first["kept"].receipt


def test_any_number_of_messages_is_deleted_in_one_call(place: QueueUnderTest) -> None:
    place.send(*map(str, range(25)))
    assert place.queue.delete(receive_all(place.queue)) == 25
    assert place.queue.delete([]) == 0
    assert place.queue.measure() == QueueDepth(0, 0, 0, 0)


def test_a_message_that_cannot_be_deleted_does_not_keep_the_others(place: QueueUnderTest) -> None:
    place.send("a", "b")
    messages = receive_all(place.queue)
    forged = QueueMessage(messages[0].message_id, "no receipt of anything", "a")
    assert place.queue.delete([forged, messages[1]]) == 1
    place.expire(messages[:1])
    assert list_bodies(receive_all(place.queue)) == [messages[0].body]


def test_deleting_a_message_twice_is_no_error(place: QueueUnderTest) -> None:
    place.send("a")
    messages = receive_all(place.queue)
    place.queue.delete(messages)
    place.queue.delete(messages)
    assert place.queue.measure().waiting == 0


def test_a_message_that_came_back_can_still_be_deleted_by_its_first_receipt(place: QueueUnderTest) -> None:
    place.send("a")
    messages = receive_all(place.queue)
    place.expire(messages)
    place.queue.delete(messages)
    assert place.queue.receive() == []


def test_what_is_set_aside_lies_in_the_dead_letter_queue_with_its_reason(place: QueueUnderTest) -> None:
    place.send("broken", "good")
    messages = {message.body: message for message in receive_all(place.queue)}
    place.queue.set_aside(messages["broken"], "It is no JSON: Äpfel 🐄.")
    assert place.queue.measure() == QueueDepth(waiting=0, in_flight=1, delayed=0, dead=1)
    assert place.read_dead() == [("broken", "It is no JSON: Äpfel 🐄.")]
    place.expire([messages["good"]])
    assert list_bodies(receive_all(place.queue)) == ["good"]


def test_a_large_body_and_an_odd_reason_are_set_aside_as_far_as_they_fit(place: QueueUnderTest) -> None:
    place.send("x" + "ä" * 125_000)
    (message,) = place.queue.receive()
    place.queue.set_aside(message, "line\nbreak \ud800\x00 " + "y" * 300_000)
    ((body, reason),) = place.read_dead()
    assert body == "x" + "ä" * ((MAX_SET_ASIDE_BYTES - 1) // 2)
    assert reason == "line break    " + "y" * (1_000 - 14)


def test_a_message_that_is_received_too_often_goes_to_the_dead_letter_queue(place: QueueUnderTest) -> None:
    place.send("poison")
    for _ in range(MAX_RECEIVES):
        (message,) = place.queue.receive()
        assert message.body == "poison"
        place.expire([message])
    assert place.queue.receive() == []
    assert place.queue.measure().dead == 1
    assert place.read_dead() == [("poison", None)]


def test_the_depth_tells_waiting_messages_from_received_ones(place: QueueUnderTest) -> None:
    place.send(*map(str, range(12)))
    received = place.queue.receive()
    assert place.queue.measure() == QueueDepth(12 - len(received), len(received), 0, 0)


def test_threads_that_share_a_queue_receive_every_message(place: QueueUnderTest) -> None:
    place.send(*map(str, range(40)))

    def drain(_: int) -> list[str]:
        bodies = []
        while messages := place.queue.receive():
            bodies += [message.body for message in messages]
            place.queue.delete(messages)
        return bodies

    with ThreadPoolExecutor(4) as pool:
        drained = [body for bodies in pool.map(drain, range(4)) for body in bodies]
    assert set(drained) == set(map(str, range(40)))
    assert place.queue.measure() == QueueDepth(0, 0, 0, 0)


def test_the_queue_in_memory_hands_some_messages_over_twice_and_always_the_same() -> None:
    def receive_from(seed: int) -> list[str]:
        queue = MemoryQueue(duplicate_share=0.1, seed=seed)
        queue.send(*map(str, range(500)))
        return [message.body for message in receive_all(queue)]

    received = receive_from(7)
    assert set(received) == set(map(str, range(500)))
    assert 510 < len(received) < 600
    assert received == receive_from(7)
    assert received != receive_from(8)


def test_the_queue_in_memory_holds_messages_back_that_are_delayed() -> None:
    queue = MemoryQueue()
    queue.send("late", delay_s=3600)
    assert queue.receive() == []
    assert queue.measure() == QueueDepth(waiting=0, in_flight=0, delayed=1, dead=0)
    queue.pass_time(3601)
    assert list_bodies(queue.receive()) == ["late"]


MESSAGE = QueueMessage("id", "receipt", "body")
OPERATIONS: dict[str, Callable[[SqsQueue], object]] = {
    "receive messages from": lambda queue: queue.receive(),
    "delete messages from": lambda queue: queue.delete([MESSAGE]),
    "find the dead-letter queue of": lambda queue: queue.set_aside(MESSAGE, "reason"),
    "count the messages of": lambda queue: queue.measure(),
}


@pytest.mark.parametrize("action", OPERATIONS)
def test_a_queue_that_does_not_exist_is_not_found(aws_server: AwsServer, action: str) -> None:
    queue = SqsQueue(f"{aws_server.endpoint}/123456789012/nowhere")
    with pytest.raises(NotFoundError, match=rf"Could not {action} the queue nowhere: .*FARMY_QUEUE_URL"):
        OPERATIONS[action](queue)


def test_a_queue_without_a_dead_letter_queue_says_so(aws_server: AwsServer) -> None:
    url = aws_server.open_client("sqs").create_queue(QueueName=next(names))["QueueUrl"]
    with pytest.raises(SettingsError, match=r"no dead-letter queue.*redrive policy"):
        SqsQueue(url).measure()


def test_missing_credentials_are_an_error_that_names_their_variables(
    aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SettingsError, match=r"there are no credentials\. Set AWS_ACCESS_KEY_ID"):
        SqsQueue(f"{aws_server.endpoint}/123456789012/any").receive()


@pytest.mark.parametrize("action", OPERATIONS)
def test_a_server_that_refuses_connections_is_unavailable_within_seconds(action: str) -> None:
    queue = SqsQueue(f"http://127.0.0.1:{find_free_ports(1)[0]}/123456789012/any")
    started = time.monotonic()
    with pytest.raises(QueueUnavailableError, match=rf"Could not {action} the queue any: it did not answer"):
        OPERATIONS[action](queue)
    assert time.monotonic() - started < 15


@contextmanager
def answer_with(status: int, body: str) -> Iterator[tuple[str, list[str]]]:
    """Run a server that answers every call alike; yield the address of a queue there, and what was called."""
    calls: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(self.headers["X-Amz-Target"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/123456789012/arrivals", calls
        finally:
            server.shutdown()
            thread.join()


def make_error(code: str, message: str = "") -> str:
    return json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": message})


ANSWERS: dict[str, tuple[int, str, type[FarmyError], str, int]] = {
    "no permission": (403, make_error("AccessDeniedException"), AccessRefusedError, "AccessDeniedException", 1),
    "wrong key": (403, make_error("InvalidClientTokenId"), AccessRefusedError, "InvalidClientTokenId", 1),
    "bad request": (400, make_error("InvalidAddress"), AccessRefusedError, "InvalidAddress", 1),
    "a page": (404, "<html>Not here</html>", AccessRefusedError, "404", 1),
    "throttled": (400, make_error("ThrottlingException"), QueueUnavailableError, "ThrottlingException", 3),
    "too many in flight": (403, make_error("OverLimit"), QueueUnavailableError, "OverLimit", 1),
    "too many requests": (429, make_error("Slower"), QueueUnavailableError, "Slower", 3),
    "internal": (500, make_error("InternalFailure"), QueueUnavailableError, "InternalFailure", 3),
    "unavailable": (503, "busy", QueueUnavailableError, "503", 3),
}


@pytest.mark.parametrize(("status", "body", "kind", "words", "attempts"), ANSWERS.values(), ids=ANSWERS)
def test_a_refusal_is_told_from_a_failure_that_passes_which_is_tried_again(
    status: int, body: str, kind: type[FarmyError], words: str, attempts: int
) -> None:
    with answer_with(status, body) as (url, calls), pytest.raises(kind, match=words) as caught:
        SqsQueue(url).receive()
    assert "Could not receive messages from the queue arrivals: " in str(caught.value)
    assert calls == ["AmazonSQS.ReceiveMessage"] * attempts


def test_no_secret_and_no_word_of_the_server_is_part_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "s3cret-token")
    told = make_error("SignatureDoesNotMatch", "should have been x-amz-security-token:s3cret-token ?X-Amz-Signature=1")
    with answer_with(403, told) as (url, _), pytest.raises(AccessRefusedError) as caught:
        SqsQueue(url).receive()
    assert "SignatureDoesNotMatch" in str(caught.value)
    assert not [word for word in ("s3cret", "farmy-test", "Signature=", "127.0.0.1") if word in str(caught.value)]
    assert "127.0.0.1" not in repr(SqsQueue(url))


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "eu-west-1", "https://sqs.eu-west-1.amazonaws.com"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1", "https://sqs.cn-north-1.amazonaws.com.cn"),
        ("http://127.0.0.1:5000/1/q", "us-east-1", "http://127.0.0.1:5000"),
        ("https://sqs.example.org/1/q", "us-east-1", "https://sqs.example.org"),
    ],
)
def test_region_and_server_follow_from_the_address(url: str, region: str, endpoint: str) -> None:
    client = SqsQueue(url)._client
    assert (client.meta.region_name, client.meta.endpoint_url) == (region, endpoint)


def test_the_environment_says_where_amazons_queues_really_are(
    aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = OnSqs(aws_server)
    here.send("hello")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", aws_server.endpoint)
    queue = SqsQueue(here.url.replace(aws_server.endpoint, "https://sqs.us-east-1.amazonaws.com"))
    assert list_bodies(queue.receive()) == ["hello"]


def test_an_unusable_variable_is_a_permanent_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(PermanentError, match=r"ProfileNotFound\. Check the AWS_\* variables"):
        SqsQueue("https://sqs.eu-west-1.amazonaws.com/1/q").receive()


def open_lake(home: Path, **settings: Any) -> Lake:
    return Lake(Settings(home=home, classes=(LabelClass("cow", "Cow"),), **settings))


def test_a_lake_has_the_queue_that_the_environment_names_and_none_otherwise(
    tmp_path: Path, aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARMY_QUEUE_URL", raising=False)
    assert open_lake(tmp_path).event_queue is None
    here = OnSqs(aws_server)
    here.send("hello")
    monkeypatch.setenv("FARMY_QUEUE_URL", here.url)
    queue = open_lake(tmp_path).event_queue
    assert queue is not None
    assert list_bodies(queue.receive()) == ["hello"]


@pytest.mark.parametrize(
    "url", ["arrivals", "https://sqs.eu-west-1.amazonaws.com", "https://me:pw@host/1/q", "https://host/1/q?key=x", ""]
)
def test_an_address_that_is_no_queues_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValidationError, match="queue_url"):
        open_lake(tmp_path, queue_url=url)
