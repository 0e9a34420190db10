"""Compose seeded scenes from the photographs: crops, prints on a surface, cut-out subjects on a surface, all relit.

Only Pillow's and numpy's integer-exact steps make pixels, so that a seed gives the same scene on every machine.
Nothing here knows of files, sources or days: see `samples.landing`.
"""

import random
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from samples.catalogue import Subject, load_mask, load_photograph
from samples.truth import SampleBox

_LONG_EDGE_PX = 800
_SHORT_EDGE_PX = 600
_GRAIN_PX = 1024

# The stock textures are grey: each is toned from a dark to a light colour that such ground can have.
_TONES: dict[str, tuple[tuple[str, str], ...]] = {
    "grass.webp": (("#101c08", "#a8c878"), ("#1a1c0a", "#c8c080"), ("#0c1a14", "#8cb49c")),
    "gravel.webp": (("#1c1814", "#d8cdbc"), ("#14181c", "#b8c4cc"), ("#1e120c", "#c8a488")),
    "brick.webp": (("#2a100a", "#d08060"), ("#181410", "#c8b8a4"), ("#101418", "#a8b0b8")),
}
_MEADOW = "dandelions.webp"


@dataclass(frozen=True)
class Scene:
    """One picture, upright.

    Attributes:
        image: RGB, long edge 800 px.
        boxes: Where its subjects are.
    """

    image: Image.Image
    boxes: tuple[SampleBox, ...]


def compose_scene(subject: Subject, rng: random.Random) -> Scene:
    """Return a new scene that shows the subject of one photograph; the same state of `rng` gives the same scene."""
    mask = load_mask(subject.photograph)
    if mask is not None and rng.random() < 0.6:
        scene = _compose_cut_out(subject, mask, rng)
    elif rng.random() < 0.5:
        scene = _compose_crop(subject, rng)
    else:
        scene = _compose_print(subject, rng)
    return Scene(_add_grain(_relight(scene.image, rng), rng), scene.boxes)


def _compose_crop(subject: Subject, rng: random.Random, long_edge_px: int = _LONG_EDGE_PX) -> Scene:
    """Show a part of the photograph: all of a small subject, most of one that fills the photograph."""
    photograph = load_photograph(subject.photograph)
    left, top, right, bottom = _choose_window(subject, rng)
    window = (
        round(left * photograph.width),
        round(top * photograph.height),
        round(right * photograph.width),
        round(bottom * photograph.height),
    )
    scale = long_edge_px / max(window[2] - window[0], window[3] - window[1])
    size = (round((window[2] - window[0]) * scale), round((window[3] - window[1]) * scale))
    image = photograph.resize(size, Image.Resampling.BICUBIC, box=window)
    boxes = tuple(
        _clip_box(
            (x * photograph.width - window[0]) * scale,
            (y * photograph.height - window[1]) * scale,
            ((x + width) * photograph.width - window[0]) * scale,
            ((y + height) * photograph.height - window[1]) * scale,
            size,
        )
        for x, y, width, height in subject.boxes
    )
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
        boxes = tuple(_mirror_box(box, size[0]) for box in boxes)
    return Scene(image, boxes)


