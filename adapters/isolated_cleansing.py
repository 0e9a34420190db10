"""Cleansing where a crash, a hang or a greedy decoder costs one verdict: plain JPEGs here, the rest in other processes.

What a worker does belongs to `adapters.cleansing_worker`, what cleansing means to `lakehouse.cleansing`. The limits
stop accidents and denial of service and keep secrets away; they are no jail for code that took a worker over.
"""

import atexit
import json
import math
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

import simplejpeg

from adapters.cleansing_worker import PICTURES, WALL_FACTOR, Cleanse, receive_frame, send_frame
from lakehouse.cleansing import CleansedImage, cleanse_image, is_plain_jpeg
from lakehouse.decoding import sniff_format
from lakehouse.errors import ServerStartError
from lakehouse.measures import THUMBNAIL_EDGE_PX
from lakehouse.quality import FAILURES, CleansingRecipe

_START_TIMEOUT_S = 60
_ATTEMPTS = 2
"""A worker may be killed by others, for example by a system short of memory: an image is tried once more."""

_PIXELS_AT_ONCE = 16_000_000
"""Of all images that workers decode at the same time; a larger image is decoded alone. Most formats take 4 to 9 bytes a
pixel, those that count twice 11 to 15."""
_COUNTED_TWICE = frozenset({"webp", "avif"})
_HEADER_BYTES = 65_536
_MAX_TEXT_BYTES = 1_000
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

# Runs in the worker's interpreter, which sees the modules that its parent sees and nothing of its environment.
_LAUNCHER = """
import json, sys
path, function, recipe = json.loads(sys.argv[1])
sys.path[:] = path
from adapters.cleansing_worker import serve
from lakehouse.quality import CleansingRecipe
serve(function, CleansingRecipe(**recipe))
"""


class IsolatedCleansing:
    """Cleanses images, those that are not plain JPEGs in worker processes; a context manager that ends them.

    Workers are started when they are needed and kept. They end when this process ends, however it ends.

    Args:
        recipe: How to cleanse, with the limits on memory and time of one image.
        workers: How many processes there may be, 60 to 100 MB each.
        cleanse: What workers call: a function at the top of a module that they can import.
    """

    def __init__(self, recipe: CleansingRecipe, workers: int, cleanse: Cleanse = cleanse_image) -> None:
        self._recipe = recipe
        self._workers = [_Worker(recipe, cleanse) for _ in range(workers)]
        # The last one used comes first, so that no more are started than work at once.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._pixels = _Allowance(_PIXELS_AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def cleanse(self, data: bytes) -> CleansedImage:
        """Cleanse one image; any number of threads may do so at once.

        Returns:
            What `lakehouse.cleansing.cleanse_image` returns. An image that takes more processor time than it may fails
            as `too_slow`, one that ends two workers as `decoder_crash`.

        Raises:
            ServerStartError: No worker could be started.
        """
        # What is too large is refused by its size alone, and is not sent anywhere for that.
        if len(data) > self._recipe.max_bytes or is_plain_jpeg(data, self._recipe):
            return cleanse_image(data, self._recipe)
        pixels = _estimate_pixels(data)
        with self._pixels.take(pixels):
            worker = self._idle.get()
            is_large = pixels > _PIXELS_AT_ONCE
            try:
                if is_large:
                    self._stop_idle()
                return worker.cleanse(data)
            finally:
                if is_large:
                    # What it took does not go back to the system otherwise.
                    worker.stop()
                self._idle.put(worker)

    def _stop_idle(self) -> None:
        """End the workers that have nothing to do, for the sake of the memory that they hold."""
        idle = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for worker in idle:
            worker.stop()
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers, once those at work are done; the next image would start them anew."""
        workers = [self._idle.get() for _ in self._workers]
        for worker in workers:
            worker.stop()
            self._idle.put(worker)


class _Allowance:
    """So much of something that several threads may have at once; who wants more than there is has it alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Wait until the amount is free, or nothing is taken, and give it back at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + amount <= self._limit)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()


_instances: dict[tuple[int, CleansingRecipe], IsolatedCleansing] = {}


