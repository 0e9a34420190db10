"""One Ray for all tests, as an operator's cluster: its starter is a process of its own, which tests can kill."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

WORKERS = 2


@dataclass(frozen=True)
class RayCluster:
    """A Ray that runs.

    Attributes:
        starter: The process that works with it and will end it.
        address: Where others connect to it.
        environment: What the environment of these must say.
    """

    starter: "subprocess.Popen[str]"
    address: str
    environment: dict[str, str]

    def list_processes(self) -> list[psutil.Process]:
        """Return all of Ray's processes."""
        return psutil.Process(self.starter.pid).children(recursive=True)

    @property
    def folder(self) -> Path:
        """Where Ray keeps its sockets and logs."""
        lines = [process.cmdline() for process in self.list_processes()]
        return next(Path(line[-1]) for line in lines if "adapters.local_ray" in line)


@contextmanager
def start_ray_cluster() -> Iterator[RayCluster]:
    """Have another process start a Ray through `RayCompute`; end that process with SIGKILL."""
    starter = subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter:
        try:
            cluster = RayCluster(starter, **json.loads(starter.stdout.readline()))
            yield cluster
        finally:
            starter.kill()


def _start() -> None:
    from adapters.local_ray import build_environment
    from adapters.ray_compute import RayCompute

    assert list(RayCompute(WORKERS).map(abs, [-1])) == [1]
    import ray

    address = ray.get_runtime_context().gcs_address
    sys.stdout.write(json.dumps({"address": address, "environment": build_environment()}) + "\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    _start()
