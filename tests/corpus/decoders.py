"""What stands in for decoders that go wrong, called by worker processes in place of `cleanse_image`.

What each does follows from the bytes that it is given.
"""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from lakehouse.cleansing import CleansedImage
from lakehouse.quality import CleansingRecipe


def misbehave(data: bytes, _recipe: CleansingRecipe) -> CleansedImage:
    """Do what the first word of the data says, with the second, and answer with both if that could be survived."""
    word, _, argument = data.decode().partition(" ")
    return CleansedImage(failure="unsupported", camera_make=word, camera_model=str(_DEEDS[word](argument)))


def time_work(_data: bytes, _recipe: CleansingRecipe) -> CleansedImage:
    """Work for a while and answer with the times of its start and its end, seconds by the monotonic clock."""
    start = time.monotonic()
    time.sleep(0.3)
    return CleansedImage(failure="unsupported", brightness_mean=start, saturation_mean=time.monotonic())


def _hang_in_python(_argument: str) -> None:
    while True:
        pass


def _write_file(folder: str) -> None:
    with (Path(folder) / "written").open("wb") as file:
        file.write(b"something")


def _make_mistake(_argument: str) -> None:
    raise AttributeError("a mistake in a decoder")


_DEEDS: dict[str, Callable[[str], object]] = {
    "do_nothing": lambda _argument: None,
    "hang_in_c": lambda _argument: hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000),
    "hang_in_python": _hang_in_python,
    "sleep": lambda seconds: time.sleep(float(seconds)),
    "abort": lambda _argument: os.abort(),
    "be_killed": lambda _argument: os.kill(os.getpid(), signal.SIGKILL),
    "make_mistake": _make_mistake,
    "allocate": lambda size: len(bytearray(int(size))),
    "write_file": _write_file,
    "send": lambda answer: os.write(0, bytes.fromhex(answer)),
    "show_process": lambda _argument: os.getpid(),
    "show_environment": lambda _argument: " ".join(sorted(os.environ)),
    "show_folder": lambda _argument: Path.cwd(),
    # The names are those of descriptors, the last one that of the listing itself.
    "count_open_files": lambda _argument: len(os.listdir("/dev/fd")) - 1,  # noqa: PTH208
}
