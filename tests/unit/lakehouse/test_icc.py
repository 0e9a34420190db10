import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms

from lakehouse.icc import is_srgb
from tests.unit.lakehouse.image_files import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    write_gamma,
    write_grey_profile,
    write_profile,
    write_rgb_profile,
    write_srgb_curve,
    write_srgb_table,
)

CURVES = {"parameters": write_srgb_curve(), "a table": write_srgb_table()}


def write_parameters(function: int, *values: float) -> bytes:
    fixed = [max(-(2**31), min(2**31 - 1, round(65536 * value))) for value in values]
    return b"para" + bytes(4) + struct.pack(f">HH{len(fixed)}i", function, 0, *fixed)


@pytest.mark.parametrize("name", ["sRGB IEC61966-2.1", "c2", "Adobe RGB (1998)", ""])
@pytest.mark.parametrize("curve", CURVES)
def test_srgb_is_known_by_its_colours_under_any_name(curve: str, name: str) -> None:
    assert is_srgb(write_rgb_profile(SRGB, CURVES[curve], name))


def test_the_profile_that_littlecms_makes_is_srgb() -> None:
    assert is_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


@pytest.mark.parametrize("error", [-0.0005, 0.0005])
def test_primaries_are_srgb_up_to_their_third_digit(error: float) -> None:
    red, *others = SRGB
    assert is_srgb(write_rgb_profile(((red[0] + error, *red[1:]), *others), write_srgb_curve()))
    assert not is_srgb(write_rgb_profile(((red[0] + 20 * error, *red[1:]), *others), write_srgb_curve()))


@pytest.mark.parametrize(
    "profile",
    [
        write_rgb_profile(DISPLAY_P3, write_srgb_curve(), "sRGB"),
        write_rgb_profile(ADOBE_RGB, write_gamma(2.2), "sRGB"),
        write_rgb_profile(ADOBE_RGB, write_srgb_curve(), "sRGB"),
        write_rgb_profile(SRGB, write_gamma(1.0), "sRGB"),
        write_rgb_profile(SRGB, write_gamma(1.8), "sRGB"),
        write_rgb_profile((SRGB[1], SRGB[0], SRGB[2]), write_srgb_curve(), "sRGB"),
        write_grey_profile(2.2),
        write_profile(b"RGB ", {}),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    ],
    ids=["Display P3", "Adobe RGB", "its primaries", "linear", "gamma 1.8", "swapped", "grey", "nothing", "Lab"],
)
def test_what_is_only_called_srgb_is_not(profile: bytes) -> None:
    assert not is_srgb(profile)


def test_a_profile_with_a_table_of_its_own_is_left_to_others() -> None:
    curve = write_srgb_curve()
    tags = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    colours = {
        name: b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in xyz))
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), SRGB, strict=True)
    }
    assert is_srgb(write_profile(b"RGB ", tags | colours))
    assert not is_srgb(write_profile(b"RGB ", tags | colours | {b"A2B0": b"mft2"}))
    assert not is_srgb(write_profile(b"CMYK", tags | colours))


@pytest.mark.parametrize(
    "curve",
    [
        b"",
        b"curv",
        b"curv" + bytes(8),
        b"curv" + bytes(4) + b"\xff\xff\xff\xff",
        write_parameters(0, -1),
        write_parameters(0, 32_767),
        write_parameters(3, 32_000, 32_000, 32_000, 0, 0),
        write_parameters(3, -2.4, -1, 0, 1, 0),
        write_parameters(3, 2.4),
        write_parameters(4, 2.4, 1, 0, 0.1, 0.1, 0, 0),
        write_parameters(999),
    ],
)
def test_curves_that_mean_nothing_are_not_srgb(curve: bytes) -> None:
    assert not is_srgb(write_rgb_profile(SRGB, curve))


@given(st.binary(max_size=400))
def test_no_bytes_at_all_raise(profile: bytes) -> None:
    assert not is_srgb(profile)


@given(
    st.sampled_from(list(CURVES.values())),
    st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    st.integers(0, 3000),
)
def test_no_damage_to_a_real_profile_raises(curve: bytes, changes: list[tuple[int, bytes]], end: int) -> None:
    damaged = bytearray(write_rgb_profile(SRGB, curve))
    for position, written in changes:
        damaged[position : position + len(written)] = written
    assert is_srgb(bytes(damaged[:end])) in {True, False}
