"""A run that is killed in the middle, at every step in turn: the next run goes on, and in the end nothing differs.

One lake suffers all kills one after another: each run goes on from what the run before left, gets one step further
and is killed there. Another lake is never disturbed. Both use the same Label Studio, each its own project.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.label_studio import LabelStudio
from adapters.label_studio_server import RunningLabelStudio, read_credentials
from adapters.lake import Lake
from adapters.settings import load_settings
from lakehouse.schemas import LOOP, TABLES
from samples.annotators import FAIR, GOOD, ImageTruth, answer_open_tasks
from tests.graph.lakes import DAY_1, DAY_2, land, list_notes, make_picture, recompress
from tests.system.killed_runs import RELEASE, KillPoint, run_assets_or_release, run_until_killed

PASSWORD = "a-long-password"
CLASSES = ("animal", "fish")
PEOPLE = (GOOD, FAIR)
BEFORE_PEOPLE = tuple(name for name in LOOP if name not in {"annotations", "labelled_dataset", "label_model"})
GIVEN_BY_THE_SERVER = {
    "task_id",
    "annotation_id",
    "project_id",
    "created_at",
    "updated_at",
    "fingerprint",
    "labelled_snapshot_id",
    "snapshots_json",
}


def around_commit(table: str) -> list[KillPoint]:
    """Return the moments before a day is committed, and after it before its notes are deleted."""
    return [KillPoint("Tables", "commit_day", is_before, table) for is_before in (True, False)]


KILLS_BEFORE_PEOPLE = {
    "raw_images": [
        KillPoint("Objects", "create", is_before=False),
        *around_commit("raw_images"),
        KillPoint("ImageIndex", "record_firsts", is_before=False),
        KillPoint("Objects", "delete", is_before=True),
    ],
    "cleansed_images": around_commit("cleansed_images"),
    "near_duplicates": around_commit("near_duplicates"),
    "annotation_tasks": [
        KillPoint("LabelStudio", "import_tasks", is_before=True),
        KillPoint("LabelStudio", "import_tasks", is_before=False),
        *around_commit("annotation_tasks"),
    ],
    "predicted_labels": around_commit("predicted_labels"),
    "image_catalog": around_commit("image_catalog"),
}
KILLS_AFTER_PEOPLE = {
    "annotations": [
        KillPoint("ImageIndex", "write_cursor", is_before=True),
        *around_commit("annotations"),
        KillPoint("Objects", "delete", is_before=True),
    ],
    "labelled_dataset": around_commit("labelled_dataset"),
    "label_model": around_commit("label_model"),
    "predicted_labels": around_commit("predicted_labels"),
    "task_pre_labels": [
        KillPoint("LabelStudio", "replace_predictions", is_before=False),
        *around_commit("task_pre_labels"),
    ],
    "image_catalog": around_commit("image_catalog"),
}
KILLS_OF_A_RELEASE = {RELEASE: [KillPoint("Objects", "create", is_before=False), *around_commit(RELEASE)]}


@dataclass(frozen=True)
class PreparedLake:
    """A lake with the sample landing and a project of its own."""

    lake: Lake
    settings: dict[str, Any]


@pytest.fixture
def people(label_studio: LabelStudio, running_label_studio: RunningLabelStudio) -> Iterator[list[LabelStudio]]:
    desks = [
        LabelStudio(running_label_studio.url, label_studio.ensure_member(person.email, PASSWORD)) for person in PEOPLE
    ]
    yield desks
    for desk in desks:
        desk.close()


def prepare(home: Path, project: str, server: RunningLabelStudio, label_studio_home: Path) -> PreparedLake:
    """Land ten pictures with a copy, a near duplicate and a broken file on two days."""
    settings = {
        "home": home,
        "workers": 2,
        "label_studio_url": server.url,
        "label_studio_token": read_credentials(label_studio_home).token,
        # The server serves pictures from its own home alone; which objects lie there does not matter here.
        "objects": str(label_studio_home / "lake" / "staging" / project),
        "annotation": {"project": project, "annotators": [person.email for person in PEOPLE], "overlap": 2},
        "label_model": {"min_images_per_class": 2, "folds": 2},
    }
    lake = Lake(load_settings(**settings))
    for number in range(5):
        land(lake, f"{number}.jpg", make_picture(number), DAY_1, hour=8 + number)
        land(lake, f"{number + 5}.jpg", make_picture(number + 5), DAY_2, hour=8 + number)
    land(lake, "copy.jpg", make_picture(1), DAY_2, hour=14)
    land(lake, "near.jpg", recompress(make_picture(2)), DAY_2, hour=15)
    land(lake, "broken.jpg", make_picture(11)[:700], DAY_1, hour=16)
    return PreparedLake(lake, settings)


def answer(prepared: PreparedLake, people: list[LabelStudio]) -> None:
    """Have the people answer all but two tasks, which get guesses, and every other picture as the same class."""
    images = prepared.lake.tables.read("annotation_tasks", columns=["image_id"]).column("image_id").to_pylist()
    truths = {image_id: ImageTruth(CLASSES[rank % 2]) for rank, image_id in enumerate(sorted(images)[2:])}
    for person, desk in zip(PEOPLE, people, strict=True):
        answer_open_tasks(desk, prepared.lake.annotation_project_id, person, truths, CLASSES)


def read_tables(lake: Lake) -> dict[str, list[str]]:
    """Return the tables' rows without what the server gives out."""
    return {
        name: sorted(
            repr(sorted((column, value) for column, value in row.items() if column not in GIVEN_BY_THE_SERVER))
            for row in lake.tables.read(name).to_pylist()
        )
        for name in TABLES
    }


def suffer(prepared: PreparedLake, assets: tuple[str, ...], kills: dict[str, list[KillPoint]]) -> None:
    """Run up to an asset once for each of its points and be killed there, asset by asset; then run to the end."""
    for asset, points in kills.items():
        for point in points:
            exit_code = run_until_killed(prepared.settings, assets[: assets.index(asset) + 1], point)
            assert exit_code == -signal.SIGKILL, f"the run was to be killed {point}, and ended with {exit_code}"
    run_assets_or_release(prepared.lake, assets)


def test_a_run_killed_at_every_step_in_turn_still_ends_up_equal(
    tmp_path: Path,
    running_label_studio: RunningLabelStudio,
    label_studio: LabelStudio,
    label_studio_home: Path,
    people: list[LabelStudio],
) -> None:
    calm = prepare(tmp_path / "calm", "calm", running_label_studio, label_studio_home)
    struck = prepare(tmp_path / "struck", "struck", running_label_studio, label_studio_home)

    for prepared, is_struck in ((calm, False), (struck, True)):
        suffer(prepared, BEFORE_PEOPLE, KILLS_BEFORE_PEOPLE if is_struck else {})
        answer(prepared, people)
        suffer(prepared, LOOP, KILLS_AFTER_PEOPLE if is_struck else {})
        suffer(prepared, (RELEASE,), KILLS_OF_A_RELEASE if is_struck else {})

    expected = read_tables(calm.lake)
    assert all(expected.values()), "every table has rows"
    assert read_tables(struck.lake) == expected
    assert list_notes(struck.lake) == []
    tasks = label_studio.list_changed_tasks(struck.lake.annotation_project_id)
    images = struck.lake.tables.read("annotation_tasks", columns=["image_id"]).num_rows
    assert len(tasks) == images == 10, "no image is before people twice"