def _choose_window(subject: Subject, rng: random.Random) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a part of the photograph, as fractions."""
    left = min(x for x, _, _, _ in subject.boxes)
    top = min(y for _, y, _, _ in subject.boxes)
    right = max(x + width for x, _, width, _ in subject.boxes)
    bottom = max(y + height for _, y, _, height in subject.boxes)
    if (right - left) * (bottom - top) <= 0.75:
        return (
            left * rng.random(),
            top * rng.random(),
            right + (1 - right) * rng.random(),
            bottom + (1 - bottom) * rng.random(),
        )
    # A subject that fills its photograph is cropped into: otherwise all its crops would be the same picture.
    inwards_x, inwards_y = 0.2 * (right - left), 0.2 * (bottom - top)
    return (
        left + inwards_x * rng.random(),
        top + inwards_y * rng.random(),
        right - inwards_x * rng.random(),
        bottom - inwards_y * rng.random(),
    )


def _compose_print(subject: Subject, rng: random.Random) -> Scene:
    """Show the photograph as a print with a white border that lies on a surface."""
    surface = _make_surface(rng)
    picture = _compose_crop(subject, rng, long_edge_px=rng.randint(490, 550))
    border = rng.randint(8, 22)
    framed = ImageOps.expand(picture.image, border=border, fill=(244, 242, 236))
    x = rng.randint(0, max(0, surface.width - framed.width))
    y = rng.randint(0, max(0, surface.height - framed.height))
    _cast_shadow(surface, Image.new("L", framed.size, 255), (x, y), rng)
    surface.paste(framed, (x, y))
    boxes = (
        _clip_box(
            x + border + box.x_px,
            y + border + box.y_px,
            x + border + box.x_px + box.width_px,
            y + border + box.y_px + box.height_px,
            surface.size,
        )
        for box in picture.boxes
    )
    return Scene(surface, tuple(boxes))


def _compose_cut_out(subject: Subject, mask: Image.Image, rng: random.Random) -> Scene:
    """Show the subject, cut out, turned and scaled, on a surface."""
    surface = _make_surface(rng)
    # A tool lies as it was dropped; anything else stands or swims about as it did.
    angle = rng.uniform(-180, 180) if subject.class_id == "tool" else rng.uniform(-18, 18)
    wanted_px = rng.uniform(0.5, 0.82) * max(surface.size)
    cut_out = _turn_cut_out(subject.photograph, mask, angle, wanted_px, surface.size)
    if rng.random() < 0.5:
        cut_out = ImageOps.mirror(cut_out)
    x = rng.randint(0, surface.width - cut_out.width)
    y = rng.randint(0, surface.height - cut_out.height)
    alpha = cut_out.getchannel("A")
    _cast_shadow(surface, alpha, (x, y), rng)
    surface.paste(cut_out.convert("RGB"), (x, y), alpha)
    return Scene(surface, (SampleBox(float(x), float(y), float(cut_out.width), float(cut_out.height)),))


def _turn_cut_out(
    photograph: str, mask: Image.Image, angle: float, wanted_px: float, room_px: tuple[int, int]
) -> Image.Image:
    """Return the subject alone (RGBA), turned by `angle` degrees, its long edge `wanted_px` or what the room allows."""
    box = mask.getbbox()
    if box is None:
        raise ValueError(
            f"the mask of {photograph} is empty: draw it again or remove it from samples/photographs/masks"
        )
    cut_out = load_photograph(photograph).crop(box)
    # One pixel inwards and a soft edge, so that no rim of the old ground comes along.
    cut_out.putalpha(mask.crop(box).filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.8)))
    turned = _trim(cut_out.rotate(angle, Image.Resampling.BICUBIC, expand=True))
    scale = min(wanted_px / max(turned.size), 0.96 * room_px[0] / turned.width, 0.96 * room_px[1] / turned.height)
    size = (round(turned.width * scale), round(turned.height * scale))
    return _trim(turned.resize(size, Image.Resampling.BICUBIC))


def _trim(cut_out: Image.Image) -> Image.Image:
    return cut_out.crop(cut_out.getchannel("A").point([0] * 128 + [255] * 128).getbbox())


def _cast_shadow(surface: Image.Image, alpha: Image.Image, at: tuple[int, int], rng: random.Random) -> None:
    """Darken the surface, in place, beside something of the given outline."""
    reach = rng.randint(4, 14)
    shadow = Image.new("L", surface.size)
    shadow.paste(alpha.point([value * 6 // 10 for value in range(256)]), (at[0] + reach, at[1] + reach))
    shadow = (
        shadow.reduce(4).filter(ImageFilter.GaussianBlur(reach / 6)).resize(surface.size, Image.Resampling.BILINEAR)
    )
    surface.paste((12, 12, 14), (0, 0), shadow)


def _make_surface(rng: random.Random) -> Image.Image:
    """Return ground to lay a subject on, 800 x 600 or 600 x 800 px."""
    is_upright = rng.random() < 0.3
    size = (_SHORT_EDGE_PX, _LONG_EDGE_PX) if is_upright else (_LONG_EDGE_PX, _SHORT_EDGE_PX)
    kind = rng.choice((*_TONES, _MEADOW, "table"))
    if kind == "table":
        return _make_table(size, rng)
    if kind == _MEADOW:
        return _crop_at_random(load_photograph(_MEADOW), size, rng)
    texture = _crop_at_random(load_photograph(kind).convert("L"), size, rng)
    dark, light = rng.choice(_TONES[kind])
    return ImageOps.colorize(texture, dark, light)


def _crop_at_random(image: Image.Image, size: tuple[int, int], rng: random.Random) -> Image.Image:
    fit = min(image.width / size[0], image.height / size[1])
    width, height = (rng.uniform(0.55, 1.0) * fit * edge for edge in size)
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    part = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    return ImageOps.mirror(part) if rng.random() < 0.5 else part


def _make_table(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Return boards of wood: streaks along one direction in one colour, with a gap every few hand's breadths."""
    dark, light = rng.choice((("#3c2412", "#b8844c"), ("#4c4038", "#cbbba6"), ("#2c3238", "#9aa6ac")))
    streaks = Image.frombytes("L", (16, 128), rng.randbytes(16 * 128)).resize((800, 800), Image.Resampling.BICUBIC)
    boards = ImageChops.add(streaks.point([64 + value // 3 for value in range(256)]), Image.new("L", (800, 800), 40))
    for top in range(rng.randint(40, 160), 800, rng.randint(120, 220)):
        boards.paste(20, (0, top, 800, top + 4))
    turned = boards.transpose(Image.Transpose.ROTATE_90) if rng.random() < 0.5 else boards
    return ImageOps.colorize(turned.crop((0, 0, *size)), dark, light)


def _relight(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return the image in another light: exposure, colour of the light, and a fall-off across the picture."""
    exposure, warmth = rng.uniform(0.8, 1.2), rng.uniform(-0.07, 0.07)
    gains = (exposure * (1 + warmth), exposure, exposure * (1 - warmth))
    relit = image.point([min(255, round(value * gain)) for gain in gains for value in range(256)])
    corners = Image.frombytes("L", (2, 2), bytes(rng.randint(165, 255) for _ in range(4)))
    fall_off = corners.resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(relit, Image.merge("RGB", (fall_off, fall_off, fall_off)))


def _add_grain(image: Image.Image, rng: random.Random) -> Image.Image:
    x, y = rng.randint(0, _GRAIN_PX - image.width), rng.randint(0, _GRAIN_PX - image.height)
    return ImageChops.add(image, _make_grain().crop((x, y, x + image.width, y + image.height)), offset=-128)


@cache
def _make_grain() -> Image.Image:
    """Return what a sensor adds to every pixel, plus 128: the sum of two dice, which is exact on every machine."""
    dice = np.random.default_rng(0).integers(-4, 5, size=(2, _GRAIN_PX, _GRAIN_PX))
    return Image.fromarray((dice.sum(axis=0) + 128).astype(np.uint8)).convert("RGB")


def _clip_box(left: float, top: float, right: float, bottom: float, size: tuple[int, int]) -> SampleBox:
    left, top = max(0.0, left), max(0.0, top)
    right, bottom = min(float(size[0]), right), min(float(size[1]), bottom)
    return SampleBox(round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2))


def _mirror_box(box: SampleBox, width_px: int) -> SampleBox:
    return SampleBox(round(width_px - box.x_px - box.width_px, 2), box.y_px, box.width_px, box.height_px)
