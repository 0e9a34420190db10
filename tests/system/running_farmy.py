"""A `farmy up` that runs while tests look at it."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.system.farmy_process import FARMY, FarmyHome, find_free_ports

START_TIMEOUT_S = 300
"""More than `farmy up` itself waits for its servers, so that it can say what kept them."""
STOP_TIMEOUT_S = 30


@dataclass(frozen=True)
class RunningFarmy:
    """A `farmy up` that has printed its addresses."""

    process: subprocess.Popen[str]
    home: FarmyHome
    dagster_port: int
    label_studio_port: int

    @property
    def dagster_url(self) -> str:
        return f"http://127.0.0.1:{self.dagster_port}"

    @property
    def label_studio_url(self) -> str:
        return f"http://127.0.0.1:{self.label_studio_port}"

    def list_processes(self) -> list[psutil.Process]:
        """Return `farmy up` and all that it started."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def ask_dagster(self, query: str) -> dict[str, Any]:
        """Return the data that a GraphQL query asks for."""
        answer = httpx.post(f"{self.dagster_url}/graphql", json={"query": query}, timeout=30).json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data


@contextmanager
def run_farmy_up(home: Path, *, in_background: bool = False) -> Iterator[RunningFarmy]:
    """Start `farmy up` on free ports; whatever is left of it at the end is killed.

    Args:
        home: The home.
        in_background: Whether to start it as `farmy up &` in a script does, with Ctrl-C ignored.
    """
    dagster_port, label_studio_port = find_free_ports(2)
    ports = {"FARMY_DAGSTER_PORT": str(dagster_port), "FARMY_LABEL_STUDIO_PORT": str(label_studio_port)}
    farmy_home = FarmyHome(home, ports)
    output, notices = home / "up.out", home / "up.err"
    with output.open("w") as out, notices.open("w") as err:
        process = subprocess.Popen(
            ["/bin/sh", "-c", "trap '' INT; exec \"$0\" up", FARMY] if in_background else [FARMY, "up"],
            env=farmy_home.environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            start_new_session=True,
        )
    running = RunningFarmy(process, farmy_home, dagster_port, label_studio_port)
    started: list[psutil.Process] = []
    try:
        wait_until(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, START_TIMEOUT_S)
        assert process.poll() is None, f"farmy up ended at once: {notices.read_text()}"
        started = running.list_processes()
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
        for survivor in psutil.wait_procs(started, 1)[1]:
            survivor.kill()


def wait_until(is_true: Callable[[], bool], timeout_s: float, pause_s: float = 0.5) -> None:
    """Wait until something becomes true; fail if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(pause_s)
