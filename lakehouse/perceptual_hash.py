"""Perceptual hashes: three 64-bit numbers by which pictures that look the same are found and told from others.

They follow from the lowest frequencies of the discrete cosine transform of luma, as in Zauner, 2010 ("Implementation
and Benchmarking of Perceptual Image Hash Functions"), with two changes: luma fades out towards its borders, where a
crop takes something away, and the frequencies are taken in zigzag order without the mean instead of from a square. Two
pictures are nearly equal when few bits differ; `lakehouse.near_duplicates` says how few.
"""

import itertools
from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

_BITS = 64
_FADED_SHARE = 0.2
"""Share of the width, and of the height, over which luma fades out at either side."""
_HALVED_FROM_PX = 256
_PLAIN_BELOW = 1.0
"""Grey levels."""
_ZERO = 1e-3
"""Grey levels: above what single precision makes of an exact zero, so that it never decides a bit."""

Floats = npt.NDArray[np.float32]


class LumaHashes(NamedTuple):
    """The hashes of one picture, as signed 64-bit integers.

    Attributes:
        perceptual_hash: Which of the 64 lowest frequencies are positive. This one is searched.
        detail_hash: Which of the next 64 frequencies are positive.
        strength_hash: Which of the 64 lowest frequencies are stronger, of either sign, than their median.
    """

    perceptual_hash: int
    detail_hash: int
    strength_hash: int


def hash_luma(luma: npt.NDArray[np.uint8]) -> int:
    """Return the perceptual hash alone of an upright luma plane, of a plain one, too.

    Args:
        luma: Height x width, 0 to 255.
    """
    return _pack(_measure_frequencies(luma)[:_BITS] > _ZERO)


def build_luma_hashes(luma: npt.NDArray[np.uint8]) -> LumaHashes | None:
    """Return the hashes of an upright luma plane; None if it is so plain that noise would decide.

    Plain is a plane whose 64 lowest frequencies together are weaker than one grey level, root mean square: a blank
    page, a covered lens, a clear sky. Nothing tells one from another, so they are near duplicates of nothing.

    Args:
        luma: Height x width, 0 to 255.
    """
    frequencies = _measure_frequencies(luma)
    lowest, following = frequencies[:_BITS], frequencies[_BITS:]
    strengths = np.abs(lowest)
    if float(np.linalg.norm(lowest)) < _PLAIN_BELOW:
        return None
    return LumaHashes(
        perceptual_hash=_pack(lowest > _ZERO),
        detail_hash=_pack(following > _ZERO),
        strength_hash=_pack(strengths > np.median(strengths) + _ZERO),
    )


def _measure_frequencies(luma: npt.NDArray[np.uint8]) -> Floats:
    """Return the 128 lowest frequencies of the faded luma in zigzag order, in grey levels."""
    rows, columns = _list_zigzag()
    small = _halve(luma)
    down, across = _build_waves(small.shape[0]), _build_waves(small.shape[1])
    spectrum = down @ small.astype(np.float32) @ across.T
    # What the same luma everywhere would give: taken away, so that fading a bright picture out is no frequency of it.
    even = np.outer(down.sum(axis=1), across.sum(axis=1))
    return np.asarray((spectrum - spectrum[0, 0] / even[0, 0] * even)[rows, columns], np.float32)


def _halve(luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the plane, halved until its longest edge is less than 256 px, which all the frequencies fit in.

    A strip that is one pixel thin stays as it is.
    """
    while max(luma.shape) >= _HALVED_FROM_PX and min(luma.shape) > 1:
        height, width = luma.shape[0] // 2, luma.shape[1] // 2
        luma = cv2.resize(luma[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return luma


@lru_cache(maxsize=512)
def _build_waves(length: int) -> Floats:
    """Return waves x length: the faded cosines (DCT-II) that the zigzag reaches, the mean square of each about 1."""
    position = (np.arange(length) + 0.5) / length
    from_border = np.minimum(position, 1 - position) / _FADED_SHARE
    window = np.where(from_border < 1, 0.5 - 0.5 * np.cos(np.pi * from_border), 1.0)
    numbers = np.arange(max(map(max, _list_zigzag())) + 1)
    waves = np.cos(np.pi * np.outer(numbers, position)) * np.where(numbers, np.sqrt(2), 1)[:, None]
    return np.asarray(waves * window / length, np.float32)


@cache
def _list_zigzag() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return row and column of 128 frequencies, by their sum and then by row, without the mean at (0, 0)."""
    places = sorted(itertools.product(range(2 * _BITS), repeat=2), key=lambda place: (sum(place), place))
    rows, columns = np.array(places[1 : 2 * _BITS + 1]).T
    return rows, columns


def _pack(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)
