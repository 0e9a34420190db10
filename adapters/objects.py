"""Objects by key: a folder on one machine, a bucket on S3, through obstore.

Keys are relative to the root and never begin with a slash. Objects of the pipeline are written once, with a create-only
put, and never changed.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from lakehouse.arrivals import ObjectFact
from lakehouse.errors import AccessRefusedError, NotFoundError, SettingsError, StorageError

if TYPE_CHECKING:
    from obstore.store import RetryConfig

# obstore's own ten repeats over three minutes would hold a run, and whoever watches it, for that long.
_MAX_REPEATS = 5
_REPEATED_FOR = timedelta(seconds=30)
_RETRIES: "RetryConfig" = {"max_retries": _MAX_REPEATS, "retry_timeout": _REPEATED_FOR}
_FIRST_PAUSE_S = 0.1
_REFUSED_STATUS = re.compile("status code: 40[13]")

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNFINISHED = re.compile(r"#\d+$")
"""How obstore names a file while it writes it."""
_NO_KEY = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and bytes that are not UTF-8."""


@dataclass(frozen=True)
class FetchedObject:
    """An object's bytes and what it was when they were read.

    Attributes:
        fact: What a listing would have said of it then.
        data: Its bytes; None if it was larger than asked for.
    """

    fact: ObjectFact
    data: bytes | None


