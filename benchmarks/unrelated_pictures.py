"""Seeded pictures that have nothing in common, as many as are wanted, for near duplicates to be told from.

They are no photographs: there are not thousands that may be passed on. A part of them are disjoint cuts of
`samples/photographs`; the others are composed of shapes, light and cuts, in the layouts that photographs often have.
`compose_sparse` makes those that are hardest to tell apart: a few specks on even ground.
"""

import itertools
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from samples.catalogue import load_photograph, read_credits

Pixels = npt.NDArray[np.uint8]

_CUT_PX = 64
_MINIMUM_CUT_DEVIATION = 12.0
"""Grey levels: a cut of less is even sky or cloth, and as like another as two sheets of paper."""
_SHAPES = ((4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (1, 1))


@cache
def list_cuts() -> tuple[Pixels, ...]:
    """Return disjoint squares of the sample photographs that show something."""
    cuts = []
    for credit in read_credits():
        photograph = np.asarray(load_photograph(credit.file))
        for top in range(0, photograph.shape[0] - _CUT_PX + 1, _CUT_PX):
            for left in range(0, photograph.shape[1] - _CUT_PX + 1, _CUT_PX):
                cut = photograph[top : top + _CUT_PX, left : left + _CUT_PX]
                if float(cut.mean(axis=2).std()) >= _MINIMUM_CUT_DEVIATION:
                    cuts.append(np.ascontiguousarray(cut))
    return tuple(cuts)


def compose_unrelated(number: int, long_edge_px: int) -> Pixels:
    """Return the picture of a number: RGB, height x width x 3. The first numbers are the cuts themselves."""
    rng = np.random.default_rng([1, number])
    if number < len(list_cuts()):
        return _finish(_enlarge(list_cuts()[number], (long_edge_px, long_edge_px)), rng)
    compose = _LAYOUTS[number % len(_LAYOUTS)]
    return _finish(compose(rng, *_choose_size(rng, long_edge_px)), rng)


def compose_sparse(number: int, long_edge_px: int) -> Pixels:
    """Return a picture of one to three small things on even ground."""
    rng = np.random.default_rng([2, number])
    width, height = _choose_size(rng, long_edge_px)
    picture = _light(rng, width, height)
    for _ in range(rng.integers(1, 4)):
        centre = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.35, 0.65)
        _lay(picture, rng, centre, width * rng.uniform(0.03, 0.1))
    return _finish(picture, rng)


def _choose_size(rng: np.random.Generator, long_edge_px: int) -> tuple[int, int]:
    across, down = _SHAPES[rng.integers(len(_SHAPES))]
    scale = long_edge_px / max(across, down)
    return int(across * scale), int(down * scale)


