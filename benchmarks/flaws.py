"""Pictures whose flaws are known because they were made: blurred, dark and bright ones, and sound ones that look alike.

Truth by construction: a photograph of `samples/photographs` is taken for sharp and well exposed as it is. A flaw is
what a lens or an exposure does to it, in linear light and before the sensor's noise, so that sound and flawed pictures
have noise and compression in common. Half of the sound pictures are hard on purpose: they have what a naive score takes
for the flaw.

- blurred: gaussian, defocus and motion blur, from just visible on a screen of 512 px to strong. Sound but hard: a sharp
  subject before a smooth or strongly blurred background, and haze, which takes half of the contrast and no edge.
- dark: 2.5 to 5 stops under, a quarter of them with a lamp in the frame that lights nothing. Sound but hard: night with
  pools of lamp light, low key with one lit spot. Dark is what has nothing well exposed in it.
- bright: 2 to 4 stops over and a quarter or more of what was not burnt out before burnt out, a fourth of them with
  something black before the lens. Sound but hard: a product on white, a subject in snow. Bright is what has lost its
  own tones.

How far to trust it: there are 32 photographs, most of 320 px and some a little soft, so the variants are no independent
samples. Farmy's formulas were chosen on seed 1; score other seeds. The tables below were fixed before any score, with
two exceptions. Lamps and black things took up to 0.6 % of the frame at first, which no 99th percentile sees: Farmy's
and CleanVision's scores of darkness both had an area under the curve of 1.000, so that nothing was told apart; now it
is 5 %, for both. And two stops over were enough for bright, which burns nothing where a photograph was dark.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from samples.catalogue import load_mask, load_photograph, read_credits

FLAWS = ("blurred", "dark", "bright")

# Of the longest edge, as if it had 512 px.
_GAUSSIAN_SIGMA_PX = (1.5, 5.0)
_DEFOCUS_RADIUS_PX = (3.0, 8.0)
_MOTION_LENGTH_PX = (8.0, 24.0)
_REFERENCE_EDGE_PX = 512

_UNDER_STOPS = (2.5, 5.0)
_MILD_STOPS = (0.3, 0.8)
_OVER_STOPS = (2.0, 4.0)
_MUCH_BURNT = 0.25
_LITTLE_BURNT = 0.05

_BURNT = 0.95
"""Linear light from which a channel counts as burnt out: 249 of 255 once written."""

_READ_NOISE = (0.0004, 0.002)
_SHOT_NOISE = (0.002, 0.008)
_QUALITIES = (85, 93)

Plane = npt.NDArray[np.float32]
"""Linear light, height x width x 3, 0 to 1 where the sensor is not saturated; a mask has no third axis."""


@dataclass(frozen=True)
class Specimen:
    """One picture of the corpus.

    Attributes:
        path: The JPEG.
        flaw: Which of `FLAWS` it is about.
        is_flawed: The truth.
        variant: How it was made.
    """

    path: Path
    flaw: str
    is_flawed: bool
    variant: str


@dataclass(frozen=True)
class _Source:
    """A photograph in linear light, and its subject (1, others 0) if that can be cut out."""

    light: Plane
    mask: Plane | None


_Variant = Callable[[_Source, random.Random], Plane]


def write_flaws(folder: Path, seed: int = 1) -> list[Specimen]:
    """Write the corpus, 128 flawed and 128 sound pictures of each flaw, below a folder of each flaw's name.

    Args:
        folder: Exists.
        seed: Another seed gives another corpus of the same kinds.
    """
    sources = _load_sources()
    specimens = []
    for flaw, variants in _VARIANTS.items():
        (folder / flaw).mkdir()
        for name, (is_flawed, make) in variants.items():
            wanted = _cut_out_only(sources) if name in _NEEDS_MASK else sources
            for index in range(len(sources)):
                rng = random.Random(f"{seed}/{flaw}/{name}/{index}")
                path = folder / flaw / f"{name}_{index:03d}.jpg"
                path.write_bytes(_expose(make(wanted[index % len(wanted)], rng), rng))
                specimens.append(Specimen(path, flaw, is_flawed, name))
    return specimens


def _load_sources() -> list[_Source]:
    return [_load_source(credit.file) for credit in read_credits()]


def _load_source(name: str) -> _Source:
    mask = load_mask(name)
    pixels = np.asarray(load_photograph(name))
    return _Source(
        _to_linear(pixels), None if mask is None else (np.asarray(mask) / np.float32(255)).astype(np.float32)
    )


def _cut_out_only(sources: list[_Source]) -> list[_Source]:
    return [source for source in sources if source.mask is not None]


def _to_linear(pixels: npt.NDArray[np.uint8]) -> Plane:
    """Undo the transfer function of sRGB (IEC 61966-2-1)."""
    values = np.arange(256, dtype=np.float32) / 255
    table = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return table[pixels]


def _expose(light: Plane, rng: random.Random) -> bytes:
    """Return what a camera makes of the light: saturation, shot and read noise, the transfer function of sRGB, JPEG."""
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(light.shape, dtype=np.float32)
    deviation = rng.uniform(*_READ_NOISE) + rng.uniform(*_SHOT_NOISE) * np.sqrt(np.clip(light, 0, 1))
    seen = np.clip(np.clip(light, 0, None) + deviation * noise, 0, 1)
    encoded = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    pixels = np.ascontiguousarray(np.round(encoded * 255).astype(np.uint8))
    return bytes(simplejpeg.encode_jpeg(pixels, quality=rng.randint(*_QUALITIES), colorsubsampling="420"))


def _take(source: _Source, _: random.Random) -> Plane:
    return source.light


def _crop(source: _Source, rng: random.Random) -> Plane:
    height, width = source.light.shape[:2]
    share = rng.uniform(0.6, 0.85)
    top, left = rng.randint(0, int(height * (1 - share))), rng.randint(0, int(width * (1 - share)))
    return source.light[top : top + int(height * share), left : left + int(width * share)]


def _add_haze(source: _Source, rng: random.Random) -> Plane:
    """Mix with even grey light, which takes half of the contrast or more and no edge."""
    share = rng.uniform(0.4, 0.6)
    return source.light * np.float32(1 - share) + np.float32(share * rng.uniform(0.2, 0.4))


def _set_before_smoothness(source: _Source, rng: random.Random) -> Plane:
    """Set the sharp subject before an even wall that light falls on from one side."""
    height, width = source.light.shape[:2]
    colour = np.array([rng.uniform(0.08, 0.6) for _ in range(3)], np.float32)
    slope = np.linspace(1, rng.uniform(0.6, 0.9), width, dtype=np.float32)[None, :, None]
    wall = np.broadcast_to(colour * slope, (height, width, 3))
    return _lay(source.light, source.mask, wall, 1.0)


def _set_before_bokeh(source: _Source, rng: random.Random) -> Plane:
    """Set the sharp subject before its own background far out of focus, as a long lens shows it."""
    return _lay(source.light, source.mask, _defocus(source.light, rng.uniform(12, 24)), 1.0)


def _lay(
    light: Plane, mask: Plane | None, background: Plane, scale: float, at: tuple[float, float] = (0.5, 0.5)
) -> Plane:
    """Lay the subject on a background of its photograph's size, reduced, at a share of the free way down and right."""
    if mask is None:
        raise ValueError("cannot lay a subject on a background: its photograph has no mask; take one that has")
    height, width = background.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    subject = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(cv2.GaussianBlur(mask, (0, 0), 0.7), size, interpolation=cv2.INTER_AREA)[..., None]
    top, left = round(at[0] * (height - size[1])), round(at[1] * (width - size[0]))
    laid = np.array(background, np.float32)
    window = laid[top : top + size[1], left : left + size[0]]
    window[:] = share * subject + (1 - share) * window
    return laid


