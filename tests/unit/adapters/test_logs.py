import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from adapters import logs
from adapters.compute import ThreadCompute
from adapters.logs import JsonLineHandler, begin_logs, build_redactor, log_context
from adapters.settings import Settings, load_settings

TODAY = datetime.now(UTC).date()
log = logging.getLogger("farmy.test")


@pytest.fixture(autouse=True)
def without_handlers() -> Iterator[None]:
    """Leave the process's loggers as they were found, so that no test writes to the folder of another."""
    before = logs.LOGGER.handlers[:], logs.LOGGER.level
    logs.LOGGER.handlers.clear()
    yield
    for handler in logs.LOGGER.handlers:
        handler.close()
    logs.LOGGER.handlers[:], logs.LOGGER.level = before[0], before[1]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load_settings(home=tmp_path / "home")
    begin_logs(settings)
    return settings


def get_path(settings: Settings, day: date = TODAY) -> Path:
    return settings.home / "logs" / f"farmy-{day}.jsonl"


def read_lines(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(line) for line in get_path(settings).read_text().splitlines()]


def test_a_line_says_when_how_grave_who_and_what(settings: Settings) -> None:
    log.info("%d images are in", 3)

    (line,) = read_lines(settings)
    assert line.keys() == {"time", "level", "logger", "message"}
    assert (line["level"], line["logger"], line["message"]) == ("info", "farmy.test", "3 images are in")
    assert datetime.now(UTC) - datetime.fromisoformat(line["time"]) < timedelta(minutes=1)
    assert line["time"].endswith("+00:00")


def test_a_line_says_what_is_bound_around_it_and_nothing_after(settings: Settings) -> None:
    with log_context(run_id="r1", day=date(2026, 11, 2)):
        with log_context(asset="raw_images", image_id="ab" * 32):
            log.info("inside")
        log.info("between")
    log.info("outside")

    inside, between, outside = read_lines(settings)
    assert inside["asset"] == "raw_images"
    assert inside["image_id"] == "ab" * 32
    assert (inside["run_id"], inside["day"]) == (between["run_id"], between["day"]) == ("r1", "2026-11-02")
    assert "asset" not in between
    assert "run_id" not in outside


def test_what_is_bound_never_takes_the_place_of_the_message(settings: Settings) -> None:
    with log_context(message="another", level="none"):
        log.warning("mine")

    assert read_lines(settings)[0] | {"time": ""} == {
        "time": "",
        "level": "warning",
        "logger": "farmy.test",
        "message": "mine",
    }


def test_an_error_is_logged_with_its_type_and_message(settings: Settings) -> None:
    log.error("It failed", exc_info=ValueError("no such day\nsecond line"))

    (line,) = read_lines(settings)
    assert (line["error_type"], line["error_message"]) == ("ValueError", "no such day\nsecond line")


def _log_item(item: int) -> int:
    log.info("item %d", item)
    return item


def _give(item: int) -> int:
    return item


def _keep(_item: int, result: int) -> int:
    log.info("kept %d", result)
    return result


def _get_size(_item: int) -> int:
    return 1


def test_threads_that_work_for_a_run_say_what_is_bound_where_the_work_was_given(settings: Settings) -> None:
    compute = ThreadCompute(2)
    with log_context(run_id="r1", image_id="outer"):
        assert list(compute.map(_log_item, range(20))) == list(range(20))
        piped = compute.pipe(range(20), read=_give, work=_log_item, write=_keep, size_bytes=_get_size)
        assert list(piped) == list(range(20))

    lines = read_lines(settings)
    assert len(lines) == 60
    assert {(line["run_id"], line["image_id"]) for line in lines} == {("r1", "outer")}


def _log_image(item: int) -> None:
    with log_context(image_id=f"image-{item}"):
        log.info("item %d", item)


def test_what_one_thread_binds_no_other_thread_says(settings: Settings) -> None:
    with log_context(run_id="r1"):
        list(ThreadCompute(4).map(_log_image, range(200)))

    for line in read_lines(settings):
        assert line["image_id"] == line["message"].replace("item ", "image-")


def _log_many(home: Path, worker: int, lines: int) -> None:
    begin_logs(load_settings(home=home))
    for number in range(lines):
        log.info("%s", f"{worker}-{number}-" + "x" * 5_000)


def test_several_processes_write_one_file_and_no_line_is_torn(settings: Settings) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_log_many, args=(settings.home, worker, 300)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    messages = [line["message"].partition("-x")[0] for line in read_lines(settings)]
    assert sorted(messages) == sorted(f"{worker}-{number}" for worker in range(3) for number in range(300))


def test_beginning_twice_writes_each_line_once_and_another_home_takes_over(settings: Settings, tmp_path: Path) -> None:
    begin_logs(settings)
    log.info("first")
    other = load_settings(home=tmp_path / "other")
    begin_logs(other)
    log.info("second")

    assert [line["message"] for line in read_lines(settings)] == ["first"]
    assert [line["message"] for line in read_lines(other)] == ["second"]


