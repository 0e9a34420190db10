import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from lakehouse.perceptual_hash import LumaHashes, build_luma_hashes, hash_luma

Luma = npt.NDArray[np.uint8]


def make_luma(seed: int = 0, edge: int = 256) -> Luma:
    coarse = np.random.default_rng(seed).integers(40, 200, (8, 8), np.uint8)
    return np.kron(coarse, np.ones((edge // 8, edge // 8), np.uint8))


def hash_all(luma: Luma) -> LumaHashes:
    hashes = build_luma_hashes(luma)
    assert hashes is not None
    return hashes


def count_differing_bits(one: int, other: int) -> int:
    return ((one ^ other) & (2**64 - 1)).bit_count()


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=300)))
def test_every_luma_plane_is_plain_or_has_hashes_that_a_bigint_holds(luma: Luma) -> None:
    hashes = build_luma_hashes(luma)
    assert all(-(2**63) <= value < 2**63 for value in hashes or ())
    assert build_luma_hashes(luma.copy()) == hashes
    assert hashes is None or hashes.perceptual_hash == hash_luma(luma)


@pytest.mark.parametrize("seed", range(5))
def test_nearly_as_many_frequencies_are_strong_as_weak(seed: int) -> None:
    assert 30 <= count_differing_bits(hash_all(make_luma(seed)).strength_hash, 0) <= 32


@pytest.mark.parametrize("change", ["brighter", "less contrast", "smaller", "noisy"])
def test_a_picture_that_looks_the_same_is_near(change: str) -> None:
    luma = make_luma()
    changed = {
        "brighter": luma + 20,
        "less contrast": (luma * 0.7 + 30).astype(np.uint8),
        "smaller": luma[::2, ::2],
        "noisy": (luma + np.random.default_rng(1).integers(0, 9, luma.shape)).astype(np.uint8),
    }[change]
    for one, other in zip(hash_all(luma), hash_all(changed), strict=True):
        assert count_differing_bits(one, other) <= 4


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("seed", range(5))
def test_a_picture_that_lost_a_fiftieth_at_one_side_is_near(seed: int, side: str) -> None:
    luma = make_luma(seed, 512)
    kept = {"left": luma[:, 10:], "right": luma[:, :-10], "top": luma[10:], "bottom": luma[:-10]}[side]
    whole, part = hash_all(luma), hash_all(kept)
    distances = [count_differing_bits(one, other) for one, other in zip(whole, part, strict=True)]
    assert distances[0] <= 8
    assert distances[1] + distances[2] <= 20


def test_different_pictures_are_far_by_every_hash() -> None:
    values = [hash_all(make_luma(seed)) for seed in range(20)]
    for one, other in itertools.combinations(values, 2):
        assert min(count_differing_bits(*pair) for pair in zip(one, other, strict=True)) > 12


def test_a_picture_and_its_mirror_image_are_far() -> None:
    luma = make_luma()
    assert count_differing_bits(hash_luma(luma), hash_luma(np.ascontiguousarray(luma[:, ::-1]))) > 16


@pytest.mark.parametrize("level", [0, 7, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (341, 512), (512, 512), (1000, 3)])
def test_a_plane_of_one_level_is_plain(level: int, shape: tuple[int, int]) -> None:
    assert build_luma_hashes(np.full(shape, level, np.uint8)) is None


def test_noise_alone_does_not_make_a_plane_other_than_plain() -> None:
    noise = np.random.default_rng(0).normal(128, 8, (384, 512))
    assert build_luma_hashes(noise.astype(np.uint8)) is None


def test_a_faint_gradient_is_not_plain() -> None:
    gradient = np.tile(np.linspace(120, 130, 512), (384, 1)).astype(np.uint8)
    assert build_luma_hashes(gradient) is not None


def test_what_lies_along_the_very_border_decides_nothing() -> None:
    framed = make_luma(edge=512)
    plain = framed.copy()
    framed[:4], framed[-4:], framed[:, :4], framed[:, -4:] = 0, 255, 0, 255
    assert count_differing_bits(hash_luma(framed), hash_luma(plain)) <= 2
