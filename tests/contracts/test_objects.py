import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from adapters.objects import FetchedObject, Objects, _translated_errors
from benchmarks.loop import find_free_ports
from benchmarks.s3_server import BUCKET, S3Server
from lakehouse.errors import AccessRefusedError, FarmyError, NotFoundError, StorageError

ODD_KEYS = {
    "spaces": "landing/a b/ c .jpg",
    "unicode": "landing/Äpfel/苹果 🐄.jpg",
    "percent": "landing/100%/x%20y%2Fz.jpg",
    "plus": "landing/a+b.jpg",
    "hash and question mark": "landing/#1?v=2&w=3.jpg",
    "brackets and quotes": "landing/[1] {2} (3) 'q' \"Q\" ~!*$;,=@.jpg",
    "no suffix": "landing/photo",
    "hidden": "landing/.hidden",
    "name of 200 characters": f"landing/{'n' * 200}.jpg",
    "900 characters": f"landing/{'/'.join(['d' * 99] * 9)}",
}

bucket_prefixes = (f"objects-{number}" for number in count())


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Objects.in_folder(tmp_path / "lake")
    s3: S3Server = request.getfixturevalue("s3")
    return Objects.in_bucket(f"s3://{BUCKET}/{next(bucket_prefixes)}", endpoint=s3.endpoint)


def test_what_is_created_is_read_back(objects: Objects) -> None:
    data = bytes(range(256)) * 5000
    assert objects.create("raw/ab/abc", data)
    assert objects.read("raw/ab/abc") == data


def test_an_empty_object_is_an_object(objects: Objects) -> None:
    assert objects.create("inbox/empty", b"")
    assert objects.exists("inbox/empty")
    assert objects.read("inbox/empty") == b""


def test_an_object_is_created_once_and_never_changed(objects: Objects) -> None:
    assert objects.create("raw/once", b"first")
    assert not objects.create("raw/once", b"second")
    assert objects.read("raw/once") == b"first"


def test_of_many_threads_that_create_one_object_exactly_one_wins(objects: Objects) -> None:
    contents = [f"from thread {number}".encode() for number in range(32)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda content: objects.create("raw/race", content), contents))
    assert won.count(True) == 1
    assert objects.read("raw/race") == contents[won.index(True)]


def test_a_deleted_object_can_be_created_again(objects: Objects) -> None:
    objects.create("inbox/note", b"first")
    objects.delete(["inbox/note"])
    assert objects.create("inbox/note", b"second")
    assert objects.read("inbox/note") == b"second"


def test_what_is_missing_is_not_found_and_named_in_the_message(objects: Objects) -> None:
    with pytest.raises(NotFoundError, match=r"no object raw/none/here in .*"):
        objects.read("raw/none/here")


def test_what_is_fetched_is_the_bytes_with_what_a_listing_says_of_them(objects: Objects) -> None:
    data = bytes(range(256)) * 5000
    objects.create("landing/phone/a.jpg", data)
    (listed,) = objects.list("landing/")
    fetched = objects.fetch("landing/phone/a.jpg", len(data))
    assert fetched == FetchedObject(listed, data)
    assert fetched.fact.size_bytes == len(data)
    assert fetched.fact.modified_at.utcoffset() == timedelta(0)


def test_the_time_of_a_fetched_object_is_that_of_its_listing_to_the_microsecond(tmp_path: Path) -> None:
    objects = Objects.in_folder(tmp_path)
    for number, nanoseconds in enumerate([0, 1, 999, 1_000, 123_456_789, 999_999_999]):
        key = f"landing/{number}"
        objects.create(key, b"x")
        os.utime(tmp_path / key, ns=(0, 1_794_000_000 * 10**9 + nanoseconds))
        assert objects.fetch(key, 1).fact == objects.list("landing/")[number]


@pytest.mark.parametrize(("max_bytes", "is_read"), [(9, False), (10, True), (0, False)])
def test_of_a_larger_object_than_asked_for_the_facts_alone_are_fetched(
    objects: Objects, max_bytes: int, *, is_read: bool
) -> None:
    objects.create("landing/large", b"0123456789")
    fetched = objects.fetch("landing/large", max_bytes)
    assert fetched.data == (b"0123456789" if is_read else None)
    assert [fetched.fact] == objects.list("landing/")


def test_nothing_is_read_of_an_object_that_is_larger_than_asked_for(tmp_path: Path) -> None:
    objects = Objects.in_folder(tmp_path)
    objects.create("landing/large", b"")
    os.truncate(tmp_path / "landing/large", 10**12)  # a file of holes, which no machine could hold in memory
    assert objects.fetch("landing/large", 500_000_000) == FetchedObject(objects.list("landing/")[0], None)


