import random

import cv2
import numpy as np
import pytest

from benchmarks import flaws
from benchmarks.flaws import _VARIANTS, FLAWS, _load_source
from samples.catalogue import read_credits


@pytest.fixture(scope="module")
def source() -> flaws._Source:
    return _load_source("coffee.webp")


def test_each_flaw_has_at_least_120_flawed_and_120_sound_pictures() -> None:
    photographs = len(read_credits())
    for flaw in FLAWS:
        kinds = [is_flawed for is_flawed, _ in _VARIANTS[flaw].values()]
        assert photographs * kinds.count(True) >= 120
        assert photographs * kinds.count(False) >= 120


def test_every_variant_is_light_of_a_picture_and_the_same_for_the_same_dice(source: flaws._Source) -> None:
    for variants in _VARIANTS.values():
        for _, make in variants.values():
            light = make(source, random.Random(1))
            assert light.ndim == 3
            assert light.dtype == np.float32
            assert light.min() >= -1e-6
            assert np.array_equal(light, make(source, random.Random(1)))


@pytest.mark.parametrize("blur", [flaws._blur_gaussian, flaws._blur_defocus, flaws._blur_motion])
def test_blur_takes_edges_and_keeps_light(blur: flaws._Variant, source: flaws._Source) -> None:
    blurred = blur(source, random.Random(1))
    assert blurred.mean() == pytest.approx(source.light.mean(), rel=0.02)
    assert _measure_edges(blurred) < 0.5 * _measure_edges(source.light)


def test_overexposure_burns_at_least_a_quarter_and_a_mild_lift_hardly_anything(source: flaws._Source) -> None:
    was_whole = source.light.max(axis=2) < flaws._BURNT
    burnt = flaws._brighten(source, random.Random(1)).max(axis=2) >= flaws._BURNT
    lifted = flaws._lift_mildly(source, random.Random(1)).max(axis=2) >= flaws._BURNT
    assert burnt[was_whole].mean() >= flaws._MUCH_BURNT - 0.005
    assert lifted[was_whole].mean() <= flaws._LITTLE_BURNT + 0.005


def test_a_lit_picture_at_night_has_a_part_as_bright_as_by_day_and_an_underexposed_one_has_none(
    source: flaws._Source,
) -> None:
    share_as_by_day = {
        make: (make(source, random.Random(1)) > 0.8 * source.light).all(axis=2).mean()
        for make in (flaws._turn_to_night, flaws._light_low_key, flaws._darken)
    }
    assert list(share_as_by_day.values()) == [pytest.approx(0.05, abs=0.049), pytest.approx(0.05, abs=0.049), 0]


def test_a_subject_without_a_mask_cannot_be_laid_anywhere(source: flaws._Source) -> None:
    with pytest.raises(ValueError, match="its photograph has no mask"):
        flaws._lay(source.light, None, source.light, 1.0)


def _measure_edges(light: flaws.Plane) -> float:
    return float(cv2.Laplacian(light, cv2.CV_32F).var())
