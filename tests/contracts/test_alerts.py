"""Receivers of alerts: a webhook on loopback, and a topic on a local SNS with a queue that listens to it."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from adapters.alerts import Topic, Webhook, open_alert_channels
from adapters.settings import load_settings
from lakehouse.alerts import RunFailure
from lakehouse.errors import AlertError
from tests.contracts.alert_receiver import AlertReceiver, start_alert_receiver
from tests.contracts.aws_server import REGION, AwsServer, start_aws_server

FAILURE = RunFailure(
    run_id="0a1b2c",
    job="images_job",
    days="2026-11-02",
    asset="raw_images",
    error="Cannot read landing/<phone>/1.jpg: access denied. See to the rights & run again.",
    url="http://127.0.0.1:3000/runs/0a1b2c",
)


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    with start_alert_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    with start_aws_server(tmp_path_factory.mktemp("aws")) as server:
        yield server


@pytest.fixture
def aws(aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in aws_server.environment.items():
        monkeypatch.setenv(name, value)
    return aws_server


@pytest.fixture
def topic(aws: AwsServer) -> str:
    arn: str = aws.open_client("sns").create_topic(Name="alerts")["TopicArn"]
    return arn


def listen(aws: AwsServer, topic: str) -> str:
    """Return the address of a queue that gets what is published from now on."""
    sqs = aws.open_client("sqs")
    url: str = sqs.create_queue(QueueName=f"alerts-{time.monotonic_ns()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.open_client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return url


def receive(aws: AwsServer, queue: str) -> list[dict[str, Any]]:
    answer = aws.open_client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


def test_a_webhook_gets_text_for_people_and_fields_for_programs(receiver: AlertReceiver) -> None:
    Webhook(receiver.url).send(FAILURE)

    (post,) = receiver.posts
    assert post.pop("text") == (
        "Farmy: images_job failed on 2026-11-02 at raw_images\n"
        "Cannot read landing/&lt;phone&gt;/1.jpg: access denied. See to the rights &amp; run again.\n"
        "Run http://127.0.0.1:3000/runs/0a1b2c"
    )
    assert post == FAILURE.to_dict()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_answer_of_success_will_do(receiver: AlertReceiver, status: int) -> None:
    receiver.status = status
    Webhook(receiver.url).send(FAILURE)

    assert len(receiver.posts) == 1


@pytest.mark.parametrize("status", [302, 307, 400, 404, 429, 500, 503])
def test_any_other_answer_is_an_error_that_does_not_show_the_address(receiver: AlertReceiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(AlertError, match=f"0a1b2c.*127.0.0.1.*{status}.*FARMY_ALERT_WEBHOOK") as caught:
        Webhook(receiver.url).send(FAILURE)

    assert "s3cret" not in str(caught.value)
    assert len(receiver.posts) == 1, "no redirect is followed, nothing is sent twice"


def test_a_webhook_that_hangs_is_left_in_time(receiver: AlertReceiver) -> None:
    receiver.hangs = True
    began = time.monotonic()
    with pytest.raises(AlertError, match="ReadTimeout"):
        Webhook(receiver.url, timeout_s=0.3).send(FAILURE)

    assert time.monotonic() - began < 5


def test_a_webhook_that_nobody_listens_at_is_an_error_that_does_not_show_the_address() -> None:
    with start_alert_receiver() as receiver:
        url = receiver.url
    with pytest.raises(AlertError, match="ConnectError") as caught:
        Webhook(url).send(FAILURE)

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "s3cret" not in repr(Webhook(url))


def test_a_topic_passes_on_text_for_people_and_attributes_to_filter_by(aws: AwsServer, topic: str) -> None:
    queue = listen(aws, topic)
    Topic(topic).send(FAILURE)

    (message,) = receive(aws, queue)
    assert message["Message"] == FAILURE.text
    assert message["Subject"] == FAILURE.title
    attributes = {name: value["Value"] for name, value in message["MessageAttributes"].items()}
    assert attributes == {"job": "images_job", "run_id": "0a1b2c", "days": "2026-11-02", "asset": "raw_images"}


def test_a_failure_that_is_about_no_day_and_no_asset_is_published_too(aws: AwsServer, topic: str) -> None:
    queue = listen(aws, topic)
    Topic(topic).send(replace(FAILURE, job="réconcile" * 20, days="", asset=None))

    (message,) = receive(aws, queue)
    assert message["MessageAttributes"].keys() == {"job", "run_id"}
    assert message["Subject"].startswith("Farmy: r?concile")
    assert len(message["Subject"]) == 100


@pytest.mark.usefixtures("aws")
def test_a_topic_that_is_not_there_is_an_error_that_names_it() -> None:
    missing = f"arn:aws:sns:{REGION}:123456789012:nobody"
    with pytest.raises(AlertError, match=f"{missing}.*NotFound.*FARMY_ALERT_TOPIC"):
        Topic(missing).send(FAILURE)


@pytest.mark.usefixtures("aws")
def test_a_topic_that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with start_alert_receiver() as receiver:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{receiver.port}")
    with pytest.raises(AlertError, match="EndpointConnectionError"):
        Topic(f"arn:aws:sns:{REGION}:123456789012:alerts").send(FAILURE)


@pytest.mark.usefixtures("aws")
def test_without_credentials_a_topic_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(AlertError, match=r"NoCredentialsError.*credentials"):
        Topic(f"arn:aws:sns:{REGION}:123456789012:alerts").send(FAILURE)


def test_the_settings_say_who_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_alert_channels(load_settings()) == ()

    monkeypatch.setenv("FARMY_ALERT_WEBHOOK", "https://hooks.example.org/x")
    monkeypatch.setenv("FARMY_ALERT_TOPIC", "arn:aws:sns:eu-west-1:123456789012:alerts")
    assert open_alert_channels(load_settings()) == (
        Webhook("https://hooks.example.org/x"),
        Topic("arn:aws:sns:eu-west-1:123456789012:alerts"),
    )
