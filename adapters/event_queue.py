"""The queue to which S3 sends its events: Amazon's SQS, or a server that speaks its protocol.

A message stays in the queue until it is deleted; one that was received and not deleted comes again, and now and then
one comes twice. What messages say is `lakehouse.landing_events`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from lakehouse.errors import (
    AccessRefusedError,
    FarmyError,
    NotFoundError,
    PermanentError,
    QueueUnavailableError,
    SettingsError,
)

if TYPE_CHECKING:
    from botocore.client import BaseClient

MAX_RECEIVED = 10
"""Messages that SQS hands over, or deletes, at a time."""
MAX_WAIT_S = 5
MAX_SET_ASIDE_BYTES = 200_000
"""SQS counts the reason and its names with the body, and refuses more than a queue takes."""
_MAX_REASON_LENGTH = 1_000
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = MAX_WAIT_S + 5
_ATTEMPTS = 3
_CONNECTIONS = 16

_AMAZON = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_ELSEWHERE = "us-east-1"
"""What a server that is not Amazon's is told, unless the environment names a region."""
_CODE = re.compile(r"[A-Za-z0-9._]{1,80}")
_MISSING_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_LATER = frozenset(
    {"KmsThrottled", "KMS.ThrottlingException", "OverLimit", "RequestThrottled", "Throttling", "ThrottlingException"}
)
"""Refusals that pass: SQS sends them as errors of the caller."""
_PERMISSIONS = "sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes, sqs:GetQueueUrl and sqs:SendMessage"


@dataclass(frozen=True)
class QueueMessage:
    """A message as it was received.

    Attributes:
        message_id: Which message it is; the same when it comes again.
        receipt: By which this receiving of it is deleted.
        body: What it says: anything at all.
    """

    message_id: str
    receipt: str
    body: str


@dataclass(frozen=True)
class QueueDepth:
    """About how many messages a queue holds.

    Attributes:
        waiting: To be received.
        in_flight: Received and not deleted yet.
        delayed: To be received later.
        dead: In the dead-letter queue, whatever their state.
    """

    waiting: int
    in_flight: int
    delayed: int
    dead: int


class EventQueue(Protocol):
    """A queue with a dead-letter queue beside it. Safe to share among threads.

    Every method raises `QueueUnavailableError` when the queue does not answer or cannot now, `NotFoundError` when there
    is no such queue, and other `PermanentError`s when it refuses.
    """

    def receive(self, wait_s: int = 0) -> list[QueueMessage]:
        """Return up to `MAX_RECEIVED` messages, none if none wait; an empty list is no proof that none do.

        Args:
            wait_s: How long to wait for the first, from 0; `MAX_WAIT_S` at most.
        """
        ...

    def delete(self, messages: Sequence[QueueMessage]) -> int:
        """Delete messages and return how many were; the others were received too long ago and come again."""
        ...

    def set_aside(self, message: QueueMessage, reason: str) -> None:
        """Put a message, or its first `MAX_SET_ASIDE_BYTES`, into the dead-letter queue, and then delete it.

        Args:
            message: One that cannot be read.
            reason: A sentence, which stands beside it as the message attribute `reason`.
        """
        ...

    def measure(self) -> QueueDepth:
        """Count the messages of the queue and of its dead-letter queue."""
        ...


