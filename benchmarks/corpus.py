"""Seeded images to measure speed and memory with: a phone's, a web site's, and large files of every format.

They are made from `samples/photographs`, which are small: enlarged, with fine texture where the photograph has some,
and with the noise of a sensor, so that a JPEG has about the bits per pixel of a phone's (2.2 MB at 12 megapixels, 1.5
bits) and its decoder spends about as much on Huffman codes (nearly half of the time of a full decode).
"""

import random
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pillow_heif
import simplejpeg
from PIL import Image

from samples.catalogue import load_photograph, read_credits
from samples.defects import add_position, make_camera_exif

LARGE_SIZE = (4000, 3000)
SMALL_SIZES = ((1600, 1200), (1280, 960), (1600, 900), (1200, 1600), (1920, 1080))
HUGE_SIZE = (8160, 6120)
"""The 50 megapixels that many phones can be set to."""

_TEXTURE_CELLS_PX = (2, 4, 8)
_TEXTURE_SHARE = 0.35
"""Of the standard deviation around a pixel of the photograph."""
_NOISE_DEVIATION = 4.0
"""Grey levels, before neighbouring pixels are mixed as a camera does to get colours."""
_NOISE_REACH_PX = 0.8
_QUALITIES = (89, 92)
_EXIF_ORIENTATION = 0x0112
_TURNED_RIGHT = 6
_FIRST_DAY = datetime(2026, 5, 1, 6, 0)  # noqa: DTZ001 - a camera's clock has no zone

Pixels = npt.NDArray[np.uint8]


def write_large(folder: Path, count: int, *, seed: int = 1, is_turned: bool = False) -> None:
    """Write 12-megapixel JPEGs with a phone's EXIF block, position included.

    Args:
        folder: Exists.
        count: How many.
        seed: Another seed gives other texture, noise and EXIF.
        is_turned: Whether the EXIF block says that the phone was held upright, so that the pixels must be turned.
    """
    for index in range(count):
        rng = random.Random(f"{seed}/large/{index}")
        _write_photograph(folder / f"large_{index:03d}.jpg", _compose(index, LARGE_SIZE, rng), rng, is_turned=is_turned)


def write_small(folder: Path, count: int, *, seed: int = 1) -> None:
    """Write JPEGs of 1.2 to 2.1 megapixels, as a web site delivers them: small enough to stay as they are."""
    for index in range(count):
        rng = random.Random(f"{seed}/small/{index}")
        pixels = _compose(index, SMALL_SIZES[index % len(SMALL_SIZES)], rng)
        _write_photograph(folder / f"small_{index:03d}.jpg", pixels, rng)


def write_mixed(folder: Path, *, seed: int = 1) -> None:
    """Write 20 files of 12 to 50 megapixels in every format that is read."""
    rng = random.Random(f"{seed}/mixed")
    huge, first, second = (
        Image.fromarray(_compose(index, size, rng)) for index, size in enumerate((HUGE_SIZE, LARGE_SIZE, LARGE_SIZE))
    )
    huge.save(folder / "huge.jpg", quality=90)
    huge.save(folder / "huge_progressive.jpg", quality=90, progressive=True)
    huge.save(folder / "huge.webp", quality=80, method=0)
    huge.quantize(64, Image.Quantize.FASTOCTREE).save(folder / "huge_palette.png", compress_level=1)
    for name, image in (("first", first), ("second", second)):
        image.save(folder / f"{name}.jpg", quality=90)
        image.save(folder / f"{name}_progressive.jpg", quality=90, progressive=True)
        image.save(folder / f"{name}.png", compress_level=1)
        image.save(folder / f"{name}.tiff")
    first.save(folder / "first.webp", quality=80, method=0)
    first.save(folder / "first.avif", quality=70, speed=10)
    first.save(folder / "first.bmp")
    first.convert("CMYK").save(folder / "first_cmyk.jpg", quality=90)
    first.quantize(64, Image.Quantize.FASTOCTREE).save(folder / "first.gif")
    second.convert("RGBA").save(folder / "second_alpha.png", compress_level=1)
    second.convert("L").save(folder / "second_grey.png", compress_level=1)
    pillow_heif.from_pillow(second).save(folder / "second.heic", quality=60)


def _compose(index: int, size: tuple[int, int], rng: random.Random) -> Pixels:
    """Return a photograph, cropped to the proportions of the wanted size and enlarged to it, with texture and noise."""
    photographs = read_credits()
    width, height = size
    photograph = np.asarray(load_photograph(photographs[index % len(photographs)].file))
    original = _crop(photograph, width / height)
    dice = np.random.default_rng(rng.getrandbits(32))
    picture = cv2.resize(original, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    picture += (_TEXTURE_SHARE * _measure_texture(original, size) * _make_texture(size, dice))[..., None]
    noise = dice.standard_normal((height, width, 3), dtype=np.float32)
    picture += _NOISE_DEVIATION * cv2.GaussianBlur(noise, (0, 0), _NOISE_REACH_PX)
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def _crop(pixels: Pixels, ratio: float) -> Pixels:
    height, width = pixels.shape[:2]
    wanted_width, wanted_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    top, left = (height - wanted_height) // 2, (width - wanted_width) // 2
    return pixels[top : top + wanted_height, left : left + wanted_width]


def _measure_texture(pixels: Pixels, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the standard deviation of luma around each pixel, enlarged."""
    luma = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY).astype(np.float32)
    variance = cv2.blur(luma * luma, (7, 7)) - cv2.blur(luma, (7, 7)) ** 2
    return np.asarray(cv2.resize(np.sqrt(np.maximum(variance, 0)), size), np.float32)


def _make_texture(size: tuple[int, int], dice: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return the sum of noise of several grain sizes, each of variance 1."""
    width, height = size
    texture = np.zeros((height, width), np.float32)
    for cell in _TEXTURE_CELLS_PX:
        grain = dice.standard_normal((height // cell + 1, width // cell + 1), dtype=np.float32)
        texture += cv2.resize(grain, size, interpolation=cv2.INTER_CUBIC)
    return texture


def _write_photograph(path: Path, pixels: Pixels, rng: random.Random, *, is_turned: bool = False) -> None:
    exif = make_camera_exif(_FIRST_DAY + timedelta(minutes=rng.randrange(200_000)), rng)
    add_position(exif, rng)
    if is_turned:
        exif[_EXIF_ORIENTATION] = _TURNED_RIGHT
    jpeg = simplejpeg.encode_jpeg(pixels, quality=rng.randint(*_QUALITIES), colorsubsampling="420")
    path.write_bytes(insert_exif(jpeg, exif.tobytes()))


def insert_exif(jpeg: bytes, block: bytes) -> bytes:
    """Return the JPEG with an EXIF block, `Exif` and two zeros included, as its first segment (Exif 2.3, 4.7.2)."""
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]