def _finish(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Expose the picture a little otherwise, and give it the noise of a sensor."""
    exposed = 255 * (picture / 255.0) ** rng.uniform(0.8, 1.25)
    return _as_pixels(exposed + rng.normal(0, 3, (*picture.shape[:2], 1)))


def _as_pixels(values: npt.NDArray[np.float64]) -> Pixels:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def _enlarge(cut: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _choose_cut(rng: np.random.Generator, size: tuple[int, int]) -> Pixels:
    cuts = list_cuts()
    turned = np.rot90(cuts[rng.integers(len(cuts))], int(rng.integers(4)))
    return _enlarge(np.ascontiguousarray(turned[:, :: rng.choice((-1, 1))]), size)


def _light(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Return even ground under light that falls off to one side."""
    slopes = rng.normal(0, 20, 2)
    across, down = np.linspace(-1, 1, width)[None, :, None], np.linspace(-1, 1, height)[:, None, None]
    return _as_pixels(rng.integers(60, 240, 3) + across * slopes[0] + down * slopes[1])


def _clouds(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Return noise whose amplitude falls with the frequency, as it does in nature, between two colours."""
    edge = 128
    frequency = np.hypot(np.fft.fftfreq(edge)[:, None], np.fft.rfftfreq(edge)[None])
    frequency[0, 0] = np.inf
    phases = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    noise = np.fft.irfft2(phases / frequency ** rng.uniform(1, 1.8), s=(edge, edge))
    share = cv2.resize((noise - noise.min()) / np.ptp(noise), (width, height), interpolation=cv2.INTER_CUBIC)
    dark, bright = rng.integers(0, 110, 3), rng.integers(145, 256, 3)
    return _as_pixels(dark + (bright - dark) * share[..., None])


def _lay(picture: Pixels, rng: np.random.Generator, centre: tuple[float, float], radius: float) -> None:
    """Lay an ellipse or a polygon, coloured or cut from a photograph, over what is there."""
    height, width = picture.shape[:2]
    left, right = max(0, int(centre[0] - radius)), min(width, int(centre[0] + radius) + 1)
    top, bottom = max(0, int(centre[1] - radius)), min(height, int(centre[1] + radius) + 1)
    if right <= left or bottom <= top:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 16)))
    reach = radius * rng.uniform(0.6, 1, len(angles))
    corners = np.stack([centre[0] - left + reach * np.cos(angles), centre[1] - top + reach * np.sin(angles)], axis=1)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    share = mask[..., None] / 255.0
    filling = _choose_cut(rng, (right - left, bottom - top)) if rng.random() < 0.5 else rng.integers(0, 256, 3)
    picture[top:bottom, left:right] = (picture[top:bottom, left:right] * (1 - share) + filling * share).astype(np.uint8)


def _heap(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Lay things of all sizes over one another, the large first ("dead leaves", which has the statistics of nature)."""
    picture = _light(rng, width, height)
    # As many per size as keeps the picture alike at every scale: their number falls with the cube of the radius.
    share = rng.random(rng.integers(40, 90))
    radii = width * ((0.04**-2) - share * (0.04**-2 - 0.4**-2)) ** -0.5
    for radius in (width * rng.uniform(0.25, 0.4), *np.sort(radii)[::-1]):
        _lay(picture, rng, (rng.uniform(0, width), rng.uniform(0, height)), radius)
    return picture


def _landscape(rng: np.random.Generator, width: int, height: int) -> Pixels:
    horizon = int(height * rng.uniform(0.25, 0.75))
    picture = np.concatenate([_clouds(rng, width, horizon), _choose_cut(rng, (width, height - horizon))])
    for _ in range(rng.integers(3, 10)):
        centre = (rng.uniform(0, width), horizon + rng.normal() * height * 0.15)
        _lay(picture, rng, centre, width * rng.uniform(0.05, 0.22))
    return picture


def _still_life(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Lay some large things about the middle of a table or a cloth."""
    ground = _choose_cut(rng, (width, height)) if rng.random() < 0.5 else _clouds(rng, width, height)
    picture = _as_pixels(_light(rng, width, height) * 0.7 + ground * 0.3)
    for _ in range(rng.integers(3, 9)):
        centre = width * rng.normal(0.5, 0.2), height * rng.normal(0.5, 0.2)
        _lay(picture, rng, centre, width * rng.uniform(0.1, 0.3))
    return picture


def _collage(rng: np.random.Generator, width: int, height: int) -> Pixels:
    picture = np.empty((height, width, 3), np.uint8)
    columns = [0, *np.sort(rng.integers(width // 8, width - width // 8, rng.integers(1, 4))), width]
    rows = [0, *np.sort(rng.integers(height // 8, height - height // 8, rng.integers(1, 4))), height]
    for left, right in itertools.pairwise(columns):
        for top, bottom in itertools.pairwise(rows):
            if right > left and bottom > top:
                picture[top:bottom, left:right] = _choose_cut(rng, (right - left, bottom - top))
    return picture


def _page(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Print lines of words, with gaps between paragraphs, and a picture or two."""
    picture = np.full((height, width, 3), rng.integers(200, 256), np.uint8)
    line_px, margin = height * rng.uniform(0.02, 0.05), width * rng.uniform(0.04, 0.15)
    top = height * rng.uniform(0.03, 0.12)
    while top < height * 0.95:
        left, end = margin, width - margin if rng.random() < 0.8 else width * rng.uniform(0.2, 0.9)
        while left < end:
            word_px = width * rng.uniform(0.01, 0.06)
            corners = (int(left), int(top)), (int(min(left + word_px, end)), int(top + line_px * 0.5))
            cv2.rectangle(picture, *corners, [int(rng.integers(0, 90))] * 3, -1)
            left += word_px + width * 0.012
        top += line_px * (3 if rng.random() < 0.12 else 1)
    for _ in range(rng.integers(1, 3)):
        across, down = int(width * rng.uniform(0.2, 0.6)), int(height * rng.uniform(0.15, 0.4))
        x, y = rng.integers(0, width - across), rng.integers(0, height - down)
        picture[y : y + down, x : x + across] = _choose_cut(rng, (across, down))
    return picture


_LAYOUTS: tuple[Callable[[np.random.Generator, int, int], Pixels], ...] = (
    _heap,
    _landscape,
    _still_life,
    _collage,
    _page,
    _clouds,
)
