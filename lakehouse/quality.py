"""What is clean enough: the verdicts that an image can get, and the limits that decide."""

from dataclasses import dataclass

CLEAN = "clean"
SUSPECT = "suspect"
REJECTED = "rejected"


@dataclass(frozen=True)
class CleansingSettings:
    """What is clean enough.

    Attributes:
        min_edge_px: Images with a shorter edge are rejected as `too_small`.
        max_pixels: Images with more pixels are rejected as `too_large`, before they are decoded.
        min_brightness_mean: Below it an image is suspect as `dark`, 0 to 255.
        max_brightness_mean: Above it an image is suspect as `bright`, 0 to 255.
        min_blur_variance: Below it an image is suspect as `blurred`.
        standard_edge_px: Longest edge of the standard image.
        standard_quality: JPEG quality of the standard image, 1 to 100.
    """

    min_edge_px: int = 64
    max_pixels: int = 100_000_000
    min_brightness_mean: float = 30.0
    max_brightness_mean: float = 245.0
    min_blur_variance: float = 30.0
    standard_edge_px: int = 2048
    standard_quality: int = 85
