"""What is clean enough: how images are decoded, which limits their measures must keep, and the verdict that follows.

The verdict depends on the stored measures alone, so a changed limit judges rows anew without opening an image. What an
image must be decoded for again stands in the recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Interval

CLEAN = "clean"
SUSPECT = "suspect"
REJECTED = "rejected"

FAILURES = (
    "empty",
    "not_an_image",
    "unsupported",
    "truncated",
    "corrupt",
    "too_large",
    "too_slow",
    "decoder_crash",
)
"""Why an image could not be read: no bytes; no known format; a variety of a format that is not read; cut off; damaged;
too many bytes or pixels or too much memory; too much processor time; the decoder died of it."""


class UnreadableError(Exception):
    """An image that cannot be read; its message is one of `FAILURES`. Cleansing turns it into a verdict."""


@dataclass(frozen=True)
class CleansingRecipe:
    """How an image is decoded and what is made of it: another recipe means decoding again.

    Attributes:
        max_bytes: Larger files are rejected as `too_large`, before they are opened.
        max_pixels: Images with more pixels are rejected as `too_large`, before they are decoded.
        max_memory_mb: Formats other than plain JPEG that need more to be decoded are rejected as `too_large`.
        max_seconds: Those that need more processor time are rejected as `too_slow`.
        standard_edge_px: Longest edge of the standard image.
        standard_quality: JPEG quality of the standard image where it has to be encoded.
        geohash_length: Characters of the geohash that is kept of a location: 5 is a cell of about 5 km, 4 of 20 to
            40 km, 3 of 150 km; 0 keeps nothing.
    """

    max_bytes: Annotated[int, Ge(1)] = 50_000_000
    max_pixels: Annotated[int, Ge(1)] = 100_000_000
    max_memory_mb: Annotated[int, Ge(16)] = 512
    max_seconds: Annotated[float, Ge(0.1)] = 5.0
    standard_edge_px: Annotated[int, Interval(ge=256, le=16_384)] = 2048
    standard_quality: Annotated[int, Interval(ge=1, le=100)] = 85
    geohash_length: Annotated[int, Interval(ge=0, le=5)] = 0


@dataclass(frozen=True)
class Limits:
    """Limits on what was measured; those left as they are let everything pass.

    Attributes:
        min_edge_px: The shorter edge must not be below; `too_small`.
        max_aspect_ratio: The longer edge over the shorter must not be above; `too_narrow`.
        min_brightness: Of details (`detail_brightness`), 0 to 255; `dark`.
        max_burnt: Share of burnt-out pixels, 0 to 1; `bright`.
        min_contrast: Of luma, 0 to 127.5; `low_contrast`.
        min_entropy: Of luma, 0 to 8 bits; `low_entropy`.
        min_saturation: Mean, 0 to 1; `colourless`.
        min_sharpness: Of edges, 0 to 1; `blurred`.
    """

    min_edge_px: Annotated[float, Ge(0)] = 0.0
    max_aspect_ratio: Annotated[float, Ge(1)] = inf
    min_brightness: Annotated[float, Interval(ge=0, le=255)] = 0.0
    max_burnt: Annotated[float, Interval(ge=0, le=1)] = 1.0
    min_contrast: Annotated[float, Ge(0)] = 0.0
    min_entropy: Annotated[float, Interval(ge=0, le=8)] = 0.0
    min_saturation: Annotated[float, Interval(ge=0, le=1)] = 0.0
    min_sharpness: Annotated[float, Ge(0)] = 0.0


@dataclass(frozen=True)
class SuspectLimits(Limits):
    """Soft limits: what does not keep them is suspect, and waits for somebody to look at it."""

    max_aspect_ratio: Annotated[float, Ge(1)] = 5.0
    min_brightness: Annotated[float, Interval(ge=0, le=255)] = 80.0
    max_burnt: Annotated[float, Interval(ge=0, le=1)] = 0.25
    min_entropy: Annotated[float, Interval(ge=0, le=8)] = 1.0
    min_sharpness: Annotated[float, Ge(0)] = 0.28


@dataclass(frozen=True)
class RejectedLimits(Limits):
    """Hard limits: what does not keep them is rejected."""

    min_edge_px: Annotated[float, Ge(0)] = 64.0
    max_aspect_ratio: Annotated[float, Ge(1)] = 20.0


@dataclass(frozen=True)
class QualitySettings:
    """What is clean enough.

    Attributes:
        suspect: Soft limits.
        rejected: Hard limits.
    """

    suspect: SuspectLimits = SuspectLimits()
    rejected: RejectedLimits = RejectedLimits()


class Judgement(NamedTuple):
    """What follows from an image's facts.

    Attributes:
        status: `clean`, `suspect` or `rejected`.
        reason: Why it is not clean: one of `FAILURES`, `decoder_warning`, or the first limit that it does not keep.
    """

    status: str
    reason: str | None


def judge(facts: Mapping[str, Any], quality: QualitySettings) -> Judgement:
    """Judge an image by its facts alone.

    Args:
        facts: What `cleansed_images` holds of it: `failure`, `decoder_warning`, its size and its measures.
        quality: The limits.
    """
    if facts["failure"] is not None:
        return Judgement(REJECTED, facts["failure"])
    fault = _find_fault(facts, quality.rejected)
    if fault is not None:
        return Judgement(REJECTED, fault)
    if facts["decoder_warning"] is not None:
        return Judgement(SUSPECT, "decoder_warning")
    fault = _find_fault(facts, quality.suspect)
    return Judgement(CLEAN if fault is None else SUSPECT, fault)


def _find_fault(facts: Mapping[str, Any], limits: Limits) -> str | None:
    """Return the first limit that is not kept, the plainest ones first: what is black is also blurred."""
    shorter, longer = sorted((facts["width_px"], facts["height_px"]))
    faults = {
        "too_small": shorter < limits.min_edge_px,
        "too_narrow": longer > limits.max_aspect_ratio * shorter,
        "dark": facts["detail_brightness"] < limits.min_brightness,
        "bright": facts["burnt_share"] > limits.max_burnt,
        "low_contrast": facts["contrast_std"] < limits.min_contrast,
        "low_entropy": facts["entropy_bits"] < limits.min_entropy,
        "colourless": facts["saturation_mean"] < limits.min_saturation,
        "blurred": facts["edge_sharpness"] < limits.min_sharpness,
    }
    return next((reason for reason, is_fault in faults.items() if is_fault), None)