def cleanse_isolated(data: bytes, recipe: CleansingRecipe) -> CleansedImage:
    """Cleanse one image with workers that this process keeps for the recipe until it ends.

    Raises:
        ServerStartError: No worker could be started.
    """
    # The process belongs to the key because a fork must not speak with the workers of its parent. There is no lock,
    # which a fork might inherit locked: an instance that loses the race has started nothing.
    key = (os.getpid(), recipe)
    isolated = _instances.get(key) or _instances.setdefault(key, IsolatedCleansing(recipe, _count_workers()))
    return isolated.cleanse(data)


def _count_workers() -> int:
    return min(os.cpu_count() or 1, 4)


@atexit.register
def _close_instances() -> None:
    for (process_id, _), isolated in _instances.items():
        if process_id == os.getpid():
            isolated.close()


class _WorkerEndedError(Exception):
    """A worker had to be given up over an image. Never leaves this module."""

    def __init__(self, failure: str, *, may_be_foreign: bool) -> None:
        super().__init__(failure)
        self.failure = failure
        self.may_be_foreign = may_be_foreign


class _Worker:
    """One worker process after the other, started when needed; used by one thread at a time."""

    def __init__(self, recipe: CleansingRecipe, cleanse: Cleanse) -> None:
        self._recipe = recipe
        self._function = f"{cleanse.__module__}:{cleanse.__qualname__}"
        self._max_answer_bytes = recipe.max_bytes + 3 * recipe.standard_edge_px**2
        self._process: _Process | None = None

    def cleanse(self, data: bytes) -> CleansedImage:
        """Cleanse in the process; in a fresh one if that fails for a reason that the image may not have given."""
        failure = ""
        for _ in range(_ATTEMPTS):
            try:
                return self._ask(data)
            except _WorkerEndedError as ended:
                failure = ended.failure
                if not ended.may_be_foreign:
                    break
        return CleansedImage(failure=failure)

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.end()
        self._process = None

    def _ask(self, data: bytes) -> CleansedImage:
        process = self._take_process()
        deadline = time.monotonic() + WALL_FACTOR * self._recipe.max_seconds
        try:
            send_frame(process.channel, {}, [data], deadline)
            header, body = receive_frame(process.channel, self._max_answer_bytes, deadline)
            image = parse_answer(header, body, self._recipe)
            self._process = process
        except TimeoutError as error:
            raise _WorkerEndedError("too_slow", may_be_foreign=True) from error
        except (OSError, EOFError, ValueError) as error:
            is_out_of_time = process.end() == -signal.SIGPROF
            failure = "too_slow" if is_out_of_time else "decoder_crash"
            raise _WorkerEndedError(failure, may_be_foreign=not is_out_of_time) from error
        finally:
            if self._process is None:
                process.end()
        return image

    def _take_process(self) -> "_Process":
        """Take the process out, so that after Ctrl-C nobody mistakes its answer for that to another image."""
        process = self._process
        self._process = None
        if process is not None and process.is_alive():
            return process
        if process is not None:
            process.end()
        return _Process(self._recipe, self._function)


class _Process:
    """A running worker process and our end of the socket to it."""

    def __init__(self, recipe: CleansingRecipe, function: str) -> None:
        argument = json.dumps([[str(Path(entry).resolve()) for entry in sys.path], function, asdict(recipe)])
        self.channel, theirs = socket.socketpair()
        with theirs:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own interpreter with arguments built here
                [sys.executable, "-I", "-c", _LAUNCHER, argument],
                env=_build_environment(),
                cwd="/",
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                # Ctrl-C in a terminal is ours to handle.
                start_new_session=True,
            )
        try:
            receive_frame(self.channel, 0, time.monotonic() + _START_TIMEOUT_S)
        except (OSError, EOFError, ValueError) as error:
            self.end()
            raise ServerStartError(
                f"Could not start a process for decoding images with {sys.executable}: {error}. See what it wrote to "
                "standard error; if a module is missing there, install Farmy anew, else try again."
            ) from error

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> int:
        """Kill the process, which has nothing to lose, and return how it ended."""
        self.channel.close()
        self._process.kill()
        return self._process.wait()


