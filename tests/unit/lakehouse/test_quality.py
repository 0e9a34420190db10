from dataclasses import FrozenInstanceError, fields
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.quality import (
    CLEAN,
    FAILURES,
    REJECTED,
    SUSPECT,
    CleansingRecipe,
    Limits,
    QualitySettings,
    RejectedLimits,
    SuspectLimits,
    judge,
)

GOOD: dict[str, Any] = {
    "failure": None,
    "decoder_warning": None,
    "width_px": 4000,
    "height_px": 3000,
    "brightness_mean": 120.0,
    "contrast_std": 50.0,
    "entropy_bits": 7.0,
    "saturation_mean": 0.4,
    "edge_sharpness": 0.5,
    "detail_brightness": 180.0,
    "burnt_share": 0.01,
}
OPEN = Limits()
"""Lets everything pass."""
Facts = dict[str, Any]
FAULTS: dict[str, tuple[str, float, Facts, Facts]] = {
    "too_small": ("min_edge_px", 100, {"width_px": 100}, {"width_px": 99}),
    "too_narrow": ("max_aspect_ratio", 4, {"width_px": 12_000}, {"width_px": 12_001}),
    "dark": ("min_brightness", 60, {"detail_brightness": 60.0}, {"detail_brightness": 59.9}),
    "bright": ("max_burnt", 0.3, {"burnt_share": 0.3}, {"burnt_share": 0.31}),
    "low_contrast": ("min_contrast", 9, {"contrast_std": 9.0}, {"contrast_std": 8.9}),
    "low_entropy": ("min_entropy", 2, {"entropy_bits": 2.0}, {"entropy_bits": 1.9}),
    "colourless": ("min_saturation", 0.1, {"saturation_mean": 0.1}, {"saturation_mean": 0.09}),
    "blurred": ("min_sharpness", 0.3, {"edge_sharpness": 0.3}, {"edge_sharpness": 0.29}),
}
"""By reason, plainest first: the limit, a value of it, facts that just keep it and facts that just do not."""
REASONS = {*FAILURES, *FAULTS, "decoder_warning"}


def make_settings(soft: dict[str, float] | None = None, hard: dict[str, float] | None = None) -> QualitySettings:
    opened = {field.name: getattr(OPEN, field.name) for field in fields(Limits)}
    return QualitySettings(SuspectLimits(**opened | (soft or {})), RejectedLimits(**opened | (hard or {})))


def test_what_keeps_every_limit_is_clean() -> None:
    assert judge(GOOD, QualitySettings()) == (CLEAN, None)


def test_every_limit_has_its_reason() -> None:
    assert sorted(limit for limit, *_ in FAULTS.values()) == sorted(field.name for field in fields(Limits))


@pytest.mark.parametrize("reason", FAULTS)
def test_a_soft_limit_makes_suspect_and_a_hard_one_rejects(reason: str) -> None:
    name, value, kept, broken = FAULTS[reason]
    limit: dict[str, float] = {name: value}
    for settings, status in ((make_settings(soft=limit), SUSPECT), (make_settings(hard=limit), REJECTED)):
        assert judge(GOOD | kept, settings) == (CLEAN, None)
        assert judge(GOOD | broken, settings) == (status, reason)
    assert judge(GOOD | broken, make_settings(soft=limit, hard=limit)) == (REJECTED, reason)


def test_the_shorter_and_the_longer_edge_count_whichever_they_are() -> None:
    settings = make_settings(hard={"min_edge_px": 100, "max_aspect_ratio": 4})
    for width, height, reason in ((99, 4000, "too_small"), (4000, 99, "too_small"), (101, 500, "too_narrow")):
        assert judge(GOOD | {"width_px": width, "height_px": height}, settings).reason == reason
        assert judge(GOOD | {"width_px": height, "height_px": width}, settings).reason == reason


@pytest.mark.parametrize("number", range(len(FAULTS) - 1))
def test_of_several_faults_the_plainest_is_named(number: int) -> None:
    (plain, (limit, value, _, broken)), (_, (other, other_value, _, other_broken)) = list(FAULTS.items())[
        number : number + 2
    ]
    settings = make_settings(soft={limit: value, other: other_value})
    assert judge(GOOD | other_broken | broken, settings) == (SUSPECT, plain)


def test_what_is_black_is_dark_before_it_is_blurred() -> None:
    black = {name: 0.0 for name in GOOD if isinstance(GOOD[name], float)}
    assert judge(GOOD | black, QualitySettings()) == (SUSPECT, "dark")


@pytest.mark.parametrize("failure", FAILURES)
def test_what_could_not_be_read_is_rejected_with_its_failure_whatever_the_limits(failure: str) -> None:
    facts = dict.fromkeys(GOOD) | {"failure": failure}
    assert judge(facts, QualitySettings()) == judge(facts, make_settings()) == (REJECTED, failure)


def test_a_warning_is_suspect_unless_a_hard_limit_rejects() -> None:
    warned = GOOD | {"decoder_warning": "extraneous bytes"}
    assert judge(warned, make_settings()) == (SUSPECT, "decoder_warning")
    assert judge(warned, make_settings(soft={"min_contrast": 100})) == (SUSPECT, "decoder_warning")
    assert judge(warned, make_settings(hard={"min_contrast": 100})) == (REJECTED, "low_contrast")


FACTS = st.fixed_dictionaries(
    {name: st.floats(0, 255) for name in GOOD if isinstance(GOOD[name], float)}
    | {"width_px": st.integers(1, 65_535), "height_px": st.integers(1, 65_535)}
    | {"decoder_warning": st.none() | st.text(), "failure": st.none() | st.sampled_from(FAILURES)}
)
LIMITS = {name: st.floats(0, 255) for name, *_ in FAULTS.values()} | {"max_aspect_ratio": st.floats(1, inf)}


@given(FACTS, st.builds(QualitySettings, st.builds(SuspectLimits, **LIMITS), st.builds(RejectedLimits, **LIMITS)))
def test_every_image_gets_a_verdict_and_what_is_not_clean_one_of_the_reasons(
    facts: dict[str, Any], settings: QualitySettings
) -> None:
    status, reason = judge(facts, settings)
    assert status in {CLEAN, SUSPECT, REJECTED}
    assert (reason is None) == (status == CLEAN)
    assert reason is None or reason in REASONS
    assert facts["failure"] is None or status == REJECTED


@given(FACTS)
def test_without_limits_only_failures_and_warnings_count(facts: dict[str, Any]) -> None:
    within = facts | {"burnt_share": facts["burnt_share"] / 255}
    status, reason = judge(within, make_settings())
    assert (status == CLEAN) == (facts["failure"] is None and facts["decoder_warning"] is None)
    assert reason in {None, facts["failure"], "decoder_warning"}


def test_recipe_and_limits_cannot_be_changed_and_tell_equal_from_other_ones() -> None:
    assert hash(CleansingRecipe()) == hash(CleansingRecipe())
    assert CleansingRecipe(geohash_length=3) != CleansingRecipe()
    with pytest.raises(FrozenInstanceError):
        CleansingRecipe().max_bytes = 1  # type: ignore[misc]
