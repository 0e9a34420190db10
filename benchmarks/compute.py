"""How well threads fill the cores while storage is slow: decodes alone, and decodes of what a slow storage gives.

`python -m benchmarks.compute`, also with `--json`. The storage is simulated: each read waits as a distant bucket does.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg

from adapters.compute import ThreadCompute
from benchmarks.results import Result, run_benchmarks

_WORKERS = 2
_RUNS = 5
_IMAGES = 60
_READ_S = 0.05
_SIZE_PX = (2048, 1536)


def measure_compute(images: Path | None) -> list[Result]:
    """Measure what waiting for storage costs.

    Args:
        images: Folder whose first file, a JPEG, is decoded again and again; a picture made here if not given.
    """
    data = _make_jpeg() if images is None else min(images.iterdir()).read_bytes()
    alone, slow, waiting = [], [], []
    for _ in range(_RUNS):
        alone.append(_measure_wall(lambda: ThreadCompute(_WORKERS).map(_decode, [data] * _IMAGES)))
        slow.append(_measure_wall(partial(_pipe_from_slow_storage, data)))
        waiting.append(_measure_wall(lambda: ThreadCompute(_WORKERS).map(_read_and_decode, [data] * _IMAGES)))
    overlapped, in_turn = _divide(slow, alone), _divide(waiting, alone)
    return [
        Result("reads of 50 ms overlapped with decodes, against decodes alone", "times", overlapped, at_most=1.1),
        Result("the same one after the other on each thread", "times", in_turn),
    ]


def _pipe_from_slow_storage(data: bytes) -> Iterator[int]:
    return ThreadCompute(_WORKERS).pipe(
        [data] * _IMAGES, read=_wait, work=_decode, write=lambda _, height_px: height_px, size_bytes=len
    )


def _wait(data: bytes) -> bytes:
    time.sleep(_READ_S)
    return data


def _decode(data: bytes) -> int:
    return int(simplejpeg.decode_jpeg(data, colorspace="RGB").shape[0])


def _read_and_decode(data: bytes) -> int:
    return _decode(_wait(data))


def _make_jpeg() -> bytes:
    """Return a grainy picture of 3 megapixels; decoding it takes about 20 ms."""
    width, height = _SIZE_PX
    rng = np.random.default_rng(0)
    fields = rng.integers(40, 200, (height // 64, width // 64, 3), np.uint8).repeat(64, axis=0).repeat(64, axis=1)
    grain = rng.integers(0, 48, (height, width, 1), np.uint8)
    return bytes(simplejpeg.encode_jpeg(fields + grain, quality=90, colorspace="RGB", colorsubsampling="420"))


def _measure_wall(begin: Callable[[], Iterator[int]]) -> float:
    start = time.perf_counter()
    for _ in begin():
        pass
    return time.perf_counter() - start


def _divide(dividends: list[float], divisors: list[float]) -> tuple[float, ...]:
    return tuple(dividend / divisor for dividend, divisor in zip(dividends, divisors, strict=True))


if __name__ == "__main__":
    run_benchmarks("Compute", [measure_compute])
