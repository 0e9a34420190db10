"""How `farmy up` ends, however that comes about: nothing that it started outlives it."""

import os
import signal
from collections.abc import Sequence

import httpx
import psutil
import pytest

from tests.system.farmy_process import Demo
from tests.system.running_farmy import STOP_TIMEOUT_S, RunningFarmy, run_farmy_up


def test_ctrl_c_stops_everything(demo: Demo) -> None:
    with run_farmy_up(demo.home.path) as running:
        processes = running.list_processes()

        os.killpg(running.process.pid, signal.SIGINT)

        running.process.wait(STOP_TIMEOUT_S)
        assert_nothing_is_left(processes, running, within_s=5)
        assert "Traceback" not in (demo.home.path / "up.err").read_text()


def test_a_request_to_terminate_stops_everything_also_in_the_background(demo: Demo) -> None:
    with run_farmy_up(demo.home.path, in_background=True) as running:
        processes = running.list_processes()

        running.process.terminate()

        running.process.wait(STOP_TIMEOUT_S)
        assert_nothing_is_left(processes, running, within_s=5)
        assert "killed" not in (demo.home.path / "up.err").read_text()


def test_nothing_outlives_a_killed_farmy_up_for_long(demo: Demo) -> None:
    with run_farmy_up(demo.home.path) as running:
        processes = running.list_processes()

        running.process.kill()

        assert_nothing_is_left(processes, running, within_s=30)


def assert_nothing_is_left(processes: Sequence[psutil.Process], running: RunningFarmy, within_s: float) -> None:
    """Make sure that processes have ended and that their ports are free."""
    running.process.wait(STOP_TIMEOUT_S)
    survivors = psutil.wait_procs(processes, within_s)[1]
    assert [" ".join(survivor.cmdline()) for survivor in survivors] == []
    for port in (running.dagster_port, running.label_studio_port):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/")
