import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageFilter, ImageOps

from lakehouse.measures import CANONICAL_EDGE_PX, NEAR_ENOUGH, THUMBNAIL_EDGE_PX, Measures, Pixels, fit, measure
from samples.catalogue import load_photograph
from tests.unit.lakehouse.image_files import compare, encode

PHOTOGRAPHS = ("moose.webp", "coffee.webp", "raccoon.webp", "tiger.webp", "chelsea.webp")
RANGES = {
    "brightness_mean": 255,
    "contrast_std": 127.5,
    "entropy_bits": 8,
    "saturation_mean": 1,
    "detail_brightness": 255,
    "burnt_share": 1,
}


def measure_picture(picture: Image.Image) -> Measures:
    return measure(np.asarray(picture))[0]


def make_flat(value: int, width: int = 300, height: int = 200) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def expose(picture: Image.Image, factor: float) -> Image.Image:
    return picture.point(lambda value: min(255, int(value * factor)))


def is_rising(values: list[float]) -> bool:
    return all(before < after for before, after in pairwise(values))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_more_a_photograph_is_blurred_the_less_sharp_it_is(name: str) -> None:
    photograph = load_photograph(name)
    blurred = [photograph, *(photograph.filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 2, 4))]
    assert is_rising([measure_picture(picture).edge_sharpness for picture in reversed(blurred)])


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_blur_in_one_direction_is_blur(name: str) -> None:
    photograph = load_photograph(name)
    across = photograph.resize((photograph.width // 12, photograph.height)).resize(photograph.size)
    sharp, moved = measure_picture(photograph).edge_sharpness, measure_picture(across).edge_sharpness
    assert moved < 0.75 * sharp
    turned = across.transpose(Image.Transpose.ROTATE_90)
    assert measure_picture(turned).edge_sharpness == pytest.approx(moved, rel=0.1)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_sharpness_hardly_depends_on_the_exposure(name: str) -> None:
    photograph = load_photograph(name)
    darker = measure_picture(expose(photograph, 0.4)).edge_sharpness
    assert darker == pytest.approx(measure_picture(photograph).edge_sharpness, rel=0.15)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_less_light_there_is_the_darker_a_photograph_is(name: str) -> None:
    measures = [measure_picture(expose(load_photograph(name), factor)) for factor in (0.05, 0.2, 0.5, 1)]
    assert is_rising([each.detail_brightness for each in measures])
    assert is_rising([each.brightness_mean for each in measures])


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_more_a_photograph_is_overexposed_the_more_is_burnt_out(name: str) -> None:
    measures = [measure_picture(expose(load_photograph(name), factor)) for factor in (1, 1.5, 2.5, 5)]
    assert is_rising([each.burnt_share for each in measures])


@pytest.mark.parametrize("name", ["moose.webp", "raccoon.webp", "tiger.webp"])
@pytest.mark.parametrize("factor", [2, 3])
def test_measures_do_not_depend_on_how_large_the_original_is(name: str, factor: int) -> None:
    photograph = load_photograph(name)
    larger = photograph.resize((factor * photograph.width, factor * photograph.height), Image.Resampling.BICUBIC)
    measures, expected = measure_picture(larger), measure_picture(photograph)
    for measured, limit in RANGES.items():
        assert getattr(measures, measured) == pytest.approx(getattr(expected, measured), abs=0.04 * limit)
    assert measures.edge_sharpness == pytest.approx(expected.edge_sharpness, rel=0.15)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_measures_do_not_depend_on_how_a_photograph_is_turned(name: str) -> None:
    photograph = load_photograph(name)
    expected = measure_picture(photograph)
    for turned in (
        ImageOps.mirror(photograph),
        ImageOps.flip(photograph),
        photograph.transpose(Image.Transpose.ROTATE_90),
    ):
        measures = measure_picture(turned)
        for measured, limit in RANGES.items():
            assert getattr(measures, measured) == pytest.approx(getattr(expected, measured), abs=0.05 * limit)
        assert measures.edge_sharpness == pytest.approx(expected.edge_sharpness, rel=0.05)


@pytest.mark.parametrize("value", [0, 64, 128, 250, 255])
def test_a_picture_of_one_colour_is_as_bright_as_that_and_has_nothing_else(value: int) -> None:
    measures, _ = measure(make_flat(value))
    assert (measures.brightness_mean, measures.detail_brightness) == (value, value)
    nothing = (measures.contrast_std, measures.entropy_bits, measures.saturation_mean, measures.edge_sharpness)
    assert nothing == (0, 0, 0, 0)
    assert measures.perceptual_hash is None


def test_white_paper_is_not_burnt_out() -> None:
    assert measure(make_flat(255))[0].burnt_share == 0


def test_half_black_and_half_white_is_all_the_contrast_there_is_and_one_bit() -> None:
    pixels = make_flat(0)
    pixels[:, 150:] = 255
    measures, _ = measure(pixels)
    assert measures.contrast_std == pytest.approx(127.5, abs=0.1)
    assert measures.entropy_bits == pytest.approx(1, abs=0.05)


def test_noise_of_all_greys_is_eight_bits() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 1), np.uint8).repeat(3, axis=2)
    assert measure(noise)[0].entropy_bits == pytest.approx(8, abs=0.05)


