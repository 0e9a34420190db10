import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import UnreadableEventError
from lakehouse.landing_events import LandingEvent, parse_message

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
KEY = "landing/phone/2026/11/02/a.jpg"


def make_record(name: str = "ObjectCreated:Put", key: str = KEY) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-west-1",
        "eventTime": "2026-11-02T12:00:00.000Z",
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": "farm-lake", "arn": "arn:aws:s3:::farm-lake"},
            "object": {
                "key": key,
                "size": 1024,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                "sequencer": "0055AED6DCD90281E5",
            },
        },
    }


def make_notification(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records or [make_record()])}


def make_eventbridge(kind: str = "Object Created", key: str = KEY) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": kind,
        "source": "aws.s3",
        "time": "2026-11-02T12:00:00Z",
        "detail": {
            "bucket": {"name": "farm-lake"},
            "object": {
                "key": key,
                "size": 5,
                "etag": "b1946ac9",
                "version-id": "IYV3",
                "sequencer": "617f08299329d189",
            },
            "reason": "PutObject",
        },
    }


def make_envelope(message: dict[str, Any]) -> dict[str, Any]:
    return {"Type": "Notification", "MessageId": "1", "TopicArn": "arn", "Message": json.dumps(message)}


TEST_EVENT = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-02T12:00:00Z", "Bucket": "farm-lake"}
GOOD: dict[str, dict[str, Any]] = {
    "a notification": make_notification(),
    "an event of EventBridge": make_eventbridge(),
    "a notification in an envelope": make_envelope(make_notification()),
    "an event of EventBridge in an envelope": make_envelope(make_eventbridge()),
    "two records": make_notification(make_record(), make_record("ObjectRemoved:Delete")),
}


def parse(message: object) -> tuple[LandingEvent, ...]:
    return parse_message(json.dumps(message))


def make_event(
    key: str = KEY, *, is_removal: bool = False, at: datetime = NOON, sequencer: str | None = None
) -> LandingEvent:
    return LandingEvent("farm-lake", key, is_removal, at, sequencer=sequencer)


@pytest.mark.parametrize("name", ["a notification", "a notification in an envelope"])
def test_a_notification_says_what_was_written_where_and_when(name: str) -> None:
    assert parse(GOOD[name]) == (
        LandingEvent(
            bucket="farm-lake",
            key=KEY,
            is_removal=False,
            occurred_at=NOON,
            size_bytes=1024,
            version_id="096fKKXTRTtl3on89fVO.nfljtsv6qko",
            sequencer="0055AED6DCD90281E5",
            etag="d41d8cd98f00b204e9800998ecf8427e",
        ),
    )


@pytest.mark.parametrize("name", ["an event of EventBridge", "an event of EventBridge in an envelope"])
def test_an_event_of_eventbridge_says_the_same(name: str) -> None:
    expected = LandingEvent("farm-lake", KEY, False, NOON, 5, "IYV3", "617f08299329d189", "b1946ac9")
    assert parse(GOOD[name]) == (expected,)


@pytest.mark.parametrize(
    ("name", "is_removal"),
    [
        ("ObjectCreated:Put", False),
        ("ObjectCreated:Post", False),
        ("ObjectCreated:Copy", False),
        ("ObjectCreated:CompleteMultipartUpload", False),
        ("ObjectRemoved:Delete", True),
        ("ObjectRemoved:DeleteMarkerCreated", True),
        ("LifecycleExpiration:Delete", True),
        ("LifecycleExpiration:DeleteMarkerCreated", True),
    ],
)
@pytest.mark.parametrize("prefix", ["", "s3:"])
def test_writing_is_told_from_removing_with_and_without_a_prefix(prefix: str, name: str, is_removal: bool) -> None:  # noqa: FBT001
    (event,) = parse(make_notification(make_record(prefix + name)))
    assert event.is_removal == is_removal


@pytest.mark.parametrize(("kind", "is_removal"), [("Object Created", False), ("Object Deleted", True)])
def test_eventbridge_tells_writing_from_removing(kind: str, is_removal: bool) -> None:  # noqa: FBT001
    (event,) = parse(make_eventbridge(kind))
    assert event.is_removal == is_removal