def _to_pixels(length_px: float, light: Plane) -> float:
    return length_px * max(light.shape[:2]) / _REFERENCE_EDGE_PX


def _blur_gaussian(source: _Source, rng: random.Random) -> Plane:
    blurred: Plane = cv2.GaussianBlur(source.light, (0, 0), _to_pixels(rng.uniform(*_GAUSSIAN_SIGMA_PX), source.light))
    return blurred


def _blur_defocus(source: _Source, rng: random.Random) -> Plane:
    return _defocus(source.light, rng.uniform(*_DEFOCUS_RADIUS_PX))


def _defocus(light: Plane, radius_px: float) -> Plane:
    radius = _to_pixels(radius_px, light)
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    blurred: Plane = cv2.filter2D(light, -1, kernel / kernel.sum())
    return blurred


def _blur_motion(source: _Source, rng: random.Random) -> Plane:
    length = _to_pixels(rng.uniform(*_MOTION_LENGTH_PX), source.light)
    reach = int(np.ceil(length / 2))
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), x * np.sin(angle) - y * np.cos(angle)
    kernel = np.clip(1 - np.abs(across), 0, 1) * np.clip(length / 2 + 0.5 - np.abs(along), 0, 1)
    blurred: Plane = cv2.filter2D(source.light, -1, kernel / kernel.sum())
    return blurred


def _darken(source: _Source, rng: random.Random) -> Plane:
    return source.light * np.float32(2 ** -rng.uniform(*_UNDER_STOPS))


def _darken_with_lamp(source: _Source, rng: random.Random) -> Plane:
    return _add_disc(_darken(source, rng), rng, 4.0)


def _brighten(source: _Source, rng: random.Random) -> Plane:
    """Give two to four stops more, and at least so much that a quarter of what was not burnt out is burnt out."""
    gain = max(2 ** rng.uniform(*_OVER_STOPS), _find_gain(source.light, _MUCH_BURNT))
    return source.light * np.float32(gain)


def _find_gain(light: Plane, share: float) -> float:
    """Return the gain that burns this share of what was not burnt out before, in a channel or more."""
    brightest = light.max(axis=2)
    return _BURNT / float(np.quantile(brightest[brightest < _BURNT], 1 - share))


