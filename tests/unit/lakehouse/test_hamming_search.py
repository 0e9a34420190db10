import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.hamming_search import BAND_BITS, MAX_DISTANCE, HammingSearch

Integers = npt.NDArray[np.int64]


def flip(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value - 2**64 if value >= 2**63 else value


# Few centres and up to a dozen flips, so that many pairs are near and many just miss it.
near_hashes = st.builds(
    flip,
    st.sampled_from([0, 2**64 - 1, 0x0F0F0F0F0F0F0F0F]),
    st.lists(st.integers(0, 63), max_size=12, unique=True),
)


def as_array(values: list[int]) -> Integers:
    return np.array(values, np.int64)


def find_by_hand(probes: Integers, hashes: Integers, max_distance: int) -> set[tuple[int, int]]:
    differing = np.bitwise_count((hashes[:, None] ^ probes[None, :]).view(np.uint64))
    return {(int(place), int(probe)) for place, probe in np.argwhere(differing <= max_distance)}


def find(probes: Integers, hashes: Integers, max_distance: int) -> set[tuple[int, int]]:
    places, found = HammingSearch(probes, max_distance).find(hashes)
    return set(zip(places.tolist(), found.tolist(), strict=True))


@settings(max_examples=30, deadline=None)
@given(st.lists(near_hashes, max_size=20), st.lists(near_hashes, max_size=40), st.integers(0, MAX_DISTANCE))
def test_the_search_finds_what_comparing_all_with_all_finds(
    probes: list[int], hashes: list[int], max_distance: int
) -> None:
    given = as_array(probes), as_array(hashes), max_distance
    assert find(*given) == find_by_hand(*given)


@pytest.mark.parametrize("probe_count", [1, 40, 3000])
def test_the_search_is_exact_where_many_probes_share_their_band_values(probe_count: int) -> None:
    random = np.random.default_rng(probe_count)
    probes = random.integers(-(2**63), 2**63, probe_count, np.int64)
    flips = [random.choice(64, random.integers(0, 12), replace=False).tolist() for _ in range(2000)]
    near = [flip(int(random.choice(probes)) % 2**64, bits) for bits in flips]
    hashes = np.concatenate([as_array(near), random.integers(-(2**63), 2**63, 2000, np.int64)])
    found = find(probes, hashes, MAX_DISTANCE)
    assert found == find_by_hand(probes, hashes, MAX_DISTANCE)
    assert len(found) > 1000


@pytest.mark.parametrize("bits", [[0, 1, 2, 21, 22, 23, 42, 43], [20, 19, 41, 40, 39, 63, 62, 61], [63, 0]])
def test_bits_at_the_borders_of_the_bands_count_like_others(bits: list[int]) -> None:
    assert find(as_array([0]), as_array([flip(0, bits)]), MAX_DISTANCE) == {(0, 0)}


def test_the_same_hash_many_times_is_found_many_times() -> None:
    assert find(as_array([5]), as_array([5] * 1000), 0) == {(place, 0) for place in range(1000)}


@pytest.mark.parametrize("max_distance", [-1, MAX_DISTANCE + 1])
def test_a_distance_that_the_bands_do_not_reach_is_refused(max_distance: int) -> None:
    with pytest.raises(ValueError, match="exact for distances from 0 to 8"):
        HammingSearch(as_array([0]), max_distance)


def test_the_bands_hold_all_bits() -> None:
    assert sum(BAND_BITS) == 64