@pytest.mark.parametrize(
    "name",
    [
        "ObjectRestore:Post",
        "ObjectRestore:Completed",
        "ObjectRestore:Delete",
        "ReducedRedundancyLostObject",
        "Replication:OperationFailedReplication",
        "LifecycleTransition",
        "IntelligentTiering",
        "ObjectTagging:Put",
        "s3:ObjectAcl:Put",
    ],
)
def test_what_changes_no_bytes_is_nothing(name: str) -> None:
    assert parse(make_notification(make_record(name))) == ()


@pytest.mark.parametrize("kind", ["Object Restore Completed", "Object Tags Added", "Something New"])
def test_other_details_of_eventbridge_are_nothing(kind: str) -> None:
    assert parse(make_eventbridge(kind)) == ()


@pytest.mark.parametrize("message", [TEST_EVENT, make_envelope(TEST_EVENT), {"Records": []}])
def test_the_test_event_and_a_message_without_records_are_nothing(message: dict[str, Any]) -> None:
    assert parse(message) == ()


def test_every_record_of_a_message_is_an_event_in_its_order() -> None:
    names = ["ObjectCreated:Put", "ObjectTagging:Put", "ObjectRemoved:Delete"]
    records = [make_record(name, f"landing/{number}") for number, name in enumerate(names)]
    events = parse(make_notification(*records))
    assert [(event.key, event.is_removal) for event in events] == [("landing/0", False), ("landing/2", True)]


def test_a_removal_tells_neither_size_nor_tag() -> None:
    record = make_record("ObjectRemoved:Delete")
    record["s3"]["object"] = {"key": KEY, "sequencer": "0055AED6DCD90281E5"}
    (event,) = parse(make_notification(record))
    assert (event.size_bytes, event.etag, event.version_id) == (None, None, None)


@pytest.mark.parametrize("empty", [None, ""])
def test_fields_that_other_servers_leave_empty_count_as_missing(empty: str | None) -> None:
    record = make_record()
    record["s3"]["object"] |= {"versionId": empty, "sequencer": empty, "eTag": empty}
    (event,) = parse(make_notification(record))
    assert (event.version_id, event.sequencer, event.etag) == (None, None, None)


def test_times_are_those_in_utc() -> None:
    message = make_eventbridge()
    message["time"] = "2026-11-02T23:00:00+11:00"
    (event,) = parse(message)
    assert (event.occurred_at, event.occurred_at.tzinfo) == (NOON, UTC)


KEYS = [
    "landing/a b/ c .jpg",
    "landing/a+b%20c.jpg",
    "landing/100%/%2B%25.jpg",
    "landing/Äpfel/苹果 🐄.jpg",
    "landing/#1?v=2&w=3.jpg",
    "landing/" + "n" * 1016,
]
any_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200) | st.sampled_from(KEYS)


@given(any_keys)
def test_a_key_is_what_it_was_before_s3_encoded_it(key: str) -> None:
    for safe in ("", "/"):
        (event,) = parse(make_notification(make_record(key=quote_plus(key, safe=safe))))
        assert event.key == key


@given(any_keys)
def test_a_key_of_eventbridge_is_taken_as_it_is(key: str) -> None:
    (event,) = parse(make_eventbridge(key=key))
    assert event.key == key


