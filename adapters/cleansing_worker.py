"""A process that cleanses images whose decoders may crash, hang or eat memory: its whole life, and how it is spoken to.

`adapters.isolated_cleansing` starts it with one end of a socket pair as standard input. Both sides speak in frames: two
lengths, a JSON header, raw bytes. Nothing is pickled: a worker that was taken over through a broken decoder could make
its parent run code with that. What it answers is believed only after a check, which belongs to the parent.
"""

import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse.cleansing import CleansedImage
from lakehouse.quality import CleansingRecipe

Cleanse = Callable[[bytes, CleansingRecipe], CleansedImage]

PICTURES = ("standard_jpeg", "thumbnail_jpeg")
"""The fields of `CleansedImage` that follow the header, in their order."""

WALL_FACTOR = 6
"""An image may take this many times its CPU seconds by the clock: a busy machine must not become a verdict."""

_LENGTHS = struct.Struct(">II")
_MAX_HEADER_BYTES = 65_536
_MAX_OPEN_FILES = 32
_ORPHAN_CHECK_S = 10


def send_frame(
    channel: socket.socket, header: dict[str, Any], blobs: Sequence[bytes] = (), deadline: float | None = None
) -> None:
    """Send a header and bytes.

    Args:
        channel: The socket, used by nobody else meanwhile.
        header: Plain values.
        blobs: What follows the header; its parts are told apart by the header alone.
        deadline: By `time.monotonic()`; None waits for ever.

    Raises:
        TimeoutError: The deadline has passed.
        OSError: The other side is gone.
    """
    text = json.dumps(header).encode()
    lengths = _LENGTHS.pack(len(text), sum(len(blob) for blob in blobs))
    for part in (lengths + text, *blobs):
        _limit_wait(channel, deadline)
        channel.sendall(part)


def receive_frame(
    channel: socket.socket, max_body_bytes: int, deadline: float | None = None
) -> tuple[dict[str, Any], bytes]:
    """Receive a header and bytes.

    Args:
        channel: The socket, used by nobody else meanwhile.
        max_body_bytes: More are refused before they are read.
        deadline: By `time.monotonic()`; None waits for ever.

    Raises:
        EOFError: The other side is gone.
        TimeoutError: The deadline has passed.
        OSError: The other side is gone.
        ValueError: This is no frame, or too large a one.
    """
    header_bytes, body_bytes = _LENGTHS.unpack(_receive(channel, _LENGTHS.size, deadline))
    if header_bytes > _MAX_HEADER_BYTES or body_bytes > max_body_bytes:
        raise ValueError(f"a frame of {header_bytes} and {body_bytes} bytes where {max_body_bytes} are the most")
    try:
        header = json.loads(_receive(channel, header_bytes, deadline))
    except RecursionError as error:
        raise ValueError("a header nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError(f"a header that is a {type(header).__name__}")  # noqa: TRY004 - a matter of content
    return header, _receive(channel, body_bytes, deadline)


def _receive(channel: socket.socket, size: int, deadline: float | None) -> bytes:
    received = bytearray(size)
    rest = memoryview(received)
    while rest:
        _limit_wait(channel, deadline)
        count = channel.recv_into(rest)
        if count == 0:
            raise EOFError("it has ended")
        rest = rest[count:]
    return bytes(received)


def _limit_wait(channel: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("it does not answer in time")
    channel.settimeout(left_s)


def serve(function: str, recipe: CleansingRecipe) -> None:
    """Answer requests from standard input until the parent is gone; what a new worker process calls.

    Args:
        function: What cleanses, as `module:name`.
        recipe: Its recipe, and the worker's limits.
    """
    channel = socket.socket(fileno=0)
    parent_id = os.getppid()
    module, name = function.split(":")
    cleanse: Cleanse = getattr(importlib.import_module(module), name)
    _limit_this_process(recipe.max_memory_mb)
    send_frame(channel, {"ready": True})
    _silence()
    while _wait_for_request(channel, parent_id):
        try:
            _, data = receive_frame(channel, recipe.max_bytes)
        except EOFError:
            return
        _answer(channel, _cleanse_in_time(cleanse, data, recipe))


def _limit_this_process(max_memory_mb: int) -> None:
    # A parent may have blocked or ignored what is to end this process.
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGPROF, signal.SIGALRM))
    _lower_limit(resource.RLIMIT_CORE, 0)
    _lower_limit(resource.RLIMIT_FSIZE, 0)
    _lower_limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    # Elsewhere the system either lacks this limit or does not keep it.
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower_limit(resource.RLIMIT_AS, pages * resource.getpagesize() + max_memory_mb * 1_000_000)


def _lower_limit(kind: int, most: int) -> None:
    _, allowed = resource.getrlimit(kind)
    lowered = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
    resource.setrlimit(kind, (lowered, lowered))


def _silence() -> None:
    # Decoders write what they think of a file to standard error. Until here it showed why a worker could not start.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _wait_for_request(channel: socket.socket, parent_id: int) -> bool:
    """Wait until there is something to read; False once the parent is gone.

    A dead parent is usually read as the end of the input, but not while a fork of it holds the other end open.
    """
    while not select.select([channel], [], [], _ORPHAN_CHECK_S)[0]:
        if os.getppid() != parent_id:
            return False
    return True


def _cleanse_in_time(cleanse: Cleanse, data: bytes, recipe: CleansingRecipe) -> CleansedImage:
    # Nothing handles these signals, so that they end the process inside a decoder as well. The second is for decoders
    # that sleep while no parent is left to end them.
    signal.setitimer(signal.ITIMER_PROF, recipe.max_seconds)
    signal.setitimer(signal.ITIMER_REAL, 2 * WALL_FACTOR * recipe.max_seconds)
    try:
        return cleanse(data, recipe)
    except MemoryError:
        return CleansedImage(failure="too_large")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(channel: socket.socket, image: CleansedImage) -> None:
    facts = {field.name: getattr(image, field.name) for field in fields(image) if field.name not in PICTURES}
    texts = {name: value.isoformat() for name, value in facts.items() if isinstance(value, datetime)}
    standard, thumbnail = image.standard_jpeg or b"", image.thumbnail_jpeg or b""
    send_frame(channel, {"facts": facts | texts, "standard_bytes": len(standard)}, [standard, thumbnail])
