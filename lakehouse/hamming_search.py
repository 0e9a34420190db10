"""Which of many 64-bit hashes are within 8 bits of one of a few: exact, without an index of the many.

The bits are split in three bands. Hashes that differ by at most 8 bits differ by at most 2 in one band, so a hash is
near a probe only if one of its bands is that of the probe with at most 2 bits flipped. All these values are marked in
one table per band; most hashes are ruled out by three look-ups, the others are compared bit by bit. The idea is that of
Norouzi, Punjani and Fleet, 2012 ("Fast Search in Hamming Space with Multi-Index Hashing"), turned around: the few are
indexed, and the many stream by.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BAND_BITS = (21, 21, 22)
"""Width of each band, from the lowest bit up."""
MAX_DISTANCE = 8

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Band:
    """The probes by the values that one of their bands may take within the distance.

    Attributes:
        shift: Its lowest bit.
        mask: Its bits, once shifted.
        marks: By value, a bit that tells whether any probe may take it: eight to a byte, so that the table stays in the
            processor's cache.
        start: By marked value, where its probes begin in `probes`.
        probes: Positions of probes, those of one value side by side.
        has_next: Beside each of `probes`, whether the next one is of the same value.
    """

    shift: int
    mask: int
    marks: npt.NDArray[np.uint8]
    start: npt.NDArray[np.int32]
    probes: npt.NDArray[np.int32]
    has_next: npt.NDArray[np.bool_]


class HammingSearch:
    """Finds what is near a set of probes.

    Args:
        probes: The hashes to look for; different ones, or the search repeats itself.
        max_distance: Bits in which a hash may differ from a probe, 0 to 8.

    Raises:
        ValueError: If the distance is not one for which three bands are exact.
    """

    def __init__(self, probes: Integers, max_distance: int) -> None:
        if not 0 <= max_distance <= MAX_DISTANCE:
            raise ValueError(
                f"cannot search within {max_distance} bits: three bands are exact for distances from 0 to "
                f"{MAX_DISTANCE}; give one of these"
            )
        self._probes = probes
        self._max_distance = max_distance
        shifts = itertools.accumulate(BAND_BITS[:-1], initial=0)
        self._bands = [
            _mark_band(probes, shift, width, max_distance // len(BAND_BITS))
            for shift, width in zip(shifts, BAND_BITS, strict=True)
        ]

    def find(self, hashes: Integers) -> tuple[Integers, Integers]:
        """Return the positions of all hashes near a probe, and beside each the position of that probe.

        A pair that agrees in several bands is returned as often. A hundred thousand hashes at a time are fastest.
        """
        pairs = [self._find_by_band(hashes, band) for band in self._bands]
        places, probes = zip(*pairs, strict=True)
        return np.concatenate(places), np.concatenate(probes)

    def _find_by_band(self, hashes: Integers, band: _Band) -> tuple[Integers, Integers]:
        places = _list_marked(hashes, band)
        candidates = hashes[places]
        at = band.start[(candidates >> band.shift) & band.mask]
        found_places, found_probes = [], []
        while len(places):
            probes = band.probes[at]
            differing = np.bitwise_count((candidates ^ self._probes[probes]).view(np.uint64))
            is_near = differing <= self._max_distance
            found_places.append(places[is_near])
            found_probes.append(probes[is_near])
            goes_on = band.has_next[at]
            places, candidates, at = places[goes_on], candidates[goes_on], at[goes_on] + 1
        nothing = np.empty(0, np.int64)
        return np.concatenate([nothing, *found_places]), np.concatenate([nothing, *found_probes])


def _list_marked(hashes: Integers, band: _Band) -> Integers:
    octets = hashes >> (band.shift + 3)
    octets &= band.mask >> 3
    # The mask keeps them within the table: spared its own check, NumPy is faster by a third.
    marks = band.marks.take(octets, mode="clip")
    marks >>= (hashes >> band.shift).astype(np.uint8) & np.uint8(7)
    return np.flatnonzero((marks & np.uint8(1)).view(np.bool_))


def _mark_band(probes: Integers, shift: int, width: int, max_flips: int) -> _Band:
    mask = (1 << width) - 1
    flips = _list_flips(width, max_flips)
    unsorted = (((probes >> shift) & mask).astype(np.int32)[:, None] ^ flips).ravel()
    order = np.argsort(unsorted)
    values = unsorted[order]
    is_first = np.append(True, values[1:] != values[:-1])[: len(values)]
    is_marked = np.zeros(1 << width, np.bool_)
    is_marked[values] = True
    start = np.zeros(1 << width, np.int32)
    start[values[is_first]] = np.flatnonzero(is_first)
    return _Band(
        shift=shift,
        mask=mask,
        marks=np.packbits(is_marked, bitorder="little"),
        start=start,
        probes=(order // len(flips)).astype(np.int32),
        has_next=np.append(~is_first[1:], False)[: len(values)],
    )


def _list_flips(width: int, max_flips: int) -> npt.NDArray[np.int32]:
    """Return the masks that flip at most `max_flips` bits of a band."""
    masks = [
        sum(1 << bit for bit in bits)
        for count in range(max_flips + 1)
        for bits in itertools.combinations(range(width), count)
    ]
    return np.array(masks, np.int32)
