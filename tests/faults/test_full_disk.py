"""A disk that is really full: a small one of its own, in memory, filled up to what a run needs at another place."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.lake import Lake
from cli.run import bring_up_to_date
from lakehouse.errors import FarmyError
from tests.faults.recovery import Rows, assert_recovers, read_rows
from tests.graph.lakes import DAY_1, DAY_2, IMAGE_TABLES, land, make_picture, open_lake
from tests.system.farmy_process import FarmyHome

pytestmark = pytest.mark.usefixtures("images_alone")
DISK_BYTES = 64_000_000
_MOST_ATTEMPTS = 60


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    _call("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder))
    yield folder
    _call("umount", "--lazy", str(folder))


def _call(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, (
        f"{' '.join(command)} failed: {finished.stderr.strip()}. This test needs a disk that it can fill: run it as "
        "root, or with `unshare --map-root-user --mount` before it."
    )


def fill(disk: Path, room_bytes: int) -> None:
    """Fill the disk but for some room."""
    free(disk)
    state = os.statvfs(disk)
    with (disk / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, state.f_bavail * state.f_frsize - room_bytes)


def free(disk: Path) -> None:
    (disk / "filler").unlink(missing_ok=True)


def open_small_lake(home: Path, objects: Path) -> Lake:
    return open_lake(home, objects=str(objects))


def land_some(lake: Lake) -> None:
    for number in range(1, 5):
        land(lake, f"{number}.jpg", make_picture(number), DAY_1, hour=number)
    land(lake, "copy.jpg", make_picture(1), DAY_2)
    land(lake, "5.jpg", make_picture(5), DAY_2)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What a lake holds that had room enough."""
    with open_lake(tmp_path_factory.mktemp("undisturbed")) as lake:
        land_some(lake)
        bring_up_to_date(lake, IMAGE_TABLES)
        return read_rows(lake)


def try_to_run(lake: Lake) -> str | None:
    """Run everything and return what it said if it failed."""
    try:
        bring_up_to_date(lake, IMAGE_TABLES)
    except FarmyError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("home_at", "objects_at", "room_step_bytes", "places"),
    [("disk/own", "disk/own/lake", 40_960, 2), ("home", "disk/lake", 20_480, 4)],
    ids=["everything on it", "objects and tables on it"],
)
def test_a_full_disk_stops_a_run_with_a_sentence_and_loses_nothing(
    tmp_path: Path, disk: Path, expected: Rows, home_at: str, objects_at: str, room_step_bytes: int, places: int
) -> None:
    """Each attempt has a little more room than the one before, and so gets a little further."""
    home, objects = tmp_path / home_at, tmp_path / objects_at
    with open_small_lake(home, objects) as lake:
        land_some(lake)
    complaints = []

    for attempt in range(_MOST_ATTEMPTS):
        fill(disk, attempt * room_step_bytes)
        with open_small_lake(home, objects) as lake:
            complaint = try_to_run(lake)
        if complaint is None:
            break
        complaints.append(complaint)
    free(disk)

    assert complaint is None, f"room enough was never found: {complaints}"
    assert all("room" in complaint for complaint in complaints), complaints
    full_at = {complaint.partition(":")[0] for complaint in complaints}
    assert len(full_at) >= places, full_at
    with open_small_lake(home, objects) as lake:
        assert_recovers(lake, expected)


@pytest.mark.parametrize("room_bytes", [0, 81_920])
def test_the_command_says_that_the_disk_is_full_and_exits_with_1(disk: Path, room_bytes: int) -> None:
    home = disk / "home"
    with open_lake(home) as lake:
        land_some(lake)
    fill(disk, room_bytes)

    finished = FarmyHome(home).run("run", "--assets", ",".join(IMAGE_TABLES))

    assert finished.returncode == 1
    assert "has room" in finished.stderr.replace("\n", " ")
    assert "Traceback" not in finished.stderr + finished.stdout
