"""Damaged files, the same ones for the same seed: sound images with bits flipped, bytes moved, lengths changed."""

import random
import zlib
from collections.abc import Callable
from functools import cache

from tests.corpus.seeds import SEEDS

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32_767, 32_768, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
"""Where counting goes wrong, if it does."""


def mutate(seed: int, number: int) -> tuple[str, bytes]:
    """Return a damaged file and the name of the image that it was, in turn each of `SEEDS`.

    Args:
        seed: Of the whole series.
        number: Of the file within the series.
    """
    chance = random.Random(f"{seed} {number}")
    names = sorted(SEEDS)
    name = names[number % len(names)]
    data = bytearray(_make_seed(name))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(_MUTATIONS)(chance, data)
    if data.startswith(b"\x89PNG") and chance.random() < 0.8:
        _mend_checksums(data)
    return name, bytes(data)


@cache
def _make_seed(name: str) -> bytes:
    return SEEDS[name]()


def _mend_checksums(data: bytearray) -> None:
    """Make the chunks of a PNG sound again, for a wrong checksum would keep its damage from the decoder."""
    start = 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[start + 4 : end]).to_bytes(4, "big")
        start = end + 4


def _choose_place(chance: random.Random, data: bytearray) -> int:
    """Return a place in the data, half of the time in what is likely to be its header."""
    end = min(len(data), 512) if chance.random() < 0.5 else len(data)
    return chance.randrange(max(1, end))


def _choose_slice(chance: random.Random, data: bytearray) -> slice:
    start = _choose_place(chance, data)
    return slice(start, start + chance.choice((1, 2, 4, 16, 64, 512)))


def _flip_bits(chance: random.Random, data: bytearray) -> None:
    for _ in range(min(len(data), chance.choice((1, 2, 8, 32)))):
        data[_choose_place(chance, data)] ^= 1 << chance.randrange(8)


def _overwrite(chance: random.Random, data: bytearray) -> None:
    place = _choose_slice(chance, data)
    size = len(data[place])
    data[place] = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))


def _truncate(chance: random.Random, data: bytearray) -> None:
    del data[_choose_place(chance, data) :]


def _insert(chance: random.Random, data: bytearray) -> None:
    place = _choose_place(chance, data)
    data[place:place] = chance.choice((data[_choose_slice(chance, data)], chance.randbytes(chance.randrange(1, 64))))


def _delete(chance: random.Random, data: bytearray) -> None:
    del data[_choose_slice(chance, data)]


def _swap(chance: random.Random, data: bytearray) -> None:
    first, second = _choose_slice(chance, data), _choose_slice(chance, data)
    data[first], data[second] = data[second], data[first]


def _change_number(chance: random.Random, data: bytearray) -> None:
    place = _choose_place(chance, data)
    size = chance.choice((1, 2, 4))
    number = chance.choice(_NUMBERS) % 256**size
    data[place : place + size] = number.to_bytes(size, chance.choice(("big", "little")))


def _join_another(chance: random.Random, data: bytearray) -> None:
    """Go on in the middle of another image."""
    other = _make_seed(chance.choice(sorted(SEEDS)))
    data[_choose_place(chance, data) :] = other[chance.randrange(len(other)) :]


_MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip_bits,
    _flip_bits,
    _overwrite,
    _truncate,
    _insert,
    _delete,
    _swap,
    _change_number,
    _change_number,
    _join_another,
)