class Objects:
    """Reads, creates, lists and deletes objects.

    Attributes:
        root: Address of the root: a folder's path or `s3://bucket/prefix`.
        folder: The folder, when the objects live in one.
    """

    def __init__(self, store: ObjectStore, root: str, folder: Path | None = None) -> None:
        self._store = store
        self.root = root
        self.folder = folder

    @classmethod
    def in_folder(cls, folder: Path) -> "Objects":
        """Open a folder, which is made if it does not exist.

        Raises:
            StorageError: If it cannot be made or read.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            next(folder.iterdir(), None)
        except OSError as error:
            raise StorageError(
                f"Cannot use the folder {folder} for objects: {error.strerror}. Set FARMY_HOME or FARMY_OBJECTS to a "
                "folder that you can read and write."
            ) from error
        return cls(LocalStore(folder), str(folder), folder)

    @classmethod
    def in_bucket(cls, address: str, *, endpoint: str | None = None, region: str = "us-east-1") -> "Objects":
        """Open `s3://bucket[/prefix]`; credentials, and Amazon's region, come from the usual AWS_* environment.

        Args:
            address: Bucket and optional prefix.
            endpoint: Another S3 than Amazon's, as `http://host:port`.
            region: What that other S3 calls its region.
        """
        bucket, _, prefix = address.removeprefix("s3://").strip("/").partition("/")
        if endpoint is None:
            store = S3Store(bucket, prefix=prefix or None, retry_config=_RETRIES)
        else:
            store = S3Store(
                bucket,
                prefix=prefix or None,
                endpoint=endpoint,
                region=region,
                virtual_hosted_style_request=False,
                retry_config=_RETRIES,
                client_options={"allow_http": endpoint.startswith("http://")},
            )
        return cls(store, f"s3://{bucket}/{prefix}".rstrip("/"))

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        """The bucket, and where in it the root is: empty for the bucket itself.

        Raises:
            SettingsError: If the objects live in a folder.
        """
        if self.folder is not None:
            raise SettingsError(f"{self.root} is a folder and no bucket: set FARMY_OBJECTS to s3://bucket/prefix.")
        bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
        return bucket, prefix

    def read(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            NotFoundError: If there is no such object.
            StorageError: If it cannot be read.
        """
        with _translated_errors("read", key, self.root):
            return bytes(obstore.get(self._store, key).bytes())

    def fetch(self, key: str, max_bytes: int) -> FetchedObject:
        """Return an object's bytes with its size and LastModified, all of one version of it.

        Args:
            key: The object.
            max_bytes: Of a larger object nothing is read.

        Raises:
            NotFoundError: If there is no such object.
            AccessRefusedError: If it may not be read.
            StorageError: If it cannot be read.
        """
        with _translated_errors("read", key, self.root):
            found = obstore.get(self._store, key)
            meta = found.meta
            fact = ObjectFact(key, self._round_time(meta["last_modified"]), meta["size"])
            return FetchedObject(fact, bytes(found.bytes()) if fact.size_bytes <= max_bytes else None)

    def exists(self, key: str) -> bool:
        """Tell whether there is an object of that key."""
        try:
            with _translated_errors("look up", key, self.root):
                obstore.head(self._store, key)
        except NotFoundError:
            return False
        return True

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless one of that key exists; tell whether it was written.

        False is no proof that somebody else wrote it: where the answer to a put is lost, its repetition finds the
        object that the first one made.

        Raises:
            StorageError: If it cannot be written.
        """
        try:
            with _translated_errors("write", key, self.root):
                _repeat(lambda: obstore.put(self._store, key, data, mode="create", use_multipart=False))
        except AlreadyExistsError:
            return False
        return True

    def list(self, prefix: str) -> list[ObjectFact]:
        """Return the objects below a prefix, which ends in a slash, by key.

        A file whose name no key can hold is passed over with a warning, so that it does not hide the others.
        """
        facts: list[ObjectFact] = []
        with _translated_errors("list", prefix, self.root):
            if self.folder is not None:
                facts += _list_files(self.folder, prefix)
            else:
                facts += [
                    ObjectFact(meta["path"], self._round_time(meta["last_modified"]), meta["size"])
                    for meta in _repeat(lambda: obstore.list(self._store, prefix=prefix).collect())
                ]
        return sorted(facts, key=lambda fact: fact.key)

    def _round_time(self, moment: datetime) -> datetime:
        """Return a LastModified as every answer gives it: those of a bucket differ below the second."""
        return moment if self.folder is not None else moment.replace(microsecond=0)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Yield the prefixes one level below a prefix, each ending in a slash; costs one listing with a delimiter."""
        with _translated_errors("list", prefix, self.root):
            found = _repeat(lambda: obstore.list_with_delimiter(self._store, prefix=prefix))
            for folder in sorted(found["common_prefixes"]):
                yield f"{folder.rstrip('/')}/"

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are passed over."""
        for key in keys:
            try:
                with _translated_errors("delete", key, self.root):
                    _repeat(partial(obstore.delete, self._store, key))
            except NotFoundError:
                continue


def _list_files(folder: Path, prefix: str) -> Iterator[ObjectFact]:
    """List a folder ourselves: obstore gives up the whole listing at one name that it cannot address."""
    for parent, _, names in os.walk(folder / prefix, onerror=_raise_unless_missing):
        for name in names:
            path = Path(parent, name)
            key = path.relative_to(folder).as_posix()
            if _UNFINISHED.search(name):
                continue
            if _NO_KEY.search(key):
                _log.warning(
                    "The file %r cannot be taken in: rename it, its name has characters that no key holds.", key
                )
                continue
            with suppress(FileNotFoundError):  # deleted since
                facts = path.stat()
                yield ObjectFact(key, _EPOCH + timedelta(microseconds=facts.st_mtime_ns // 1000), facts.st_size)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _repeat(call: Callable[[], Result]) -> Result:
    """Call again, as often as obstore would, where a connection broke in a call that obstore does not repeat.

    It repeats reads, and whatever is answered with an error of the server; but a put on condition, a deletion and the
    body of a listing it gives up at once. None of ours does harm twice.
    """
    started = time.monotonic()
    for pause in range(_MAX_REPEATS):
        try:
            return call()
        except BaseError as error:
            if not _was_cut_off(error) or time.monotonic() - started > _REPEATED_FOR.total_seconds():
                raise
            time.sleep(_FIRST_PAUSE_S * 2**pause)
    return call()


def _was_cut_off(error: BaseError) -> bool:
    """Tell whether a connection broke, and obstore has not repeated the call as often as it may."""
    return "HTTP error" in str(error) and f"after {_MAX_REPEATS} retries" not in str(error)


@contextmanager
def _translated_errors(action: str, key: str, root: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no object {key} in {root}.") from error
    except AlreadyExistsError:
        raise
    except (BaseError, OSError, ValueError) as error:  # ValueError: a key that no store can hold, such as a/../b
        if _is_refusal(error):
            raise AccessRefusedError(
                f"May not {action} {key} in {root}: {str(error).splitlines()[0]}. Grant that, or see whose credentials "
                "are in the environment; then run again: nothing was lost."
            ) from error
        raise StorageError(
            f"Could not {action} {key} in {root}: {str(error).splitlines()[0]}. Check that the place exists, has room, "
            f"and that you may {action} there; then run again: nothing was lost."
        ) from error


def _is_refusal(error: Exception) -> bool:
    """Tell whether the place lets somebody else do it; of a refused listing obstore says so in its words alone."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return True
    return isinstance(error, BaseError) and _REFUSED_STATUS.search(str(error)) is not None