def _brighten_with_shadow(source: _Source, rng: random.Random) -> Plane:
    return _add_disc(_brighten(source, rng), rng, 0.005)


def _add_disc(light: Plane, rng: random.Random, value: float) -> Plane:
    """Add a soft-edged disc of 0.1 to 5 % of the area."""
    height, width = light.shape[:2]
    radius = np.sqrt(rng.uniform(0.001, 0.05) * height * width / np.pi)
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot(y - rng.uniform(0.1, 0.9) * height, x - rng.uniform(0.1, 0.9) * width)
    share = np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)[..., None]
    return np.asarray(light * (1 - share) + np.float32(value) * share, np.float32)


def _dim_mildly(source: _Source, rng: random.Random) -> Plane:
    return source.light * np.float32(2 ** -rng.uniform(*_MILD_STOPS))


def _lift_mildly(source: _Source, rng: random.Random) -> Plane:
    gain = min(2 ** rng.uniform(*_MILD_STOPS), _find_gain(source.light, _LITTLE_BURNT))
    return source.light * np.float32(gain)


def _turn_to_night(source: _Source, rng: random.Random) -> Plane:
    """Take four stops away but where two to four lamps light what is near them, as by day."""
    light = source.light
    lit = np.full(light.shape[:2], 2.0**-4, np.float32)
    for _ in range(rng.randint(2, 4)):
        centre = (rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85))
        lit += _make_pool(light, centre, rng.uniform(0.06, 0.1))
    night = light * np.minimum(lit, 1)[..., None]
    return _add_disc(night, rng, 4.0)


def _light_low_key(source: _Source, rng: random.Random) -> Plane:
    """Light one spot of the picture, six stops brighter than the rest."""
    centre = (rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6))
    return source.light * (np.float32(2.0**-6) + _make_pool(source.light, centre, rng.uniform(0.12, 0.2)))[..., None]


def _make_pool(light: Plane, centre: tuple[float, float], radius: float) -> Plane:
    """Return the share of light, 0 to 1, that falls off like a gaussian; lengths as shares of the edges."""
    height, width = light.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    squared = (y - centre[0] * height) ** 2 + (x - centre[1] * width) ** 2
    return np.asarray(np.exp(-squared / (2 * (radius * max(height, width)) ** 2)), np.float32)


def _set_on_white(source: _Source, rng: random.Random) -> Plane:
    """Set the subject on the white of a product photograph."""
    white = np.full(source.light.shape, rng.uniform(0.9, 1.1), np.float32)
    return _lay(source.light, source.mask, white, rng.uniform(0.4, 0.9), (rng.random(), rng.random()))


def _set_in_snow(source: _Source, rng: random.Random) -> Plane:
    """Set the subject in sunlit snow: bright, uneven, nearly white and not burnt out."""
    height, width = source.light.shape[:2]
    dice = np.random.default_rng(rng.getrandbits(32))
    relief = np.zeros((height, width), np.float32)
    for cells in (3, 8, 24, 80):
        grid = dice.standard_normal((cells, cells), dtype=np.float32)
        relief += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / np.float32(np.sqrt(cells))
    snow = np.clip(rng.uniform(0.7, 0.85) + 0.06 * relief, 0, 0.98)[..., None] * np.array([0.97, 0.99, 1.0], np.float32)
    return _lay(source.light, source.mask, snow.astype(np.float32), rng.uniform(0.3, 0.7), (rng.random(), rng.random()))


_VARIANTS: dict[str, dict[str, tuple[bool, _Variant]]] = {
    "blurred": {
        "as_taken": (False, _take),
        "cropped": (False, _crop),
        "hazy": (False, _add_haze),
        "before_smoothness": (False, _set_before_smoothness),
        "before_bokeh": (False, _set_before_bokeh),
        "gaussian": (True, _blur_gaussian),
        "defocus": (True, _blur_defocus),
        "motion": (True, _blur_motion),
        "gaussian_again": (True, _blur_gaussian),
    },
    "dark": {
        "as_taken": (False, _take),
        "dimmed": (False, _dim_mildly),
        "night": (False, _turn_to_night),
        "low_key": (False, _light_low_key),
        "under": (True, _darken),
        "under_again": (True, _darken),
        "under_yet_again": (True, _darken),
        "under_with_lamp": (True, _darken_with_lamp),
    },
    "bright": {
        "as_taken": (False, _take),
        "lifted": (False, _lift_mildly),
        "on_white": (False, _set_on_white),
        "in_snow": (False, _set_in_snow),
        "over": (True, _brighten),
        "over_again": (True, _brighten),
        "over_yet_again": (True, _brighten),
        "over_with_shadow": (True, _brighten_with_shadow),
    },
}
"""By flaw and by name: whether the picture is flawed, and how it is made."""

_NEEDS_MASK = frozenset({"before_smoothness", "before_bokeh", "on_white", "in_snow"})
