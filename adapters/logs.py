"""Structured logs: one JSON object a line, with the run, day, asset and image that it is about, and without secrets.

Farmy's code logs to the loggers below `farmy`. `begin_logs` gives them their place, once in a process; what holds for
all lines of a block is bound by `log_context`.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from adapters.settings import Settings, list_secrets

LOGGER = logging.getLogger("farmy")
KEPT_DAYS = 30
_REDACTED = "[redacted]"
_PLAIN = int | float | None
_MIN_SECRET_CHARACTERS = 6
_SIGNATURES = re.compile(
    r"(?i)(\b(?:x-amz-(?:signature|credential|security-token)|signature|awsaccesskeyid)=)[^&\s\"'<>]+"
    r"|(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:bearer|token|basic)\s+)[^\s\"',]+"
    r"|(\b[a-z][a-z0-9+.-]*://)[^/\s\"'@]+@"
)
"""What lets its reader in: signatures of presigned addresses, authorization headers, passwords in addresses."""
_MARKS = frozenset("=:@")
"""Letters without which nothing of that is in a text."""
_FILE_NAMES = "farmy-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].jsonl"

_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))
_setting_up = threading.Lock()


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Have each line of the block say these values, too: `run_id`, `day`, `asset`, `image_id` and the like.

    Threads do not inherit them: what is given to one is wrapped in `contextvars.copy_context().run`.
    """
    token = _context.set({**_context.get(), **values})
    try:
        yield
    finally:
        _context.reset(token)


def begin_logs(settings: Settings) -> None:
    """Have this process log where the settings say; a second time changes nothing.

    Lines go to `<home>/logs/farmy-<UTC date>.jsonl`, which any number of processes append to, and files older than
    30 days are removed; or to standard error with `FARMY_LOG_TO=stderr`.
    """
    folder = settings.home / "logs" if settings.log_to == "files" else None
    with _setting_up:
        handler = next((each for each in LOGGER.handlers if isinstance(each, JsonLineHandler)), None)
        if handler is None or handler.folder != folder:
            if handler is not None:
                LOGGER.removeHandler(handler)
                handler.close()
            handler = JsonLineHandler(folder)
            LOGGER.addHandler(handler)
            LOGGER.setLevel(logging.INFO)
        handler.setFormatter(JsonLineFormatter(build_redactor(list_secrets(settings))))
    if folder is not None:
        _remove_old_files(folder, datetime.now(UTC).date())


def build_redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that puts `[redacted]` in the place of secrets in a text.

    Args:
        secrets: What must not be shown, also as it stands in an address; shorter than six characters it would be found
            everywhere, and is let be.
    """
    long_enough = {secret for secret in secrets if len(secret) >= _MIN_SECRET_CHARACTERS}
    spellings = {spelling for secret in long_enough for spelling in (secret, quote(secret), quote(secret, safe=""))}
    # The longest first: one may begin with another.
    known = re.compile("|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True)))

    def redact(text: str) -> str:
        shown = known.sub(_REDACTED, text) if spellings else text
        return _SIGNATURES.sub(_redact_match, shown) if not _MARKS.isdisjoint(shown) else shown

    return redact


def _redact_match(match: re.Match[str]) -> str:
    kept = next(group for group in match.groups() if group is not None)
    return kept + _REDACTED + ("@" if match[0].endswith("@") else "")


class JsonLineFormatter(logging.Formatter):
    """Makes a line of a record: `time`, `level`, `logger`, `message`, what is bound, `error_type`, `error_message`.

    Args:
        redact: Takes secrets out of a text.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON, without a line break."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage()),
        }
        for name, value in _context.get().items():
            line.setdefault(name, value if isinstance(value, _PLAIN) else self._encode(value))
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line |= {"error_type": type(error).__name__, "error_message": self._redact(str(error))}
        return json.dumps(line, ensure_ascii=False)

    def _encode(self, value: object) -> str:
        return value.isoformat() if isinstance(value, date) else self._redact(str(value))


class JsonLineHandler(logging.Handler):
    """Writes each line at once: to the file of its UTC day, or to standard error.

    Args:
        folder: Where the files are; None writes to standard error.
    """

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self.folder = folder
        self._file: int | None = None
        self._day: date | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what the file does not take, because the disk is full, goes to standard error."""
        line = f"{self.format(record)}\n"
        if self.folder is None:
            sys.stderr.write(line)
            return
        try:
            # One write to a file that is open for appending: lines of other processes come before or after it.
            os.write(self._open(self.folder, datetime.fromtimestamp(record.created, UTC).date()), _encode(line))
        except OSError:
            sys.stderr.write(line)

    def _open(self, folder: Path, day: date) -> int:
        if self._file is None or self._day != day:
            self._close_file()
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / _build_file_name(day), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._day = day
        return self._file

    def close(self) -> None:
        """Close the file."""
        with self.lock or threading.RLock():
            self._close_file()
        super().close()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _encode(line: str) -> bytes:
    # File names that are no text come as lone surrogates, which UTF-8 has no bytes for.
    return line.encode("utf-8", "replace")


def _build_file_name(day: date) -> str:
    return f"farmy-{day}.jsonl"


def _remove_old_files(folder: Path, today: date) -> None:
    oldest = _build_file_name(today - timedelta(days=KEPT_DAYS))
    for path in folder.glob(_FILE_NAMES):
        if path.name >= oldest:
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            LOGGER.warning("The old log %s cannot be removed: %s. Remove it by hand.", path, error.strerror)
