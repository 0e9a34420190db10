"""Measures of one image, all from one small upright copy of it.

Every measure is taken at one canonical scale, a longest edge of about 512 px (497 to 512; smaller images as they are),
so that the same limits hold for a thumbnail off the web and for 12 megapixels. Luma is that of JPEG (ITU-R BT.601).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from lakehouse.perceptual_hash import hash_luma

CANONICAL_EDGE_PX = 512
THUMBNAIL_EDGE_PX = 256
NEAR_ENOUGH = 0.97
"""Of a wanted size: what halving alone reaches to within this share is kept, for resizing costs more than it gives."""

Pixels = npt.NDArray[np.uint8]
"""Height x width x 3, red, green and blue, 0 to 255."""
Luma = npt.NDArray[np.uint8]
"""Height x width, 0 to 255."""


@dataclass(frozen=True)
class Measures:
    """What is measured of an image, at canonical scale.

    Attributes:
        brightness_mean: Mean luma, 0 to 255.
        brightness_p5: Luma that 5 % of the pixels do not exceed, 0 to 255: how bright the dark parts are.
        brightness_p95: Luma that 95 % of the pixels do not exceed, 0 to 255: how bright the bright parts are.
        contrast_std: Standard deviation of luma, 0 to 127.5 (RMS contrast; Peli, 1990).
        entropy_bits: Shannon entropy of the histogram of luma, 0 to 8 bits.
        saturation_mean: Mean saturation in HSV, 0 to 1, of the thumbnail.
        blur_variance: Variance of the Laplacian of luma (Pech-Pacheco et al., 2000), from 0 up; low is blurred.
        perceptual_hash: See `lakehouse.perceptual_hash`.
    """

    brightness_mean: float
    brightness_p5: float
    brightness_p95: float
    contrast_std: float
    entropy_bits: float
    saturation_mean: float
    blur_variance: float
    perceptual_hash: int


def measure(upright: Pixels) -> tuple[Measures, Pixels]:
    """Measure an image and make its thumbnail.

    Args:
        upright: The upright image, at any size.

    Returns:
        The measures, and the thumbnail with a longest edge of at most 256 px (up to 3 % more where halving led there).
    """
    small = halve_to(upright, CANONICAL_EDGE_PX)
    luma = fit(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), CANONICAL_EDGE_PX)
    thumbnail = fit(halve_to(small, THUMBNAIL_EDGE_PX), THUMBNAIL_EDGE_PX)
    histogram = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel() / luma.size
    cumulated = np.cumsum(histogram)
    used = histogram[histogram > 0]
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(luma))
    saturation = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV)[..., 1]
    measures = Measures(
        brightness_mean=mean,
        brightness_p5=float(np.searchsorted(cumulated, 0.05)),
        brightness_p95=float(np.searchsorted(cumulated, 0.95)),
        contrast_std=deviation,
        entropy_bits=max(0.0, float(-(used * np.log2(used)).sum())),
        saturation_mean=cv2.mean(saturation)[0] / 255,
        blur_variance=float(cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S))[1][0, 0]) ** 2,
        perceptual_hash=hash_luma(luma),
    )
    return measures, thumbnail


def fit(pixels: Pixels, edge_px: int) -> Pixels:
    """Return the pixels with a longest edge of at most `edge_px`, never enlarged; nearly fitting ones as they are.

    Halved first and then resized bilinearly by less than two, where nothing is skipped: on photographs as near to a
    Lanczos resize as an area average, in a sixth of its time.
    """
    halved = halve_to(pixels, edge_px)
    height, width = halved.shape[:2]
    scale = edge_px / max(height, width)
    if scale >= NEAR_ENOUGH:
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
