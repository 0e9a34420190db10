"""A Label Studio server on this machine, run from its own environment and bound to loopback.

One home has one server, its own database, administrator and secret key. A first start would spend a minute on database
migrations, so a migrated, empty database is kept beside the environment and copied into new homes. Speaking with the
server is `adapters.label_studio`.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

from lakehouse.errors import ServerStartError, SettingsError

HOST = "127.0.0.1"
START_TIMEOUT_S = 180
MIGRATION_TIMEOUT_S = 600
STOP_GRACE_S = 10
_POLL_S = 0.2
_ANSWER_TIMEOUT_S = 5
_LOG_LINES_SHOWN = 15
_ADMIN_EMAIL = "admin@farmy.local"
_DATABASE = "label_studio.sqlite3"

# Label Studio's own guard against requests to internal addresses also closes loopback, where local object storage
# listens. These are its default closed ranges without 127.0.0.0/8 and ::1.
_CLOSED_SUBNETS = (
    "0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.0.2.0/24,192.88.99.0/24,"
    "192.168.0.0/16,198.18.0.0/15,198.51.100.0/24,203.0.113.0/24,224.0.0.0/4,233.252.0.0/24,240.0.0.0/4,"
    "255.255.255.255/32,::/128,::ffff:0:0/96,::ffff:0:0:0/96,64:ff9b::/96,64:ff9b:1::/48,100::/64,2001:0000::/32,"
    "2001:20::/28,2001:db8::/32,2002::/16,fc00::/7,fe80::/10,ff00::/8"
)

# Runs in Label Studio's interpreter. Standard input is a pipe that only we hold open: its end means that we are gone,
# however we went, and the server goes too.
_LAUNCHER = """
import os, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
sys.argv[0] = "label-studio"
from label_studio.server import main
sys.exit(main())
"""


@dataclass(frozen=True)
class LabelStudioCredentials:
    """The administrator of one home's server.

    Attributes:
        email: What the administrator signs in with.
        password: Made at random.
        token: For the HTTP API.
    """

    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True)
class RunningLabelStudio:
    """A server that answers.

    Attributes:
        url: Its address, without a slash at the end.
        pid: Its process.
        started_at: When the process started, seconds since the epoch: tells it from a later process of the same number.
    """

    url: str
    pid: int
    started_at: float


class LabelStudioServer:
    """Starts and stops the server of one home; a context manager that does both.

    The server ends when this process ends, also when this process is killed.

    Args:
        home: Farmy's home; the server keeps everything in its folder `label-studio`.
        command: The `label-studio` program in the environment that Label Studio is installed in.
        image_root: The folder below which pictures may be served; each project registers the sub-folder it needs.
        port: Port on loopback; None takes any free one.
        template_folder: Where the migrated, empty database is kept; by default `.template` in its environment.
        on_progress: Told in a sentence what is being waited for.
    """

    def __init__(
        self,
        home: Path,
        command: Path,
        image_root: Path,
        port: int | None = None,
        template_folder: Path | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self._folder = _get_folder(home)
        self._command = command.absolute()
        self._image_root = image_root.resolve()
        self._port = port
        self._template_folder = template_folder or self._command.parent.parent / ".template"
        self._report = on_progress or (lambda _sentence: None)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """Where the server's output goes; written anew at each start."""
        return self._folder / "label-studio.log"

    def __enter__(self) -> RunningLabelStudio:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> RunningLabelStudio:
        """Start the server and wait until it answers, up to 180 seconds beyond a first migration.

        Raises:
            SettingsError: The program is missing, the port is taken, or the home's server runs already.
            ServerStartError: The server ended, did not answer in time, or another process is just starting it.
        """
        if not self._command.is_file():
            raise SettingsError(
                f"Could not start Label Studio: there is no program {self._command}. Run `make setup` to install it."
            )
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _take_lock(self._folder)
        is_ready = False
        try:
            running = self._launch()
            is_ready = True
        finally:
            if not is_ready:
                self.stop()
        return running

    def stop(self) -> None:
        """End the server that this object started, if any, and wait for its end."""
        if self._process is not None:
            _end_group(self._process)
            self._process = None
            _get_state_path(self._folder).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _launch(self) -> RunningLabelStudio:
        port = _choose_port(self._port)
        credentials = _ensure_credentials(self._folder)
        self._ensure_database()
        self._report("Starting Label Studio")
        url = f"http://{HOST}:{port}"
        self._process = self._spawn(port, credentials)
        self._wait_until_it_answers(url, credentials.token)
        running = RunningLabelStudio(url, self._process.pid, psutil.Process(self._process.pid).create_time())
        _write_private(_get_state_path(self._folder), asdict(running))
        return running

    def _ensure_database(self) -> None:
        database = self._folder / "data" / _DATABASE
        if database.exists():
            return
        database.parent.mkdir(mode=0o700, exist_ok=True)
        template = _ensure_template(self._command, self._template_folder, self._report)
        partial = database.with_suffix(".partial")
        shutil.copyfile(template, partial)
        partial.chmod(0o600)
        partial.replace(database)

    def _spawn(self, port: int, credentials: LabelStudioCredentials) -> subprocess.Popen[bytes]:
        if self._lock is None:
            raise ServerStartError("Label Studio was asked to run without its lock. Call start() instead.")
        environment = _build_environment(self._folder / "data") | {
            "LABEL_STUDIO_USERNAME": credentials.email,
            "LABEL_STUDIO_PASSWORD": credentials.password,
            "LABEL_STUDIO_USER_TOKEN": credentials.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "LOCAL_FILES_SERVING_ENABLED": "true",
            "LOCAL_FILES_DOCUMENT_ROOT": str(self._image_root),
            "USE_DEFAULT_BANNED_SUBNETS": "false",
            "USER_ADDITIONAL_BANNED_SUBNETS": _CLOSED_SUBNETS,
        }
        arguments = ["start", "--no-browser", "--internal-host", HOST, "--port", str(port)]
        with _open_private(self.log_path) as log:
            return subprocess.Popen(  # noqa: S603 - our own program with arguments built here
                [_get_interpreter(self._command), "-c", _LAUNCHER, *arguments],
                env=environment,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The server holds the lock as well, so that its home stays taken should it outlive us.
                pass_fds=[self._lock.fileno()],
                start_new_session=True,
            )

    def _wait_until_it_answers(self, url: str, token: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise ServerStartError(self._describe_failure(url, "it ended at once"))
            # Asked with our token: Label Studio moves to another port when one is taken meanwhile, and whoever took it
            # must not be mistaken for the server.
            if _answers(f"{url}/api/current-user/whoami", token):
                return
            time.sleep(_POLL_S)
        raise ServerStartError(self._describe_failure(url, f"it did not answer within {START_TIMEOUT_S} seconds"))

    def _describe_failure(self, url: str, found: str) -> str:
        tail = self.log_path.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return (
            f"Could not start Label Studio on {url}: {found}. Try again; if it fails again, look into {self.log_path} "
            "and install it anew with `make clean setup`. Its last words:\n" + "\n".join(tail)
        )


def find_running(home: Path) -> RunningLabelStudio | None:
    """Return the server of this home if one runs and answers, whichever process started it."""
    state = _read_json(_get_state_path(_get_folder(home)))
    if state is None:
        return None
    running = RunningLabelStudio(**state)
    return running if _is_alive(running) and _answers(f"{running.url}/health") else None


def read_credentials(home: Path) -> LabelStudioCredentials:
    """Return the administrator of this home's server.

    Raises:
        SettingsError: No server was ever started for this home.
    """
    path = _get_credentials_path(_get_folder(home))
    stored = _read_json(path)
    if stored is None:
        raise SettingsError(f"Could not read Label Studio's credentials: there is no {path}. Start it with `farmy up`.")
    return LabelStudioCredentials(**stored)


def _get_folder(home: Path) -> Path:
    return home.resolve() / "label-studio"


def _get_credentials_path(folder: Path) -> Path:
    return folder / "credentials.json"


def _get_state_path(folder: Path) -> Path:
    return folder / "server.json"


def _get_interpreter(command: Path) -> str:
    return str(command.parent / "python")


def _take_lock(folder: Path) -> IO[bytes]:
    lock = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        running = find_running(folder.parent)
        if running is not None:
            raise SettingsError(
                f"Could not start Label Studio for {folder.parent}: one runs at {running.url}. Use it, or stop it."
            ) from error
        raise ServerStartError(
            f"Could not start Label Studio for {folder.parent}: another process is starting or stopping it. Try "
            "again in a minute."
        ) from error
    return lock


def _choose_port(wanted: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as error:
            raise SettingsError(
                f"Could not start Label Studio on {HOST}:{wanted}: the port is not free ({error.strerror}). "
                "Choose another with FARMY_LABEL_STUDIO_PORT, or end the program that has it."
            ) from error
        port: int = probe.getsockname()[1]
        return port


def _ensure_credentials(folder: Path) -> LabelStudioCredentials:
    path = _get_credentials_path(folder)
    stored = _read_json(path)
    if stored is None:
        stored = {"email": _ADMIN_EMAIL, "password": secrets.token_urlsafe(24), "token": secrets.token_hex(20)}
        _write_private(path, stored)
    return LabelStudioCredentials(**stored)


def _build_environment(data_folder: Path) -> dict[str, str]:
    """Return the server's whole environment: nothing is inherited, least of all our credentials."""
    return {
        "PATH": os.defpath,
        "HOME": str(data_folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_folder),
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _ensure_template(command: Path, folder: Path, report: Callable[[str], None]) -> Path:
    """Return a migrated database without users or secrets, made once for each version of Label Studio."""
    template = folder / f"{_read_version(command)}.sqlite3"
    folder.mkdir(parents=True, exist_ok=True)
    with _wait_for_lock(folder / "lock"):
        if not template.exists():
            report("Preparing Label Studio's database, once for this environment: about a minute")
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _migrate(command, Path(scratch))
                _let_readers_pass_writers(Path(scratch) / _DATABASE)
                (Path(scratch) / _DATABASE).replace(template)
    return template


def _read_version(command: Path) -> str:
    installed = sorted((command.parent.parent / "lib").glob("python*/site-packages/label_studio-*.dist-info"))
    if not installed:
        raise SettingsError(
            f"Could not find Label Studio in the environment of {command}. Run `make clean setup` to install it anew."
        )
    return installed[-1].name.removesuffix(".dist-info").removeprefix("label_studio-")


def _migrate(command: Path, data_folder: Path) -> None:
    # `version` brings the database up to date before it prints, and makes no user.
    finished = subprocess.run(  # noqa: S603 - our own program with constant arguments
        [str(command), "version"],
        env=_build_environment(data_folder),
        cwd=data_folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=MIGRATION_TIMEOUT_S,
        check=False,
    )
    if finished.returncode != 0:
        tail = finished.stdout.decode(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        raise ServerStartError(
            f"Could not prepare Label Studio's database with {command}: it ended with {finished.returncode}. "
            "Install it anew with `make clean setup`. Its last words:\n" + "\n".join(tail)
        )


def _let_readers_pass_writers(database: Path) -> None:
    # A property of the file, kept by copies: reading and answering at once no longer ends in "database is locked".
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def _wait_for_lock(path: Path) -> Iterator[None]:
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _answers(url: str, token: str | None = None) -> bool:
    headers = {"Authorization": f"Token {token}"} if token else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=_ANSWER_TIMEOUT_S) as response:  # noqa: S310 - loopback http
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def _is_alive(running: RunningLabelStudio) -> bool:
    try:
        started_at = psutil.Process(running.pid).create_time()
    except psutil.NoSuchProcess:
        return False
    # The clock that process start times are counted from may be corrected by a little.
    return abs(started_at - running.started_at) < 2


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _open_private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _write_private(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    with _open_private(partial) as file:
        file.write(json.dumps(content).encode())
    partial.replace(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return content