def change(message: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = deepcopy(message)
    place: Any = changed
    *parents, last = path.split(".")
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    place[last] = value
    return changed


def change_record(path: str, value: object) -> str:
    return json.dumps(change(make_notification(), f"Records.0.{path}", value))


def change_eventbridge(path: str, value: object) -> str:
    return json.dumps(change(make_eventbridge(), path, value))


HOSTILE = {
    "nothing": ("", "is not JSON"),
    "no JSON": ("not JSON", "is not JSON"),
    "a list": ("[]", r"object of fields .*: \[\]"),
    "null": ("null", "object of fields .*: None"),
    "text": ('"text"', "object of fields .*: 'text'"),
    "no field": ("{}", r"none of the shapes .*\[\]"),
    "something else": ('{"kind": "order"}', r"none of the shapes .*\['kind'\]"),
    "another event of S3": ('{"Event": "s3:Other"}', "none of the shapes"),
    "depth": ("[" * 100_000, "nested too deeply"),
    "depth in an envelope": (json.dumps({"Type": "Notification", "Message": "[" * 100_000}), "nested too deeply"),
    "length": (" " * (1024 * 1024 + 1), "1,048,577 characters"),
    "a number of 5,000 digits": ('{"Records": ' + "1" * 5000 + "}", "is not JSON"),
    "not a number": ('{"Records": NaN}', "NaN is no number"),
    "infinity": ('{"Records": -Infinity}', "-Infinity is no number"),
    "an envelope in an envelope": (json.dumps(make_envelope(make_envelope(make_notification()))), "none of the shapes"),
    "an envelope without a message": ('{"Type": "Notification"}', "no usable Message: None"),
    "an envelope with an object": ('{"Type": "Notification", "Message": {}}', "no usable Message: {}"),
    "an envelope with text": ('{"Type": "Notification", "Message": "hello"}', "is not JSON"),
    "a subscription to be confirmed": ('{"Type": "SubscriptionConfirmation", "Token": "x"}', "none of the shapes"),
    "records that are none": ('{"Records": {}}', "no usable Records"),
    "a record that is none": ('{"Records": [7]}', "a record is expected: 7"),
    "a record of another service": ('{"Records": [{"eventSource": "aws:ses"}]}', "no usable eventVersion"),
    "an event of another version": (change_record("eventVersion", "3.0"), "version '3.0'"),
    "no event name": (change_record("eventName", None), "no usable eventName"),
    "an unknown event": (change_record("eventName", "ObjectBorrowed:Put"), "'ObjectBorrowed:Put'"),
    "no time": (change_record("eventTime", None), "no usable eventTime"),
    "a time in words": (change_record("eventTime", "yesterday"), "time that is none: 'yesterday'"),
    "a time without a zone": (change_record("eventTime", "2026-11-02T12:00:00"), "without a zone"),
    "a time before all": (change_record("eventTime", "0001-01-01T00:00:00+14:00"), "time that is none"),
    "a time after all": (change_record("eventTime", "9999-12-31T23:59:59-14:00"), "time that is none"),
    "a month 13": (change_record("eventTime", "2026-13-02T12:00:00Z"), "time that is none"),
    "no bucket": (change_record("s3.bucket", None), "no usable bucket"),
    "a bucket without a name": (change_record("s3.bucket", {}), "no usable name"),
    "a bucket that is a path": (change_record("s3.bucket.name", "a/../b"), "bucket that cannot be"),
    "no object": (change_record("s3.object", []), r"no usable object: \[\]"),
    "no key": (change_record("s3.object", {}), "no usable key: None"),
    "an empty key": (change_record("s3.object.key", ""), "key of 0 bytes"),
    "a key that is too long": (change_record("s3.object.key", "n" * 1025), "key of 1,025 bytes"),
    "a key of too many bytes": (change_record("s3.object.key", "ä" * 513), "key of 1,026 bytes"),
    "a key of half a letter": (change_record("s3.object.key", "a%C3"), "no UTF-8: 'a%C3'"),
    "a key of a lone surrogate": (change_record("s3.object.key", "a\ud800"), r"no UTF-8: 'a\\ud800'"),
    "an encoded lone surrogate": (change_record("s3.object.key", "%ED%A0%80"), "no UTF-8"),
    "a size in words": (change_record("s3.object.size", "big"), "no number of bytes: 'big'"),
    "a size that is true": (change_record("s3.object.size", True), "no number of bytes: True"),
    "half a byte": (change_record("s3.object.size", 0.5), "no number of bytes: 0.5"),
    "less than nothing": (change_record("s3.object.size", -1), "no number of bytes: -1"),
    "more than a column holds": (change_record("s3.object.size", 2**63), "no number of bytes: 9223"),
    "a huge size": (change_record("s3.object.size", 10**4000), "no number of bytes: 1000"),
    "a sequencer in words": (change_record("s3.object.sequencer", "last"), "not hexadecimal: 'last'"),
    "a sequencer that is a number": (change_record("s3.object.sequencer", 12), "sequencer that makes no sense: 12"),
    "a version that is a list": (change_record("s3.object.versionId", ["a"]), "versionId that makes no sense"),
    "a version with a line break": (change_record("s3.object.versionId", "a\nb"), "versionId that makes no sense"),
    "a tag that is too long": (change_record("s3.object.eTag", "e" * 1025), "eTag that makes no sense"),
    "another source": (change_eventbridge("source", "aws.ec2"), "'aws.ec2' and not from aws.s3"),
    "a kind that is a number": (change_eventbridge("detail-type", 5), "no usable detail-type: 5"),
    "no detail": (change_eventbridge("detail", None), "no usable detail: None"),
    "a detail without a bucket": (change_eventbridge("detail.bucket", None), "no usable bucket"),
    "a time that is a number": (change_eventbridge("time", 1.5), "no usable time: 1.5"),
    "an event with a lone surrogate": (change_eventbridge("detail.object.key", "\udfff"), "no UTF-8"),
}


@pytest.mark.parametrize(("body", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_read_is_refused_with_its_reason_in_one_short_line(body: str, reason: str) -> None:
    with pytest.raises(UnreadableEventError, match=reason) as caught:
        parse_message(body)
    message = str(caught.value)
    assert message.startswith("A message of the event queue ")
    assert message.isprintable()
    assert len(message) < 400


def test_one_bad_record_refuses_its_whole_message() -> None:
    with pytest.raises(UnreadableEventError):
        parse(make_notification(make_record(), {}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def check_that_it_is_read_or_refused(body: str) -> None:
    try:
        events = parse_message(body)
    except UnreadableEventError:
        return
    for event in events:
        assert 1 <= len(event.key.encode()) <= 1024
        assert event.occurred_at.tzinfo is UTC
        assert event.size_bytes is None or 0 <= event.size_bytes < 2**63


@given(json_values)
def test_any_json_is_read_or_refused(value: object) -> None:
    check_that_it_is_read_or_refused(json.dumps(value))
    check_that_it_is_read_or_refused(json.dumps({"Type": "Notification", "Message": json.dumps(value)}))


@given(st.text(st.characters()))
def test_any_text_is_read_or_refused(text: str) -> None:
    check_that_it_is_read_or_refused(text)
    check_that_it_is_read_or_refused(json.dumps(make_eventbridge(key=text)))
    check_that_it_is_read_or_refused(json.dumps(make_notification(make_record(key=text))))


def list_places(value: Any) -> Iterable[tuple[Any, Any]]:
    """Yield each container in a message with each of its keys or positions."""
    for place in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, place
        yield from list_places(value[place])


def drop(container: Any, place: Any, _: object) -> None:
    del container[place]


def replace(container: Any, place: Any, value: object) -> None:
    container[place] = value


def wrap(container: Any, place: Any, _: object) -> None:
    container[place] = [container[place]]


@given(
    st.sampled_from(list(GOOD.values())),
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([drop, replace, wrap]), json_values), max_size=4),
)
def test_good_messages_with_fields_dropped_replaced_and_wrapped_are_read_or_refused(
    message: dict[str, Any], mutations: list[tuple[int, Callable[[Any, Any, object], None], object]]
) -> None:
    mutated = deepcopy(message)
    for number, mutate, value in mutations:
        places = list(list_places(mutated))
        if places:
            mutate(*places[number % len(places)], value)
    check_that_it_is_read_or_refused(json.dumps(mutated))


@given(st.sampled_from(list(GOOD.values())), st.integers(0, 2000), st.integers(0, 2000), st.text(max_size=5))
def test_good_messages_with_text_cut_out_and_put_in_are_read_or_refused(
    message: dict[str, Any], start: int, length: int, inserted: str
) -> None:
    body = json.dumps(message)
    check_that_it_is_read_or_refused(body[:start] + inserted + body[start + length :])
