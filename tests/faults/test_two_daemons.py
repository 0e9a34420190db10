"""Two daemons over one home, started by mistake: every run may be asked for twice, and every row is there once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from adapters import inbox
from adapters.lake import Lake
from adapters.settings import CHECKOUT
from cli.runs import prepare_dagster_home
from cli.up import hold_home
from lakehouse.errors import SettingsError
from tests.faults.recovery import assert_recovers, read_rows, recover
from tests.graph.lakes import land, make_picture, open_lake, recompress
from tests.system.farmy_process import FarmyHome
from tests.system.killed_runs import run_process

_IN_TIME_S = 400
_ACTIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)


@contextmanager
def run_daemon(home: FarmyHome, log: Path) -> Iterator[None]:
    """Run a daemon until the end of the block, and end all that it started."""
    command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "tests.faults.image_definitions"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "-d", str(CHECKOUT)],
            env=home.environment | {"DAGSTER_HOME": str(home.path / "dagster")},
            cwd=CHECKOUT,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def land_morning(lake: Lake) -> None:
    for number in (1, 2):
        land(lake, f"{number}.jpg", make_picture(number), YESTERDAY, hour=number)
        land(lake, f"{number + 2}.jpg", make_picture(number + 2), TODAY, hour=number)


def land_evening(lake: Lake) -> None:
    land(lake, "5.jpg", make_picture(5), YESTERDAY, hour=5)
    land(lake, "copy.jpg", make_picture(3), YESTERDAY, hour=6)
    land(lake, "near.jpg", recompress(make_picture(1)), TODAY, hour=7)


@contextmanager
def open_instance(lake: Lake) -> Iterator[dg.DagsterInstance]:
    """Open Dagster's records, which are made here: several processes that make them at once fall over one another."""
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(lake.settings))) as instance:
        instance.get_runs_count()
        instance.all_instigator_state()
        yield instance


def wait_for_rows(lake: Lake, instance: dg.DagsterInstance, count: int, log: Path) -> None:
    """Wait until so many objects are in `raw_images`, no note waits and no run works."""
    deadline = time.monotonic() + _IN_TIME_S
    while (
        lake.tables.count_rows("raw_images") < count
        or inbox.list_days_with_arrivals(lake)
        or instance.get_runs_count(dg.RunsFilter(statuses=_ACTIVE))
    ):
        assert time.monotonic() < deadline, log.read_text()[-5_000:]
        time.sleep(1)


@pytest.mark.usefixtures("images_alone")
def test_two_daemons_over_one_home_take_every_object_in_once(tmp_path: Path) -> None:
    with open_lake(tmp_path / "undisturbed") as undisturbed:
        land_morning(undisturbed)
        land_evening(undisturbed)
        recover(undisturbed)
        expected = read_rows(undisturbed)
    home, logs = FarmyHome(tmp_path / "home"), (tmp_path / "daemon 1.log", tmp_path / "daemon 2.log")

    with open_lake(home.path) as lake, open_instance(lake) as instance:
        land_morning(lake)
        with run_daemon(home, logs[0]), run_daemon(home, logs[1]):
            wait_for_rows(lake, instance, 4, logs[0])
            land_evening(lake)
            wait_for_rows(lake, instance, 7, logs[0])

        assert_recovers(lake, expected)
    for log in logs:
        assert "arrivals_sensor" in log.read_text(), "both daemons worked"


def hold_until_killed(home: Path) -> None:
    with hold_home(home):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_second_farmy_up_on_the_same_home_says_that_one_runs(tmp_path: Path) -> None:
    home = FarmyHome(tmp_path)

    with hold_home(home.path):
        second = home.run("up")

    assert second.returncode == 1
    assert "`farmy up` runs" in second.stderr


def test_a_home_is_free_again_when_its_farmy_up_was_killed(tmp_path: Path) -> None:
    assert run_process(hold_until_killed, tmp_path) == -signal.SIGKILL

    with hold_home(tmp_path), pytest.raises(SettingsError, match="Stop it first"), hold_home(tmp_path):
        pass
