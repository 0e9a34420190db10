"""A Ray on this machine alone, started by us and ended with us. Working with it is `adapters.ray_compute`.

Ray is started by a process of its own (`python -m adapters.local_ray`), whose standard input is a pipe that only its
starter holds: when that closes, however the starter went, Ray is shut down and its folder removed. Started by the
starter itself, Ray would outlive a `kill -9` by a minute, and would end with the thread that happened to start it.
"""

import functools
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lakehouse.errors import ServerStartError

START_TIMEOUT_S = 120
_STOP_GRACE_S = 20
_OBJECT_STORE_BYTES = 100_000_000
"""What passes through are rows and small results; pictures never do."""

NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Read by Ray when it is imported: nothing is reported to its maker."""


@functools.cache
def build_environment() -> dict[str, str]:
    """Return what the environment says while Ray is imported and started, in whoever starts or uses a local Ray.

    The token is one for each process that asks, because Ray keeps the first that it has read.
    """
    return NO_REPORTS | {
        # Named after other systems, but what makes Ray listen on loopback alone.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Other users of this machine reach loopback, too. Ray itself would make a token in a file that they can read.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Work that takes more memory than there is would be begun again without end.
        "RAY_task_oom_retries": "3",
    }


@contextmanager
def changed_environment(values: dict[str, str]) -> Iterator[None]:
    """Have this process's environment say something for a while: Ray takes it from nowhere else."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class LocalRay:
    """A running Ray.

    Attributes:
        address: Where it is reached, `127.0.0.1:port`.
    """

    def __init__(self, process: "subprocess.Popen[str]", address: str) -> None:
        self._process = process
        self.address = address

    def stop(self) -> None:
        """End Ray and all its processes."""
        _end(self._process)


def start_local_ray(workers: int) -> LocalRay:
    """Start a Ray with one processor for each worker; takes about 6 s on a quiet machine.

    Raises:
        ServerStartError: If it does not come up; with what it said last.
    """
    # Ray's sockets will lie in this folder, and their paths may not be long.
    folder = Path(tempfile.mkdtemp(prefix="farmy-ray-", dir="/tmp"))
    with tempfile.TemporaryFile("w+") as log:
        with changed_environment(build_environment()):
            process = subprocess.Popen(  # noqa: S603 - our own interpreter with arguments built here
                [sys.executable, "-m", "adapters.local_ray", str(workers), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C is for the starter, who ends Ray after the batch.
                start_new_session=True,
            )
        address = None if process.stdout is None else _read_address(process.stdout)
        if address is not None:
            return LocalRay(process, address)
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)
        log.seek(0)
        said = log.read().strip().splitlines() or ["it said nothing"]
    raise ServerStartError(
        f"Cannot start Ray on this machine: {said[-1].rstrip('.')}. Set FARMY_COMPUTE=threads to work without, or "
        "FARMY_RAY_ADDRESS to a Ray that runs."
    )


def _read_address(output: IO[str]) -> str | None:
    """Return the line that is written when Ray is up, or None if the output ends or that takes too long."""
    readable, _, _ = select.select([output], [], [], START_TIMEOUT_S)
    return (output.readline().strip() or None) if readable else None


def _end(process: "subprocess.Popen[str]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()  # Ray's processes end by themselves when their starter is gone
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _serve(workers: int, folder: Path) -> None:
    """Run Ray until standard input ends."""
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            # Ray opens its own folder to everybody, but nobody passes through ours.
            _temp_dir=str(folder / "ray"),
        )
        sys.stdout.write(f"{ray.get_runtime_context().gcs_address}\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
