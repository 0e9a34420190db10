"""`farmy submit` into a folder and into a bucket, with URLs of a real server on loopback."""

import hashlib
import io
import json
import os
import sys
import threading
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from adapters.lake import Lake
from adapters.objects import Objects
from adapters.settings import load_settings
from benchmarks.s3_server import BUCKET, S3Server
from lakehouse.arrivals import MAX_OBJECT_BYTES
from tests.contracts.loopback_server import Answer, answer_with, redirect_to, start_loopback_server
from tests.unit.cli.calls import Called, call

CONFIG = """
[fetching]
allowed_networks = ["127.0.0.1/32"]

[[classes]]
id = "cow"
name = "Cow"
"""
GIF = b"GIF89a"
SIDE_BY_SIDE = 4

bucket_prefixes = (f"submissions-{number}" for number in count())


@pytest.fixture(params=["folder", "bucket"], autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a lake's settings, and of what is submitted to it."""
    (tmp_path / "farmy.toml").write_text(CONFIG)
    monkeypatch.setenv("FARMY_CONFIG", str(tmp_path / "farmy.toml"))
    monkeypatch.setenv("FARMY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FARMY_OBJECTS", raising=False)
    if request.param == "bucket":
        s3: S3Server = request.getfixturevalue("s3")
        monkeypatch.setenv("FARMY_OBJECTS", f"s3://{BUCKET}/{next(bucket_prefixes)}")
        monkeypatch.setenv("FARMY_S3_ENDPOINT", s3.endpoint)
    return tmp_path


def write(place: Path, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return str(place)


def read_landing() -> dict[str, bytes]:
    """Return what landed, by its key without source and day."""
    prefix = f"landing/submit/{datetime.now(UTC):%Y/%m/%d}/"
    with Lake(load_settings()) as lake:
        return {fact.key.removeprefix(prefix): lake.objects.read(fact.key) for fact in lake.objects.list("landing/")}


def read_rows(called: Called) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(called.out)["images"]
    return rows


def feed(lines: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))


# Files and folders


def test_a_folder_lands_with_its_sidecars_which_have_no_row_of_their_own(home: Path) -> None:
    files = {
        "a.gif": b"a",
        "a.gif.json": b'{"licence": "CC0-1.0"}',
        "deep/b.gif": b"b",
        "deep/b.gif.json": b"{",
        "c": b"c",
    }
    rows = call("submit", write(home / "in", files), "--json").answer["images"]
    assert [Path(row["item"]).relative_to(home / "in").as_posix() for row in rows] == ["a.gif", "c", "deep/b.gif"]
    assert [row["token"] for row in rows] == [hashlib.sha256(data).hexdigest() for data in (b"a", b"c", b"b")]
    assert read_landing() == files


def test_a_sidecar_lands_before_its_image(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []
    create = Objects.create

    def record(objects: Objects, key: str, data: bytes) -> bool:
        created.append(key.rpartition("/")[2])
        return create(objects, key, data)

    monkeypatch.setattr(Objects, "create", record)
    call("submit", write(home / "in", {"a.gif": b"a", "a.gif.json": b"{}"}))
    assert created == ["a.gif.json", "a.gif"]


def test_the_same_lands_once_with_and_without_its_sidecar(home: Path) -> None:
    folder = write(home / "in", {"a.gif": b"a", "a.gif.json": b"{}"})
    assert call("submit", folder, "--json").answer["images"][0]["is_new"]
    for item in (folder, f"{folder}/a.gif"):
        (row,) = call("submit", item, "--json").answer["images"]
        assert not row["is_new"]
    assert read_landing() == {"a.gif": b"a", "a.gif.json": b"{}"}


def test_a_sidecar_that_comes_later_lands_beside_its_image(home: Path) -> None:
    folder = write(home / "in", {"a.gif": b"a"})
    call("submit", folder)
    write(home / "in", {"a.gif.json": b"{}"})
    call("submit", folder)
    assert read_landing() == {"a.gif": b"a", "a.gif.json": b"{}"}


def test_another_sidecar_never_replaces_one_that_landed(home: Path) -> None:
    folder = write(home / "in", {"a.gif": b"a", "a.gif.json": b"{}"})
    call("submit", folder)
    write(home / "in", {"a.gif.json": b'{"consent": "withdrawn"}'})
    first, again = (call("submit", folder, "--json").answer["images"][0] for _ in range(2))
    assert (first["is_new"], again["is_new"]) == (True, False)
    name = first["object_key"].rpartition("/")[2]
    landed = read_landing()
    assert (landed["a.gif.json"], landed[f"{name}.json"]) == (b"{}", b'{"consent": "withdrawn"}')
    assert (landed["a.gif"], landed[name], len(landed)) == (b"a", b"a", 4)


def test_a_sidecar_that_waits_for_another_image_is_not_given_to_this_one(home: Path) -> None:
    with Lake(load_settings()) as lake:
        lake.objects.create(f"landing/submit/{datetime.now(UTC):%Y/%m/%d}/a.gif.json", b'{"licence": "another"}')
    (row,) = call("submit", write(home / "in", {"a.gif": b"a", "a.gif.json": b"{}"}), "--json").answer["images"]
    assert not row["object_key"].endswith("/a.gif")


def test_a_sidecar_that_is_named_beside_its_image_has_no_row_and_alone_it_has_the_reason(home: Path) -> None:
    folder = write(home / "in", {"a.gif": b"a", "a.gif.json": b"{}", "notes.json": b"{}"})
    assert len(call("submit", f"{folder}/a.gif", f"{folder}/a.gif.json", "--json").answer["images"]) == 1
    for lonely in ("a.gif.json", "notes.json"):
        called = call("submit", f"{folder}/{lonely}", "--json")
        assert called.code == 1
        assert "a sidecar lands with its image" in read_rows(called)[0]["reason"]


def test_what_does_not_land_has_the_reason_in_its_row_and_stops_nothing(home: Path) -> None:
    folder = write(home / "in", {"a.gif": b"a", "z.gif": b"z"})
    called = call("submit", f"{folder}/a.gif", f"{folder}/b.gif", "gopher://x/?secret", f"{folder}/z.gif", "--json")
    assert (called.code, called.err) == (1, "")
    rows = read_rows(called)
    assert [row["token"] is None for row in rows] == [False, True, True, False]
    assert [row["reason"] is None for row in rows] == [True, False, False, True]
    assert [rows[2][name] for name in ("item", "object_key", "is_new")] == ["gopher://x/", None, False]
    assert set(read_landing()) == {"a.gif", "z.gif"}


def test_the_table_shows_what_stands_in_brackets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(home / "in", {"[red]a.gif": b"a"}))
    called = call("submit", "[red]a.gif", "http://[fe80::1]/")
    assert called.code == 1
    assert "[red]a.gif" in called.out
    assert "http://[fe80::1]/" in called.out


def test_a_file_name_of_any_bytes_is_answered(home: Path) -> None:
    folder = home / "in"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.gif")).write_bytes(b"a")
    (row,) = call("submit", str(folder), "--json").answer["images"]
    assert row["item"].endswith("caf\ufffd.gif")
    assert row["object_key"].endswith("/caf_.gif")


@pytest.mark.parametrize("item", ["", "/dev/zero", "~nobody-of-that-name/a.gif", "in/huge.bin"])
def test_what_is_no_file_to_be_read_whole_is_answered_and_not_read(
    home: Path, item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    with Path(write(home / "in", {"huge.bin": b""}), "huge.bin").open("wb") as huge:
        huge.truncate(MAX_OBJECT_BYTES + 1)
    called = call("submit", item, "--json")
    assert called.code == 1
    (row,) = read_rows(called)
    assert (row["token"], row["reason"] is None) == (None, False)


def test_a_list_on_standard_input_names_files_folders_and_urls(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(home / "in", {"a.gif": b"a", "deep/b.gif": b"b", "deep/b.gif.json": b"{}"})
    with start_loopback_server({"*": answer_with(GIF)}) as server:
        lines = f"# of today\n\n  {folder}/a.gif\r\n{folder}/deep\n{server.url('/c.gif')}\n{folder}/\0\n"
        feed(lines.encode(), monkeypatch)
        called = call("submit", "-", "--json")
    assert called.code == 1
    assert [row["reason"] is None for row in read_rows(called)] == [True, True, True, False]
    assert set(read_landing()) == {"a.gif", "b.gif", "b.gif.json", "c.gif", "c.gif.json"}


# URLs


def test_an_image_from_a_url_lands_once_with_a_sidecar_that_says_where_it_came_from() -> None:
    with start_loopback_server({"/old": redirect_to("/new/cow.gif?token=b"), "*": answer_with(GIF)}) as server:
        url = server.url("/old?token=a")
        rows = [call("submit", url, "--json").answer["images"][0] for _ in range(2)]
    assert [row["is_new"] for row in rows] == [True, False]
    assert {row["token"] for row in rows} == {hashlib.sha256(GIF).hexdigest()}
    assert {row["item"] for row in rows} == {server.url("/old")}
    landed = read_landing()
    assert set(landed) == {"cow.gif", "cow.gif.json"}
    assert json.loads(landed["cow.gif.json"]) == {"origin_url": server.url("/old")}


def test_images_of_one_name_from_several_urls_all_land_with_their_own_sidecars() -> None:
    answers = {f"/{number}/cow.gif": answer_with(GIF + str(number).encode()) for number in range(3)}
    with start_loopback_server(answers) as server:
        urls = [server.url(path) for path in answers]
        rows = call("submit", *urls, "--json").answer["images"]
    landed = read_landing()
    for number, row in enumerate(rows):
        name = row["object_key"].rpartition("/")[2]
        assert landed[name] == GIF + str(number).encode()
        assert json.loads(landed[f"{name}.json"]) == {"origin_url": urls[number]}


def test_a_url_that_fails_or_is_forbidden_has_the_reason_in_its_row_and_stops_nothing() -> None:
    with start_loopback_server({"/page": answer_with(b"<html>"), "*": answer_with(GIF)}) as server:
        called = call(
            *("submit", server.url("/page?secret"), server.url(host="127.0.0.2"), "http://10.0.0.1/?secret"),
            *(server.url("/a.gif"), "--json"),
        )
    assert called.code == 1
    page, unopened, private, landed = read_rows(called)
    assert "do not begin as an image" in page["reason"]
    assert "is loopback" in unopened["reason"]
    assert "is private" in private["reason"]
    assert landed["reason"] is None
    assert "secret" not in called.out


def test_urls_are_fetched_side_by_side_and_answered_in_their_order() -> None:
    together = threading.Barrier(SIDE_BY_SIDE, timeout=20)

    def meet_then(answer: Answer) -> Answer:
        def meet(connection: Any) -> None:
            together.wait()
            answer(connection)

        return meet

    answers = {f"/{number}.gif": meet_then(answer_with(GIF + bytes([number]))) for number in range(SIDE_BY_SIDE)}
    with start_loopback_server(answers | {"*": answer_with(b"")}) as server:
        urls = [server.url(path) for path in answers]
        rows = call("submit", *urls, "--json").answer["images"]
    assert [row["item"] for row in rows] == urls


def test_no_more_images_are_held_than_are_fetched_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = []
    create = Objects.create
    with start_loopback_server({"*": answer_with(GIF)}) as server:

        def watch(objects: Objects, key: str, data: bytes) -> bool:
            landed = sum(not key.endswith(".json") for key in seen)
            seen.append(key)
            ahead.append(len(server.requests) - landed)
            return create(objects, key, data)

        seen: list[str] = []
        monkeypatch.setattr(Objects, "create", watch)
        call("submit", *(server.url(f"/{number}.gif") for number in range(12)))
    assert len(seen) == 24
    assert max(ahead) <= SIDE_BY_SIDE
