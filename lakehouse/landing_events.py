"""Events: what S3 says happened to objects, in the shapes in which it says so.

An event is only a hint that an object is worth looking at again: it comes late, twice, in any order, or never. What the
object is now, its bytes, time and size, is read from the object. Fetching messages is `adapters.event_queue`; what
becomes of a hint is `lakehouse.arrivals`.
"""

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote_plus

from lakehouse.errors import UnreadableEventError

_Value = TypeVar("_Value")

_MAX_MESSAGE_LENGTH = 1024 * 1024
"""Characters; SQS takes no message of more bytes."""
_MAX_KEY_BYTES = 1024
_MAX_SIZE_BYTES = 2**63 - 1
"""What a column of sizes holds; far beyond what S3 stores in one object."""
_MAX_TEXT_LENGTH = 1024

_CREATIONS = frozenset({"ObjectCreated"})
_REMOVALS = frozenset({"ObjectRemoved", "LifecycleExpiration"})
_NO_CHANGES_OF_BYTES = frozenset(
    {
        "IntelligentTiering",
        "LifecycleTransition",
        "ObjectAcl",
        "ObjectRestore",
        "ObjectTagging",
        "ReducedRedundancyLostObject",
        "Replication",
    }
)
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")
_SEQUENCER = re.compile(r"[0-9A-Fa-f]{1,64}")

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 80


@dataclass(frozen=True)
class LandingEvent:
    """One thing that happened to one object.

    Attributes:
        bucket: Name of its bucket.
        key: Its key in the bucket, decoded.
        is_removal: Whether the object, or one of its versions, was removed; otherwise it was written.
        occurred_at: When, by S3's clock, in UTC.
        size_bytes: Size of what was written; None if the event does not say.
        version_id: Version that was written or removed, in a bucket with versions.
        sequencer: Tells the events of one key apart, doubled ones not; None if the event bears none.
        etag: Entity tag of what was written, without quotes; None if the event does not say.
    """

    bucket: str
    key: str
    is_removal: bool
    occurred_at: datetime
    size_bytes: int | None = None
    version_id: str | None = None
    sequencer: str | None = None
    etag: str | None = None


def parse_message(body: str) -> tuple[LandingEvent, ...]:
    """Return the events of which a message tells: none if it tells of other things than objects written and removed.

    Understood are notifications of S3 (also in an envelope of SNS), those of EventBridge, and the test event that S3
    sends when notifications are set up. Their shapes are documented in the Amazon S3 User Guide under "Event message
    structure" and "EventBridge event message structure".

    Args:
        body: What a queue delivered: anything at all.

    Raises:
        UnreadableEventError: If the message has no known shape, or one field of one of its events makes no sense.
    """
    message = _parse_json(body)
    if message.get("Type") == "Notification":
        message = _parse_json(_take(message, "Message", str))
    if "Records" in message:
        records = _take(message, "Records", list)
        return tuple(event for record in records for event in _parse_record(record))
    if message.get("Event") == "s3:TestEvent":
        return ()
    if "detail-type" in message:
        return _parse_eventbridge(message)
    raise _unreadable(f"has none of the shapes that S3 sends: its fields are {_shortened.repr(sorted(message))}")


def locate_in_lake(event: LandingEvent, bucket: str, prefix: str, folder: str) -> str | None:
    """Return the key of an event's object relative to the lake's root.

    Args:
        event: Any event.
        bucket: Bucket of the lake.
        prefix: Where the lake's root is in the bucket, with or without a slash at its end; empty for the bucket itself.
        folder: Prefix below the root in which objects count, ending in a slash.

    Returns:
        None if the object lies elsewhere, or is none: the mark of an empty folder, whose key ends in a slash.
    """
    root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    is_there = event.bucket == bucket and event.key.startswith(root + folder) and not event.key.endswith("/")
    return event.key.removeprefix(root) if is_there else None


def _parse_record(record: object) -> tuple[LandingEvent, ...]:
    fields = _require_fields(record, "a record")
    version = _take(fields, "eventVersion", str)
    if not version.startswith("2."):
        raise _unreadable(f"has events of version {_shortened.repr(version)}, of which only 2 is known")
    name = _take(fields, "eventName", str).removeprefix("s3:")
    group = name.partition(":")[0]
    if group in _NO_CHANGES_OF_BYTES:
        return ()
    if group not in _CREATIONS | _REMOVALS:
        raise _unreadable(f"tells of {_shortened.repr(name)}, which is nothing that S3 is known to tell")
    s3 = _take(fields, "s3", dict)
    stored = _take(s3, "object", dict)
    return (
        LandingEvent(
            bucket=_parse_bucket(_take(s3, "bucket", dict)),
            key=_parse_key(_decode_key(_take(stored, "key", str))),
            is_removal=group in _REMOVALS,
            occurred_at=_parse_time(_take(fields, "eventTime", str)),
            size_bytes=_parse_size(stored),
            version_id=_parse_text(stored, "versionId"),
            sequencer=_parse_sequencer(stored),
            etag=_parse_etag(stored, "eTag"),
        ),
    )