def _build_environment() -> dict[str, str]:
    """Return the worker's whole environment: nothing is inherited but where libraries are, least of all credentials."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "16000000",
        "MALLOC_TRIM_THRESHOLD_": "32000000",
    }


def parse_answer(header: dict[str, Any], body: bytes, recipe: CleansingRecipe) -> CleansedImage:
    """Return the image that a worker's answer describes, believing nothing that was not checked.

    Args:
        header: As `facts` the fields of `CleansedImage` but the pictures, times as ISO 8601; as `standard_bytes` the
            size of the standard image.
        body: The standard image, then the thumbnail; empty if the image failed.
        recipe: What the worker was to do.

    Raises:
        ValueError: This is no answer of a sound worker.
    """
    facts, standard_bytes = header.get("facts"), header.get("standard_bytes")
    types_by_name = _list_fact_types()
    if not isinstance(facts, dict) or facts.keys() != types_by_name.keys() or type(standard_bytes) is not int:
        raise ValueError(f"an answer of the form {sorted(header)}")
    checked: dict[str, Any] = {name: _parse_fact(name, facts[name], types) for name, types in types_by_name.items()}
    if checked["failure"] is not None:
        if checked["failure"] not in FAILURES or body:
            raise ValueError(f"the failure {checked['failure']} with {len(body)} bytes of pictures")
        return CleansedImage(**checked)
    if not 0 < standard_bytes < len(body):
        raise ValueError(f"a standard image of {standard_bytes} out of {len(body)} bytes")
    standard, thumbnail = body[:standard_bytes], body[standard_bytes:]
    _check_picture(standard, recipe.standard_edge_px)
    _check_picture(thumbnail, THUMBNAIL_EDGE_PX)
    return CleansedImage(**checked, standard_jpeg=standard, thumbnail_jpeg=thumbnail)


def _check_picture(jpeg: bytes, edge_px: int) -> None:
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg, strict=True)
    if not jpeg.endswith(b"\xff\xd9") or max(height, width) > edge_px:
        raise ValueError(f"a picture of {width} by {height} px in {len(jpeg)} bytes where {edge_px} px are the most")


@cache
def _list_fact_types() -> dict[str, tuple[type, ...]]:
    hints = typing.get_type_hints(CleansedImage)
    return {name: typing.get_args(hint) or (hint,) for name, hint in hints.items() if name not in PICTURES}


def _parse_fact(name: str, value: object, types: tuple[type, ...]) -> object:
    if datetime in types and isinstance(value, str):
        return datetime.fromisoformat(value)
    is_sound = type(value) in types
    if isinstance(value, int):
        is_sound &= abs(value) < 2**63
    elif isinstance(value, float):
        is_sound &= math.isfinite(value)
    elif isinstance(value, str):
        # What cannot be encoded raises a ValueError too.
        is_sound &= len(value.encode()) <= _MAX_TEXT_BYTES
    if not is_sound:
        raise ValueError(f"{name} is {value!r:.100}")
    return value


def _estimate_pixels(data: bytes) -> int:
    """Return about how many pixels decoding will hold, to be counted against those of other images.

    A hint, from the header or from the size of the file where the header is not so simple: an image that lies about its
    size is still held by its worker's limit.
    """
    name = sniff_format(data)
    read_size = _SIZE_READERS.get(name or "")
    if read_size is None:
        return len(data)
    width, height = read_size(data[:_HEADER_BYTES].ljust(_HEADER_BYTES, b"\0"))
    return width * height * (2 if name in _COUNTED_TWICE else 1)


def _read_heif_size(start: bytes) -> tuple[int, int]:
    # One box tells the size of the image, others those of its tiles (ISO/IEC 23008-12, 6.5.3).
    sizes = [struct.unpack(">II", size) for size in re.findall(rb"ispe.{4}(.{8})", start, re.DOTALL)]
    return max(sizes, default=(0, 0))


def _read_webp_size(start: bytes) -> tuple[int, int]:
    # RFC 9649, 2.5 to 2.7.
    if start[12:16] == b"VP8X":
        return int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1
    if start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return bits % 2**14 + 1, (bits >> 14) % 2**14 + 1
    width, height = struct.unpack_from("<HH", start, 26)
    return width % 2**14, height % 2**14


_SIZE_READERS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "png": lambda start: struct.unpack_from(">II", start, 16),
    "gif": lambda start: struct.unpack_from("<HH", start, 6),
    "bmp": lambda start: struct.unpack_from("<II", start, 18),
    "webp": _read_webp_size,
    "heic": _read_heif_size,
    "avif": _read_heif_size,
}
"""What reads width and height out of the start of a file, by format."""
