"""`farmy up`: everything that people look at, until Ctrl-C."""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import urlopen

import click

from adapters.lake import Lake
from adapters.settings import CHECKOUT, Settings, find_config, load_settings
from cli.output import console, notices
from cli.runs import prepare_dagster_home
from lakehouse.errors import ServerStartError, SettingsError

HOST = "127.0.0.1"
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 20
_PR_SET_PDEATHSIG = 1


@click.command()
def up() -> None:
    """Start Label Studio and Dagster's web page and daemon, print their addresses, and stop them all at Ctrl-C.

    The daemon runs the sensors: what lands in landing/ is taken in, what people answer comes back.

    Example: farmy up
    """
    settings = load_settings()
    with hold_home(settings.home):
        check_port(settings.dagster_port, "FARMY_DAGSTER_PORT", "Dagster's page")
        _stop_on_termination()
        _run_servers(settings)


def _run_servers(settings: Settings) -> None:
    with Lake(settings) as lake, run_dagster(settings) as dagster_address:
        label_studio_address = _start_label_studio(lake)
        wait_for(dagster_address, settings.home / "logs" / "dagster.log")
        console.print(f"Dagster       {dagster_address}", highlight=False)
        console.print(f"Label Studio  {label_studio_address}", highlight=False)
        console.print("Ctrl-C stops them all.")
        _wait_until_one_ends(settings, lake)


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Keep a second `farmy up` away from a home: its daemon would ask for every run again.

    The kernel ends this with the process, however that ends.

    Raises:
        SettingsError: If one runs already, or the home cannot be written.
    """
    path = home / "up.lock"
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise SettingsError(
            f"Cannot write {path}: {error.strerror}. Set FARMY_HOME to a folder that you can write and that has room."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(
                f"`farmy up` runs on {home} already. Stop it first, with Ctrl-C where it was started, or set "
                "FARMY_HOME to another folder."
            ) from error
        yield


def check_port(port: int, variable: str, purpose: str) -> None:
    """Make sure that a port on loopback is free.

    Raises:
        SettingsError: If something listens there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SettingsError(
                f"Port {port} for {purpose} cannot be used: {error.strerror}. Stop what listens there, or set "
                f"{variable} to another port."
            ) from error


def _start_label_studio(lake: Lake) -> str:
    if not lake.has_own_label_studio:
        lake.label_studio.check()
        return lake.label_studio.url
    from adapters.label_studio_server import read_credentials

    with notices.status("Starting Label Studio") as status:
        url = lake.start_label_studio(lake.settings.label_studio_port, on_progress=status.update)
    email = read_credentials(lake.settings.home).email
    return f"{url}  sign in as {email}, password in {lake.settings.home / 'label-studio' / 'credentials.json'}"


@contextmanager
def run_dagster(settings: Settings) -> Iterator[str]:
    """Run Dagster's web page and daemon, and end them and all that they started.

    Yields:
        The address of the page, which takes some seconds to answer.
    """
    dagster_home = prepare_dagster_home(settings)
    log_path = settings.home / "logs" / "dagster.log"
    log_path.parent.mkdir(exist_ok=True)
    environment = os.environ | {
        "DAGSTER_HOME": str(dagster_home),
        "FARMY_HOME": str(settings.home),
        "FARMY_CONFIG": str(find_config(os.environ, Path.cwd())),
    }
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", str(CHECKOUT / "workspace.yaml")]
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program with arguments built here
            [*command, "--host", HOST, "--port", str(settings.dagster_port)],
            env=environment,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no thread runs yet
        )
    try:
        yield f"http://{HOST}:{settings.dagster_port}"
    finally:
        _end_group(process)


def _end_with_parent() -> None:
    """Have the kernel interrupt Dagster when this process is killed: nothing else would."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process, which then ends its children itself; kill its whole group if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            notices.print("Dagster did not stop in time and is killed.")
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def wait_for(address: str, log_path: Path) -> None:
    """Wait until a server answers.

    Raises:
        ServerStartError: If it does not in time.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    with notices.status("Starting Dagster"):
        while time.monotonic() < deadline:
            try:
                with urlopen(f"{address}/server_info", timeout=5):  # noqa: S310 - an address on loopback, built here
                    return
            except (URLError, OSError):
                time.sleep(0.3)
    raise ServerStartError(f"Dagster did not answer at {address} within {_START_TIMEOUT_S} s: {log_path} says why.")


def _wait_until_one_ends(settings: Settings, lake: Lake) -> None:
    while True:
        time.sleep(2)
        if lake.has_own_label_studio and not lake.is_label_studio_up():
            raise ServerStartError(
                f"Label Studio has ended: {settings.home / 'label-studio' / 'label-studio.log'} says why. `farmy up` "
                "starts it again."
            )


def _stop_on_termination() -> None:
    """Treat a request to terminate as Ctrl-C, so that the servers are ended then, too.

    A shell starts what it puts into the background with Ctrl-C ignored, and Dagster would inherit that and never stop.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