class SqsQueue:
    """An `EventQueue` of SQS.

    Credentials, and for a queue of Amazon's another endpoint, come from the usual AWS_* environment.

    Args:
        url: The queue's address; its first part is the server's, where that is not Amazon's.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = urlsplit(url).path.rpartition("/")[2]

    def __repr__(self) -> str:
        return f"SqsQueue({self.name!r})"

    def receive(self, wait_s: int = 0) -> list[QueueMessage]:
        """Return up to `MAX_RECEIVED` messages."""
        with self._translated_errors("receive messages from"):
            response = self._client.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=MAX_RECEIVED, WaitTimeSeconds=min(wait_s, MAX_WAIT_S)
            )
        return [
            QueueMessage(message["MessageId"], message["ReceiptHandle"], message["Body"])
            for message in response.get("Messages", [])
        ]

    def delete(self, messages: Sequence[QueueMessage]) -> int:
        """Delete messages and return how many were."""
        chunks = [messages[start : start + MAX_RECEIVED] for start in range(0, len(messages), MAX_RECEIVED)]
        return sum(self._delete_at_once(chunk) for chunk in chunks)

    def set_aside(self, message: QueueMessage, reason: str) -> None:
        """Put a message into the dead-letter queue, and then delete it."""
        with self._translated_errors("send to the dead-letter queue of"):
            self._client.send_message(
                QueueUrl=self._dead_letter_url,
                MessageBody=cut_body(message.body),
                MessageAttributes={"reason": {"DataType": "String", "StringValue": cut_reason(reason)}},
            )
        self.delete([message])

    def measure(self) -> QueueDepth:
        """Count the messages of the queue and of its dead-letter queue."""
        waiting, in_flight, delayed = self._count(self.url)
        return QueueDepth(waiting, in_flight, delayed, dead=sum(self._count(self._dead_letter_url)))

    def _delete_at_once(self, messages: Sequence[QueueMessage]) -> int:
        entries = [{"Id": str(place), "ReceiptHandle": message.receipt} for place, message in enumerate(messages)]
        with self._translated_errors("delete messages from"):
            response = self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)
        return len(response.get("Successful", []))

    def _count(self, url: str) -> tuple[int, int, int]:
        counts = ("", "NotVisible", "Delayed")
        names = [f"ApproximateNumberOfMessages{count}" for count in counts]
        with self._translated_errors("count the messages of"):
            attributes = self._read_attributes(url, names)
        waiting, in_flight, delayed = (int(attributes[name]) for name in names)
        return waiting, in_flight, delayed

    def _read_attributes(self, url: str, names: list[str]) -> Mapping[str, str]:
        response = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        attributes: Mapping[str, str] = response.get("Attributes", {})
        return attributes

    @cached_property
    def _dead_letter_url(self) -> str:
        with self._translated_errors("find the dead-letter queue of"):
            policy = self._read_attributes(self.url, ["RedrivePolicy"]).get("RedrivePolicy")
            if not policy:
                raise SettingsError(
                    f"The queue {self.name} has no dead-letter queue, which messages that cannot be read need: give it "
                    "a redrive policy, as deploy/arrivals.yaml does."
                )
            *_, account, name = json.loads(policy)["deadLetterTargetArn"].split(":")
            address = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
        return str(address["QueueUrl"])

    @cached_property
    def _client(self) -> "BaseClient":
        from boto3.session import Session
        from botocore.config import Config

        session = Session()
        place = urlsplit(self.url)
        amazon = _AMAZON.fullmatch(place.hostname or "")
        config = Config(
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=_CONNECTIONS,
        )
        return session.client(
            "sqs",
            region_name=amazon[1] if amazon else session.region_name or _ELSEWHERE,
            endpoint_url=None if amazon else f"{place.scheme}://{place.netloc}",
            config=config,
        )

    @contextmanager
    def _translated_errors(self, action: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        attempt = f"Could not {action} the queue {self.name}"
        try:
            yield
        except ClientError as error:
            raise _translate_answer(attempt, error.response) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise _translate_failure(attempt, error) from error


def cut_body(body: str) -> str:
    """Return a body's first `MAX_SET_ASIDE_BYTES`, to a whole letter."""
    return body.encode()[:MAX_SET_ASIDE_BYTES].decode(errors="ignore")


def cut_reason(reason: str) -> str:
    """Return what of a reason a message attribute can hold."""
    return "".join(letter if letter.isprintable() else " " for letter in reason[:_MAX_REASON_LENGTH])


def _translate_answer(attempt: str, response: Mapping[str, Any]) -> FarmyError:
    """Return the error that says what SQS answered: its code alone, since its words may quote what was signed."""
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(response.get("Error", {}).get("Code", ""))
    answer = f"{code} ({status})" if _CODE.fullmatch(code) else f"an error ({status})"
    if code in _MISSING_QUEUE:
        return NotFoundError(f"{attempt}: there is none of that name. Check FARMY_QUEUE_URL, its region and account.")
    if code in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return QueueUnavailableError(f"{attempt}: SQS answered {answer}. It is tried again; no message was lost.")
    return AccessRefusedError(
        f"{attempt}: SQS refused with {answer}. Check the AWS_* credentials, that they may {_PERMISSIONS} on the queue "
        "and on its dead-letter queue, and FARMY_QUEUE_URL; no message was lost."
    )


def _translate_failure(attempt: str, error: Exception) -> FarmyError:
    """Return the error that says why SQS was not asked or did not answer: never in its words, which quote addresses."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return SettingsError(f"{attempt}: there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    no_answer = (
        exceptions.ConnectionError,
        exceptions.CredentialRetrievalError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.MetadataRetrievalError,
        ResponseParserError,
    )
    kind = type(error).__name__
    if isinstance(error, no_answer):
        return QueueUnavailableError(
            f"{attempt}: it did not answer ({kind}). Check that the server of FARMY_QUEUE_URL can be reached; it is "
            "tried again, and no message was lost."
        )
    return PermanentError(f"{attempt}: {kind}. Check the AWS_* variables and FARMY_QUEUE_URL.")
