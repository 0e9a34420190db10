"""Where alerts go: a webhook, an SNS topic, or both. What an alert says is `lakehouse.alerts`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from adapters.settings import Settings
from lakehouse.alerts import RunFailure
from lakehouse.errors import AlertError

_TIMEOUT_S = 10.0
_MAX_SUBJECT_CHARACTERS = 100


class AlertChannel(Protocol):
    """A receiver of alerts."""

    @property
    def name(self) -> str:
        """What it is called in the sensor's state and in messages."""
        ...

    def send(self, failure: RunFailure) -> None:
        """Deliver one alert.

        Raises:
            AlertError: If the receiver did not take it.
        """
        ...


def open_alert_channels(settings: Settings) -> tuple[AlertChannel, ...]:
    """Return the receivers that the settings name."""
    channels: list[AlertChannel] = []
    if settings.alert_webhook is not None:
        channels.append(Webhook(settings.alert_webhook.get_secret_value()))
    if settings.alert_topic is not None:
        channels.append(Topic(settings.alert_topic))
    return tuple(channels)


@dataclass(frozen=True)
class Webhook:
    """An address that takes a JSON object by POST: `text` for people, as Slack and its like show it, and the fields.

    Attributes:
        url: The address, which is a secret: who knows it may post.
        timeout_s: How long each step of a delivery may take.
    """

    url: str
    timeout_s: float = _TIMEOUT_S

    @property
    def name(self) -> str:
        """Return `webhook`."""
        return "webhook"

    def __repr__(self) -> str:
        return f"Webhook at {self._host}"

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or "?"

    def send(self, failure: RunFailure) -> None:
        """Post one alert; any answer of 2xx will do, and what it says is not read."""
        import httpx

        content = {"text": _escape_for_slack(failure.text), **failure.to_dict()}
        try:
            with httpx.stream("POST", self.url, json=content, timeout=self.timeout_s) as response:
                status = response.status_code
        except httpx.HTTPError as error:
            # Its text may hold the address.
            raise self._build_error(failure, type(error).__name__) from None
        if not 200 <= status < 300:
            raise self._build_error(failure, f"the answer {status}")

    def _build_error(self, failure: RunFailure, found: str) -> AlertError:
        return AlertError(
            f"Could not post the alert of run {failure.run_id} to the webhook at {self._host}: {found}. See that "
            "FARMY_ALERT_WEBHOOK is right and that its server works."
        )


@dataclass(frozen=True)
class Topic:
    """An SNS topic, which passes alerts on to e-mail, text messages or queues.

    Attributes:
        arn: Its Amazon resource name; credentials are the usual `AWS_*`.
    """

    arn: str

    @property
    def name(self) -> str:
        """Return `topic`."""
        return "topic"

    def send(self, failure: RunFailure) -> None:
        """Publish one alert: text for people, the fields as attributes."""
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        timeouts = Config(
            connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"mode": "standard", "total_max_attempts": 1}
        )
        try:
            # A session of its own: the one that boto3 shares is not made for threads.
            Session(region_name=self.arn.split(":")[3]).client("sns", config=timeouts).publish(
                TopicArn=self.arn,
                Subject=_build_subject(failure.title),
                Message=failure.text,
                MessageAttributes=_build_attributes(failure.to_dict()),
            )
        except ClientError as error:
            raise self._build_error(failure, str(error.response["Error"]["Code"])) from error
        except BotoCoreError as error:
            raise self._build_error(failure, type(error).__name__) from error

    def _build_error(self, failure: RunFailure, found: str) -> AlertError:
        return AlertError(
            f"Could not publish the alert of run {failure.run_id} to the topic {self.arn}: {found}. See that "
            "FARMY_ALERT_TOPIC is right and that the AWS credentials may publish to it."
        )


def _escape_for_slack(text: str) -> str:
    """Escape the three characters that mean something there: no file name shall call everybody of a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _build_subject(title: str) -> str:
    """Return a title as SNS takes it for a subject: printable ASCII, at most 100 characters."""
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in title)
    return printable[:_MAX_SUBJECT_CHARACTERS]


def _build_attributes(fields: Mapping[str, str | None]) -> dict[str, dict[str, str]]:
    """Return the fields that subscriptions may be filtered by; SNS takes no empty ones."""
    return {
        name: {"DataType": "String", "StringValue": value}
        for name in ("job", "run_id", "days", "asset")
        if (value := fields[name])
    }
