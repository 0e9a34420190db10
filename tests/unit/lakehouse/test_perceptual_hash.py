import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lakehouse.perceptual_hash import BAND_BITS, hash_luma, list_flips, split_bands

hashes = st.integers(-(2**63), 2**63 - 1)


def make_luma(seed: int = 0, edge: int = 256) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    coarse = np.random.default_rng(seed).integers(40, 200, (8, 8), np.uint8)
    return np.kron(coarse, np.ones((edge // 8, edge // 8), np.uint8))


def count_differing_bits(one: int, other: int) -> int:
    return ((one ^ other) & (2**64 - 1)).bit_count()


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70)))
def test_every_luma_plane_has_a_hash_that_a_bigint_holds(luma: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
    value = hash_luma(luma)
    assert -(2**63) <= value < 2**63
    assert hash_luma(luma) == value


def test_half_of_the_bits_are_set_for_a_picture_with_content() -> None:
    assert count_differing_bits(hash_luma(make_luma()), 0) == 32


@pytest.mark.parametrize("change", ["brighter", "less contrast", "smaller", "noisy"])
def test_a_picture_that_looks_the_same_is_near(change: str) -> None:
    luma = make_luma()
    changed = {
        "brighter": luma + 20,
        "less contrast": (luma * 0.7 + 30).astype(np.uint8),
        "smaller": luma[::2, ::2],
        "noisy": (luma + np.random.default_rng(1).integers(0, 9, luma.shape)).astype(np.uint8),
    }[change]
    assert count_differing_bits(hash_luma(luma), hash_luma(changed)) <= 4


def test_different_pictures_are_far() -> None:
    values = [hash_luma(make_luma(seed)) for seed in range(20)]
    assert min(count_differing_bits(one, other) for one, other in itertools.combinations(values, 2)) > 8


@given(st.lists(hashes))
def test_the_bands_hold_every_bit_of_the_hash_once(values: list[int]) -> None:
    low, middle, high = (band.to_pylist() for band in split_bands(pa.array(values, pa.int64())))
    joined = [
        a | b << BAND_BITS[0] | c << (BAND_BITS[0] + BAND_BITS[1]) for a, b, c in zip(low, middle, high, strict=True)
    ]
    assert joined == [value % 2**64 for value in values]


def test_the_bands_are_as_wide_as_said_and_fit_an_int32() -> None:
    bands = split_bands(pa.array([-1], pa.int64()))
    assert [band.to_pylist() for band in bands] == [[2**21 - 1], [2**21 - 1], [2**22 - 1]]
    assert {str(band.type) for band in bands} == {"int32"}
    assert sum(BAND_BITS) == 64


@pytest.mark.parametrize(("width", "flips", "count"), [(21, 0, 1), (21, 1, 22), (21, 2, 232), (22, 2, 254)])
def test_all_flips_are_listed_once_the_empty_one_first(width: int, flips: int, count: int) -> None:
    masks = list_flips(width, flips).tolist()
    assert masks[0] == 0
    assert len(set(masks)) == len(masks) == count
    assert all(mask.bit_count() <= flips and mask < 2**width for mask in masks)


@given(hashes, st.sets(st.integers(0, 63), max_size=8))
def test_hashes_at_a_distance_of_at_most_8_share_a_band_up_to_two_flips(value: int, flipped: set[int]) -> None:
    other = value % 2**64
    for bit in flipped:
        other ^= 1 << bit
    signed = other - 2**64 if other >= 2**63 else other
    pairs = [band.to_pylist() for band in split_bands(pa.array([value, signed], pa.int64()))]
    assert any((one ^ two).bit_count() <= 2 for one, two in pairs)