def test_an_empty_object_is_fetched_as_one(objects: Objects) -> None:
    objects.create("landing/empty", b"")
    assert objects.fetch("landing/empty", 0).data == b""


@pytest.mark.parametrize("key", ["landing/none", "landing/phone", "landing/phone/a.jpg.json"])
def test_what_is_no_object_is_not_found_when_it_is_fetched(objects: Objects, key: str) -> None:
    objects.create("landing/phone/a.jpg", b"x")
    with pytest.raises(NotFoundError, match=f"no object {key} in "):
        objects.fetch(key, 1)


@pytest.mark.parametrize("key", ["landing/../../escaped", "landing//double", "landing/./here"])
def test_a_key_that_no_store_can_hold_cannot_be_fetched(objects: Objects, key: str) -> None:
    with pytest.raises(StorageError, match=f"Could not read {key}"):
        objects.fetch(key, 1)


def test_a_folder_that_may_not_be_read_is_refused_access_and_no_passing_failure() -> None:
    with (
        pytest.raises(AccessRefusedError, match=r"May not list landing/ in /lake: .*Permission denied\. Grant that"),
        _translated_errors("list", "landing/", "/lake"),
    ):
        raise PermissionError(13, "Permission denied")


def test_existence_tells_objects_from_what_is_missing_and_from_folders(objects: Objects) -> None:
    objects.create("raw/ab/abc", b"x")
    assert objects.exists("raw/ab/abc")
    assert not objects.exists("raw/ab/ab")
    assert not objects.exists("raw/ab")


def test_a_listing_is_sorted_and_holds_what_is_below_the_prefix_alone(objects: Objects) -> None:
    for key in ("raw/b/2", "raw/b/10", "raw/a/1/deep", "raw/Z", "raw2/x", "inbox/y"):
        objects.create(key, b"x")
    assert [fact.key for fact in objects.list("raw/")] == ["raw/Z", "raw/a/1/deep", "raw/b/10", "raw/b/2"]


