"""What the page of a job shows of the work that there is, and when it is looked for."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import inbox
from adapters.lake import Lake
from adapters.settings import CHECKOUT
from farmy_assets import definitions
from farmy_assets.definitions import build_definitions
from farmy_assets.reprocessing import WorkSeen, look_for_work
from tests.graph.lakes import DAY_1, land, make_picture, open_lake, take_in

JOBS = ("images_job", "labels_job", "training_job", "loop_job", "release_job", "reconcile_job")


@pytest.fixture(autouse=True)
def _looks_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process look as if for the first time, at a lake of its own."""
    monkeypatch.setenv("FARMY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FARMY_CONFIG", str(CHECKOUT / "farmy.toml"))
    look_for_work.cache_clear()
    yield
    look_for_work.cache_clear()


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with open_lake(tmp_path / "home") as lake:
        yield lake


def describe_jobs() -> dict[str, str]:
    """Return what the pages of the jobs show."""
    loaded = build_definitions(shows_work=True)
    return {name: str(loaded.resolve_job_def(name).description) for name in JOBS}


def test_the_jobs_that_people_launch_show_what_they_would_do(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1], ["raw_images"])
    land(lake, "2.jpg", make_picture(2), DAY_1)
    inbox.note_all_arrivals(lake)

    shown = describe_jobs()

    for name in ("images_job", "loop_job"):
        assert "| cleansed_images | bytes | 1 | 1 | unknown |" in shown[name]
        assert "1 arrivals wait." in shown[name]
        assert "Reload definitions to look again." in shown[name]
    assert all("What a run would do" not in shown[name] for name in JOBS if name not in {"images_job", "loop_job"})


@pytest.mark.usefixtures("lake")
def test_an_empty_lake_has_nothing_to_do() -> None:
    assert "Everything is up to date." in describe_jobs()["loop_job"]


def test_a_lake_that_cannot_be_read_is_said_to_be_so_and_the_definitions_load(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "catalog.db").write_text("no database")
    assert "could not be found out" in describe_jobs()["loop_job"]


def test_settings_that_are_wrong_are_said_to_be_so_and_the_definitions_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARMY_CONFIG", "/nowhere/farmy.toml")
    assert "There is no settings file /nowhere/farmy.toml" in describe_jobs()["loop_job"]


@pytest.mark.parametrize(
    ("arguments", "looks"),
    [
        (["dagster", "api", "grpc", "--lazy-load-user-code"], True),
        (["dagster", "api", "execute_run", "{}"], False),
        (["dagster", "definitions", "validate"], False),
        (["farmy", "run"], False),
    ],
)
def test_work_is_looked_for_where_a_page_shows_it_alone(
    arguments: list[str],
    looks: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[bool] = []

    def look() -> WorkSeen:
        looked.append(True)
        return look_for_work()

    monkeypatch.setattr(definitions, "look_for_work", look)
    monkeypatch.setattr(sys, "argv", arguments)
    definitions.defs()
    assert bool(looked) == looks
