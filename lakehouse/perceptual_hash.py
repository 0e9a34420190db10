"""A 64-bit perceptual hash and its bands.

The hash tells which of the 8x8 lowest frequencies of the discrete cosine transform of the 32x32 luma are above their
median (Zauner, 2010: "Implementation and Benchmarking of Perceptual Image Hash Functions"). Two images are nearly equal
when few bits differ. The bands split the bits 21, 21 and 22: hashes at a distance of at most 8 differ by at most 2 bits
in one of the three, which makes an exact search a join instead of a scan.
"""

import itertools

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

BAND_BITS = (21, 21, 22)
"""Width of each band, from the lowest bit up."""


def hash_luma(luma: npt.NDArray[np.uint8]) -> int:
    """Return the hash of an upright luma plane, as a signed 64-bit integer.

    Args:
        luma: Height x width, 0 to 255.
    """
    small = cv2.resize(luma, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    frequencies = cv2.dct(small)[:8, :8].ravel()
    bits = np.packbits(frequencies > np.median(frequencies))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def split_bands(hashes: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return the three bands of each hash (int64) as int32 arrays."""
    values = hashes.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    bands = []
    shift = 0
    for bits in BAND_BITS:
        bands.append(pa.array(((values >> np.uint64(shift)) & np.uint64((1 << bits) - 1)).astype(np.int32)))
        shift += bits
    return bands[0], bands[1], bands[2]


def list_flips(width_bits: int, max_flips: int) -> npt.NDArray[np.int32]:
    """Return the masks that flip at most `max_flips` of a band's bits, the empty one first."""
    masks = [
        sum(1 << bit for bit in bits)
        for count in range(max_flips + 1)
        for bits in itertools.combinations(range(width_bits), count)
    ]
    return np.array(masks, np.int32)
