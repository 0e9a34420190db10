"""Measures of one image, all from one small upright copy of it.

Every measure is taken at one canonical scale, a longest edge of about 512 px (497 to 512; smaller images as they are),
so that the same limits hold for a thumbnail off the web and for 12 megapixels. Luma is that of JPEG (ITU-R BT.601).
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from lakehouse.perceptual_hash import build_luma_hashes

CANONICAL_EDGE_PX = 512
THUMBNAIL_EDGE_PX = 256
NEAR_ENOUGH = 0.97
"""Of a wanted size: what halving alone brings this near from below will do, for resizing costs more than it gives."""

_LEAST_STEP = 2.0
_BURNT = 250
_AREA = np.ones((7, 7), np.uint8)

Pixels = npt.NDArray[np.uint8]
"""Height x width x 3, red, green and blue, 0 to 255."""
Luma = npt.NDArray[np.uint8]
"""Height x width, 0 to 255."""


@dataclass(frozen=True)
class Measures:
    """What is measured of an image, at canonical scale.

    Attributes:
        brightness_mean: Mean luma, 0 to 255.
        contrast_std: Standard deviation of luma, 0 to 127.5 (RMS contrast; Peli, 1990).
        entropy_bits: Shannon entropy of the histogram of luma, 0 to 8 bits; of every second pixel across and down.
        saturation_mean: Mean saturation in HSV, 0 to 1; of every second pixel of the thumbnail.
        edge_sharpness: 0 to about 1, see `measure_edge_sharpness`; low is blurred.
        detail_brightness: 0 to 255, see `measure_detail_brightness`; low is dark.
        burnt_share: 0 to 1, see `measure_burnt_share`; high is overexposed.
        perceptual_hash: See `lakehouse.perceptual_hash.LumaHashes`, also for the next two; None if it is too plain.
        detail_hash: Of the finer frequencies.
        strength_hash: Of the strengths of the frequencies.
    """

    brightness_mean: float
    contrast_std: float
    entropy_bits: float
    saturation_mean: float
    edge_sharpness: float
    detail_brightness: float
    burnt_share: float
    perceptual_hash: int | None
    detail_hash: int | None
    strength_hash: int | None


def measure(upright: Pixels) -> tuple[Measures, Pixels]:
    """Measure an image and make its thumbnail.

    Args:
        upright: The upright image, at any size.

    Returns:
        The measures, and the thumbnail with a longest edge of at most 256 px.
    """
    small = halve_to(upright, CANONICAL_EDGE_PX)
    luma = fit(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), CANONICAL_EDGE_PX)
    thumbnail = fit(halve_to(small, THUMBNAIL_EDGE_PX), THUMBNAIL_EDGE_PX)
    sampled = np.ascontiguousarray(luma[::2, ::2])
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(luma))
    hashes = build_luma_hashes(luma)
    measures = Measures(
        brightness_mean=mean,
        contrast_std=deviation,
        entropy_bits=_measure_entropy(sampled),
        saturation_mean=cv2.mean(cv2.cvtColor(thumbnail[::2, ::2], cv2.COLOR_RGB2HSV))[1] / 255,
        edge_sharpness=measure_edge_sharpness(luma),
        detail_brightness=measure_detail_brightness(sampled),
        burnt_share=measure_burnt_share(thumbnail),
        perceptual_hash=hashes and hashes.perceptual_hash,
        detail_hash=hashes and hashes.detail_hash,
        strength_hash=hashes and hashes.strength_hash,
    )
    return measures, thumbnail


def _measure_entropy(luma: Luma) -> float:
    shares = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel() / luma.size
    used = shares[shares > 0]
    return max(0.0, float(-(used * np.log2(used)).sum()))


def measure_edge_sharpness(luma: Luma) -> float:
    """Return how steep edges are: the root mean square step over one pixel by that over four.

    It is 1 for an ideal edge and 0.25 for ramps of more than four pixels, whatever the contrast, the exposure and the
    share of the picture that is smooth. The lesser of across and down counts, for motion blurs one direction only. Two
    grey levels stand for the step of what has none, so that the noise on a blank wall is not sharpness.

    Args:
        luma: At canonical scale. Where an edge has less than five pixels there is nothing to tell: 0.
    """
    if min(luma.shape) < 5:
        return 0.0
    across = _compare_steps(luma[:, 1:], luma[:, :-1], luma[:, 4:], luma[:, :-4])
    down = _compare_steps(luma[1:], luma[:-1], luma[4:], luma[:-4])
    return min(across, down)


def _compare_steps(after: Luma, before: Luma, far_after: Luma, far_before: Luma) -> float:
    near = cv2.norm(after, before, cv2.NORM_L2SQR)
    far = cv2.norm(far_after, far_before, cv2.NORM_L2SQR) + _LEAST_STEP**2 * after.size
    return math.sqrt(near / far)


def measure_detail_brightness(sampled: Luma) -> float:
    """Return how bright the bright side of the picture's own details is, 0 to 255.

    It is the 90th percentile of luma over the twentieth of the pixels that differ most from their right or lower
    neighbour. A lamp in the night or a white wall behind is no detail; one lit subject in the dark is. A picture of one
    colour is as bright as that.

    Args:
        sampled: Every second pixel, across and down, of luma at canonical scale.
    """
    if min(sampled.shape) < 2:
        return float(cv2.mean(sampled)[0])
    here = np.ascontiguousarray(sampled[:-1, :-1])
    step = cv2.max(cv2.absdiff(sampled[:-1, 1:], here), cv2.absdiff(sampled[1:, :-1], here))
    if not cv2.countNonZero(step):
        return float(here[0, 0])
    _, details = cv2.threshold(step, max(_find_quantile(step, 0.95), 1) - 1, 255, cv2.THRESH_BINARY)
    return float(_find_quantile(here, 0.9, details))


def _find_quantile(plane: Luma, share: float, mask: Luma | None = None) -> int:
    counts = cv2.calcHist([plane], [0], mask, [256], [0, 256]).ravel().cumsum()
    return int(np.searchsorted(counts, share * counts[-1]))


def measure_burnt_share(pixels: Pixels) -> float:
    """Return the share of the pixels that overexposure has burnt out in a channel, 0 to 1.

    Even white areas count neither as burnt nor as anything else: paper and snow are white, whereas what is burnt is
    mixed with detail and with colour.

    Args:
        pixels: The thumbnail.
    """
    _, is_white = cv2.threshold(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), _BURNT - 1, 255, cv2.THRESH_BINARY)
    white_area = cv2.dilate(cv2.erode(is_white, _AREA), _AREA)
    red, green, blue = cv2.split(pixels)
    _, is_burnt = cv2.threshold(cv2.max(cv2.max(red, green), blue), _BURNT - 1, 255, cv2.THRESH_BINARY)
    others = is_white.size - cv2.countNonZero(white_area)
    # A picture that is all white has next to no other pixels, of which a few must not decide.
    return float(cv2.countNonZero(cv2.subtract(is_burnt, white_area)) / (others + 0.002 * is_white.size))


def fit(pixels: Pixels, edge_px: int) -> Pixels:
    """Return the pixels with a longest edge of at most `edge_px`, and at least nearly that of larger ones.

    Halved first and then resized bilinearly by less than two, where nothing is skipped: on photographs as near to a
    Lanczos resize as an area average, in a sixth of its time.
    """
    halved = halve_to(pixels, edge_px)
    height, width = halved.shape[:2]
    scale = edge_px / max(height, width)
    if scale >= 1:
        return halved
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized: Pixels = cv2.resize(halved, size, interpolation=cv2.INTER_LINEAR)
    return resized


def halve_to(pixels: Pixels, edge_px: int) -> Pixels:
    """Halve, which is nearly free, while the longest edge stays at least about the wanted one and no edge vanishes."""
    while max(pixels.shape[:2]) >= 2 * NEAR_ENOUGH * edge_px and min(pixels.shape[:2]) > 1:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return pixels