def _parse_eventbridge(message: Mapping[str, Any]) -> tuple[LandingEvent, ...]:
    source, kind = _take(message, "source", str), _take(message, "detail-type", str)
    if source != "aws.s3":
        raise _unreadable(f"comes from {_shortened.repr(source)} and not from aws.s3")
    if kind not in {"Object Created", "Object Deleted"}:
        return ()
    detail = _take(message, "detail", dict)
    stored = _take(detail, "object", dict)
    return (
        LandingEvent(
            bucket=_parse_bucket(_take(detail, "bucket", dict)),
            key=_parse_key(_take(stored, "key", str)),
            is_removal=kind == "Object Deleted",
            occurred_at=_parse_time(_take(message, "time", str)),
            size_bytes=_parse_size(stored),
            version_id=_parse_text(stored, "version-id"),
            sequencer=_parse_sequencer(stored),
            etag=_parse_etag(stored, "etag"),
        ),
    )


def _parse_json(text: str) -> Mapping[str, Any]:
    if len(text) > _MAX_MESSAGE_LENGTH:
        raise _unreadable(f"has {len(text):,} characters, of which at most {_MAX_MESSAGE_LENGTH:,} are read")
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _unreadable("is nested too deeply") from error
    except ValueError as error:
        raise _unreadable(f"is not JSON: {error}") from error
    return _require_fields(message, "the message")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _require_fields(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _unreadable(f"is no object of fields where {what} is expected: {_shortened.repr(value)}")
    return value


def _take(fields: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value:
    value = fields.get(name)
    if not isinstance(value, kind):
        raise _unreadable(f"has no usable {name}: {_shortened.repr(value)}")
    return value


def _parse_bucket(bucket: Mapping[str, Any]) -> str:
    name = _take(bucket, "name", str)
    if not _BUCKET_NAME.fullmatch(name):
        raise _unreadable(f"names a bucket that cannot be: {_shortened.repr(name)}")
    return name


def _decode_key(encoded: str) -> str:
    try:
        return unquote_plus(encoded, errors="strict")
    except UnicodeDecodeError as error:
        raise _unreadable(f"has a key that is no UTF-8: {_shortened.repr(encoded)}") from error


def _parse_key(key: str) -> str:
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise _unreadable(f"has a key that is no UTF-8: {_shortened.repr(key)}") from error
    if not 1 <= size <= _MAX_KEY_BYTES:
        raise _unreadable(
            f"has a key of {size:,} bytes, where 1 to {_MAX_KEY_BYTES:,} are possible: {_shortened.repr(key)}"
        )
    return key


def _parse_time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        in_utc = at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _unreadable(f"has a time that is none: {_shortened.repr(text)}") from error
    if at.tzinfo is None:
        raise _unreadable(f"has a time without a zone: {_shortened.repr(text)}")
    return in_utc


def _parse_size(stored: Mapping[str, Any]) -> int | None:
    size = stored.get("size")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_SIZE_BYTES:
        raise _unreadable(f"has a size that is no number of bytes: {_shortened.repr(size)}")
    return size


def _parse_sequencer(stored: Mapping[str, Any]) -> str | None:
    sequencer = _parse_text(stored, "sequencer")
    if sequencer is not None and not _SEQUENCER.fullmatch(sequencer):
        raise _unreadable(f"has a sequencer that is not hexadecimal: {_shortened.repr(sequencer)}")
    return sequencer


def _parse_etag(stored: Mapping[str, Any], name: str) -> str | None:
    etag = _parse_text(stored, name)
    return etag and etag.strip('"')


def _parse_text(fields: Mapping[str, Any], name: str) -> str | None:
    """Return a field that may be missing; servers other than Amazon's leave it empty then."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAX_TEXT_LENGTH or not value.isprintable():
        raise _unreadable(f"has a {name} that makes no sense: {_shortened.repr(value)}")
    return value


def _unreadable(problem: str) -> UnreadableEventError:
    return UnreadableEventError(
        f"A message of the event queue {problem}. Look at what else sends to the queue; an object that it meant is "
        "found by the next reconcile."
    )