def test_nothing_is_made_before_there_is_something_to_say(settings: Settings) -> None:
    assert not settings.home.exists()


def test_each_utc_day_has_a_file_of_its_own(settings: Settings) -> None:
    record = log.makeRecord("farmy.test", logging.INFO, "", 0, "late", (), None)
    for moment in ("2026-11-02T23:59:59.999+00:00", "2026-11-03T00:00:00+00:00"):
        record.created = datetime.fromisoformat(moment).timestamp()
        logs.LOGGER.handlers[0].handle(record)

    for day, time in ((date(2026, 11, 2), "23:59:59.999"), (date(2026, 11, 3), "00:00:00.000")):
        assert time in json.loads(get_path(settings, day).read_text())["time"]


def test_files_older_than_thirty_days_are_removed_and_no_others(settings: Settings) -> None:
    folder = settings.home / "logs"
    folder.mkdir(parents=True)
    old, kept = get_path(settings, TODAY - timedelta(days=31)), get_path(settings, TODAY - timedelta(days=30))
    others = [folder / "dagster.log", folder / "farmy-notes.jsonl", folder / "farmy-2020-01-02.jsonl.gz"]
    for path in (old, kept, *others):
        path.write_text("{}")

    begin_logs(settings)

    assert sorted(folder.iterdir()) == sorted([kept, *others])


def test_a_container_has_its_lines_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin_logs(load_settings(home=tmp_path / "home", log_to="stderr"))
    log.info("hello")

    assert json.loads(capsys.readouterr().err)["message"] == "hello"
    assert not (tmp_path / "home").exists()


def test_a_line_that_the_disk_does_not_take_goes_to_standard_error(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.home.parent.mkdir(exist_ok=True)
    settings.home.write_text("a file where the folder should be")
    log.error("lost?")

    assert json.loads(capsys.readouterr().err)["message"] == "lost?"


def test_letters_of_any_script_are_kept_and_names_that_are_no_text_do_not_stop_the_log(settings: Settings) -> None:
    log.info("Kühe 牛 %s", os.fsdecode(b"\xff.jpg"))

    assert read_lines(settings)[0]["message"] == "Kühe 牛 ?.jpg"


def test_secrets_of_the_settings_and_of_aws_are_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "FARMY_LABEL_STUDIO_TOKEN": "0123456789abcdef",
        "FARMY_ALERT_WEBHOOK": "https://hooks.example.org/services/T0/B0/s3cret",
        "AWS_SECRET_ACCESS_KEY": "abc/def+ghi/jkl=",
        "AWS_SESSION_TOKEN": "session-token-of-mine",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(home=tmp_path / "home")
    begin_logs(settings)
    for value in secrets.values():
        with log_context(key=value, keys=[value]):
            log.error("says %s and %s", value, quote(value, safe=""), exc_info=ValueError(f"it was {value}"))

    written = get_path(settings).read_text()
    for value in secrets.values():
        assert value not in written
        assert quote(value, safe="") not in written
    assert written.count("[redacted]") == 5 * len(secrets)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=0a1b2c&X-Amz-Expires=9 failed",
            "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=[redacted]&X-Amz-Expires=9 failed",
        ),
        ("k?x-amz-security-token=abc%2Fd&a=1", "k?x-amz-security-token=[redacted]&a=1"),
        ("k?X-Amz-Credential=AKIA%2F20261102&a=1", "k?X-Amz-Credential=[redacted]&a=1"),
        (
            "k?AWSAccessKeyId=AKIA&Signature=ab%2B&Expires=1",
            "k?AWSAccessKeyId=[redacted]&Signature=[redacted]&Expires=1",
        ),
        ("{'Authorization': 'Token 00ff'}", "{'Authorization': 'Token [redacted]'}"),
        ("authorization: Bearer abc.def", "authorization: Bearer [redacted]"),
        ("https://ann:pass@example.org/x", "https://[redacted]@example.org/x"),
        ("nothing to hide, mail ann@example.org", "nothing to hide, mail ann@example.org"),
    ],
)
def test_what_lets_its_reader_in_is_redacted(text: str, shown: str) -> None:
    assert build_redactor([])(text) == shown


def test_a_secret_too_short_to_be_one_does_not_blank_the_log() -> None:
    assert build_redactor(["a", ""])("a banana") == "a banana"


def test_a_secret_that_begins_with_another_is_redacted_whole() -> None:
    assert build_redactor(["secret", "secret-and-more"])("it is secret-and-more") == "it is [redacted]"


def test_a_handler_that_was_closed_writes_again(tmp_path: Path) -> None:
    handler = JsonLineHandler(tmp_path)
    handler.setFormatter(logs.JsonLineFormatter(build_redactor([])))
    write = partial(handler.handle, log.makeRecord("farmy", logging.INFO, "", 0, "again", (), None))
    write()
    handler.close()
    write()
    handler.close()

    assert len(get_log(tmp_path).splitlines()) == 2


def get_log(folder: Path) -> str:
    return (folder / f"farmy-{TODAY}.jsonl").read_text()