@pytest.mark.parametrize(("colour", "saturation"), [("red", 1), ("lime", 1), ("grey", 0), ("#ff8080", 0.5)])
def test_saturation_is_that_of_the_colour(colour: str, saturation: float) -> None:
    assert measure_picture(Image.new("RGB", (200, 200), colour)).saturation_mean == pytest.approx(saturation, abs=0.01)


def test_luma_weighs_green_most_and_blue_least() -> None:
    means = [measure_picture(Image.new("RGB", (99, 99), colour)).brightness_mean for colour in ("blue", "red", "lime")]
    assert means == pytest.approx([29, 76, 150], abs=0.5)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24).map(lambda shape: (*shape, 3))))
def test_whatever_the_pixels_are_every_measure_is_within_its_range(pixels: Pixels) -> None:
    measures, thumbnail = measure(pixels)
    for measured, limit in RANGES.items():
        assert 0 <= getattr(measures, measured) <= limit + 1e-9, measured
    assert math.isfinite(measures.edge_sharpness)
    assert measures.edge_sharpness >= 0
    hashes = {measures.perceptual_hash, measures.detail_hash, measures.strength_hash}
    assert hashes == {None} or all(number is not None and -(2**63) <= number < 2**63 for number in hashes)
    assert np.array_equal(thumbnail, pixels)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 4000)).flatmap(st.permutations),
    st.integers(1, 600),
)
def test_what_is_fitted_is_never_enlarged_and_never_vanishes(edges: list[int], wanted: int) -> None:
    fitted = fit(np.zeros((*edges, 3), np.uint8), wanted)
    assert min(fitted.shape[:2]) >= 1
    assert max(fitted.shape[:2]) <= wanted
    assert max(fitted.shape[:2]) >= min(max(edges), int(NEAR_ENOUGH * wanted))
    assert fitted.shape[0] <= edges[0]
    assert fitted.shape[1] <= edges[1]


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((4000, 3000), (500, 375)),
        ((4096, 2048), (512, 256)),
        ((600, 400), (512, 341)),
        ((512, 512), (512, 512)),
        ((525, 400), (512, 390)),
        ((1000, 400), (500, 200)),
        ((300, 200), (300, 200)),
    ],
)
def test_what_halving_alone_nearly_brings_to_the_edge_will_do_and_no_edge_is_longer(
    size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    pixels = fit(make_flat(9, *size), CANONICAL_EDGE_PX)
    assert (pixels.shape[1], pixels.shape[0]) == fitted


def test_the_thumbnail_shows_the_picture() -> None:
    photograph = load_photograph("moose.webp")
    thumbnail = measure(np.asarray(photograph))[1]
    shown = Image.fromarray(thumbnail)
    assert max(shown.size) == THUMBNAIL_EDGE_PX
    assert compare(encode(shown, "PNG"), photograph.resize(shown.size, Image.Resampling.BOX)) < 2