def test_a_listing_of_more_than_one_page_is_complete(objects: Objects) -> None:
    keys = [f"inbox/{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: objects.create(key, b""), keys))
    assert [fact.key for fact in objects.list("inbox/")] == keys


def test_nothing_is_below_a_prefix_without_objects(objects: Objects) -> None:
    assert objects.list("raw/") == []
    assert list(objects.list_folders("raw/")) == []


def test_a_listing_tells_sizes_in_bytes_and_times_in_utc(objects: Objects) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    objects.create("raw/small", b"x")
    objects.create("raw/large", b"x" * 70_000)
    facts = {fact.key: fact for fact in objects.list("raw/")}
    assert {key: fact.size_bytes for key, fact in facts.items()} == {"raw/small": 1, "raw/large": 70_000}
    for fact in facts.values():
        assert fact.modified_at.utcoffset() == timedelta(0)
        assert before <= fact.modified_at <= datetime.now(UTC) + timedelta(seconds=2)


def test_the_time_of_an_object_does_not_move_when_it_is_read_or_refused_again(objects: Objects) -> None:
    objects.create("raw/x", b"x")
    first = objects.list("raw/")
    time.sleep(1.1)
    objects.read("raw/x")
    objects.create("raw/x", b"y")
    assert objects.list("raw/") == first


def test_folders_are_those_one_level_below_sorted_and_without_objects(objects: Objects) -> None:
    for key in ("landing/phone/2026/a", "landing/scraper/b", "landing/Äcker/c", "landing/file", "raw/d"):
        objects.create(key, b"x")
    assert list(objects.list_folders("landing/")) == ["landing/phone/", "landing/scraper/", "landing/Äcker/"]


def test_deleting_removes_what_is_named_and_nothing_else(objects: Objects) -> None:
    for key in ("inbox/a", "inbox/b", "inbox/c"):
        objects.create(key, b"x")
    objects.delete(iter(["inbox/a", "inbox/missing", "inbox/c"]))
    assert [fact.key for fact in objects.list("inbox/")] == ["inbox/b"]


def test_deleting_what_is_missing_or_nothing_is_no_error(objects: Objects) -> None:
    objects.delete(["inbox/missing", "no/such/folder/at/all"])
    objects.delete([])


@pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
def test_odd_keys_live_through_every_operation(objects: Objects, key: str) -> None:
    assert objects.create(key, b"odd")
    assert not objects.create(key, b"other")
    assert objects.exists(key)
    assert objects.read(key) == b"odd"
    assert [fact.key for fact in objects.list("landing/")] == [key]
    objects.delete([key])
    assert not objects.exists(key)


@pytest.mark.parametrize("key", [f"landing/{'n' * 2000}", "landing/../../escaped", "landing//double"])
def test_a_key_that_no_store_can_hold_is_a_storage_error_and_writes_nothing(objects: Objects, key: str) -> None:
    with pytest.raises(StorageError, match="Could not write landing/"):
        objects.create(key, b"x")
    assert objects.list("landing/") == []


def test_two_prefixes_of_one_bucket_do_not_see_each_other(s3: S3Server) -> None:
    one, two = (Objects.in_bucket(f"s3://{BUCKET}/prefix-{name}/", endpoint=s3.endpoint) for name in ("one", "two"))
    one.create("raw/x", b"1")
    assert not two.exists("raw/x")
    assert two.list("raw/") == []
    assert one.root == f"s3://{BUCKET}/prefix-one"


OPERATIONS: dict[str, Callable[[Objects], object]] = {
    "read": lambda objects: objects.read("raw/x"),
    "look up": lambda objects: objects.exists("raw/x"),
    "write": lambda objects: objects.create("raw/x", b"x"),
    "list": lambda objects: objects.list("raw/"),
    "delete": lambda objects: objects.delete(["raw/x"]),
}


@pytest.fixture(params=["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def stranger(request: pytest.FixtureRequest, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """A bucket with an object, for one whose credentials are wrong."""
    address = f"s3://{BUCKET}/strange"
    Objects.in_bucket(address, endpoint=s3.endpoint).create("raw/x", b"x")
    monkeypatch.setenv(request.param, "wrong")
    return Objects.in_bucket(address, endpoint=s3.endpoint)


@pytest.mark.parametrize("action", sorted(OPERATIONS.keys() - {"list"}))
def test_wrong_credentials_are_refused_with_the_action_and_the_bucket(stranger: Objects, action: str) -> None:
    with pytest.raises(AccessRefusedError, match=rf"May not {action} raw/x in s3://{BUCKET}/strange: .*403"):
        OPERATIONS[action](stranger)


def test_an_object_that_may_not_be_read_is_refused_when_it_is_fetched_whether_or_not_it_is_there(
    stranger: Objects,
) -> None:
    for key in ("raw/x", "raw/missing"):
        with pytest.raises(AccessRefusedError, match=rf"May not read {key} in s3://{BUCKET}/strange: .*403"):
            stranger.fetch(key, 1)


def test_a_listing_with_wrong_credentials_is_an_error_and_not_empty(stranger: Objects) -> None:
    with pytest.raises(FarmyError, match=rf"list raw/ in s3://{BUCKET}/strange: .*403"):
        stranger.list("raw/")


def test_a_listing_of_a_bucket_that_does_not_exist_is_an_error_and_not_empty(s3: S3Server) -> None:
    with pytest.raises(StorageError, match="404"):
        Objects.in_bucket("s3://no-such-bucket", endpoint=s3.endpoint).list("raw/")


@pytest.mark.parametrize("action", OPERATIONS)
@pytest.mark.usefixtures("s3")
def test_an_endpoint_that_refuses_connections_is_an_error_within_seconds(action: str) -> None:
    objects = Objects.in_bucket(f"s3://{BUCKET}", endpoint=f"http://127.0.0.1:{find_free_ports(1)[0]}")
    started = time.monotonic()
    with pytest.raises(StorageError, match=f"Could not {action} raw/"):
        OPERATIONS[action](objects)
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("action", ["read", "write", "delete"])
def test_a_file_where_a_folder_should_be_is_a_storage_error(tmp_path: Path, action: str) -> None:
    objects = Objects.in_folder(tmp_path)
    (tmp_path / "raw").write_text("a file")
    with pytest.raises(StorageError, match=f"Could not {action} raw/x"):
        OPERATIONS[action](objects)
    assert (tmp_path / "raw").read_text() == "a file"


def test_a_lake_below_a_file_cannot_be_opened_and_the_message_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Cannot use the folder .*/file/lake .* FARMY_HOME or FARMY_OBJECTS"):
        Objects.in_folder(tmp_path / "file" / "lake")


def test_a_file_whose_name_no_key_can_hold_does_not_hide_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objects = Objects.in_folder(tmp_path)
    objects.create("landing/phone/good.jpg", b"good")
    (tmp_path / "landing/phone/new\nline.jpg").write_bytes(b"odd")
    Path(os.fsdecode(bytes(tmp_path / "landing/phone") + b"/not-utf8-\xff.jpg")).write_bytes(b"odd")
    assert [fact.key for fact in objects.list("landing/")] == ["landing/phone/good.jpg"]
    assert sorted(record.getMessage().count("rename it") for record in caplog.records) == [1, 1]


def test_a_folder_that_cannot_be_listed_is_a_storage_error_and_not_empty(tmp_path: Path) -> None:
    objects = Objects.in_folder(tmp_path)
    (tmp_path / "landing").symlink_to(tmp_path / "landing")
    with pytest.raises(StorageError, match="list landing/"):
        objects.list("landing/")
