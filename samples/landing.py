"""The sample landing: some 240 files that a phone app and a scraper land within three days, with the truth of each.

Everything follows from one seed: no clock, no order of threads or hashes has a say, so that the landing is the same on
every machine and on every day. Pictures are made in `samples.scenes`, spoilt in `samples.defects`.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

import numpy as np

from lakehouse.perceptual_hash import hash_luma
from samples.catalogue import CLASS_IDS, Subject, read_subjects
from samples.defects import (
    add_position,
    blur,
    darken,
    encode_jpeg,
    encode_png,
    make_camera_exif,
    make_error_page,
    recompress_jpeg,
    resize_jpeg,
    store_turned,
    truncate,
)
from samples.scenes import Scene, compose_scene
from samples.truth import Defect, SampleBox, SampleTruth

Source = Literal["phone", "scraper"]

FIRST_DAY = datetime(2026, 11, 2, tzinfo=UTC)
DAY_COUNT = 3
SCENES_PER_CLASS = 30

# Scenes of their own that are landed in a special way; the other scenes land plain.
_SCENE_DEFECTS: dict[Defect, int] = {"gps": 16, "rotated_exif": 14, "png_as_jpg": 6, "blurred": 6, "dark": 6}
# Files made from the file of a plain scene that landed earlier, and files that are no picture at all.
_COPY_DEFECTS: dict[Defect, int] = {"exact_copy": 28, "resized": 20, "recompressed": 20, "truncated": 10}
_JUNK_DEFECTS: dict[Defect, int] = {"empty": 5, "html": 7}

# Two scenes are kept further apart than any threshold for near duplicates reaches, with room for what encoding moves.
_MINIMUM_HASH_DISTANCE = 13
_TRIES_PER_SCENE = 50

_OPENING = timedelta(hours=7)
_CLOSING = timedelta(hours=18)


@dataclass(frozen=True)
class SampleFile:
    """One file of the sample landing.

    Attributes:
        source: Who lands it: `phone` or `scraper`.
        name: File name, unique within the landing.
        data: Its bytes.
        landed_at: When it lands (UTC).
        truth: What it really is.
    """

    source: Source
    name: str
    data: bytes
    landed_at: datetime
    truth: SampleTruth


@dataclass(frozen=True)
class _ScenePlan:
    """One scene to be made: what it shows, how it is spoilt, who lands it and when."""

    name: str
    subject: Subject
    defect: Defect | None
    source: Source
    landed_at: datetime


def build_sample_landing(seed: int = 7) -> Iterator[SampleFile]:
    """Yield the files of the sample landing in the order in which they land; the same seed gives the same bytes."""
    timetable = _Timetable(random.Random(f"{seed} timetable"))
    originals = _make_originals(_plan_scenes(seed, timetable), seed)
    copies = _make_copies([file for file in originals if file.truth.defect is None], seed, timetable)
    yield from sorted((*originals, *copies, *_make_junk(seed, timetable)), key=lambda file: file.landed_at)


def index_sample_truth(files: Iterable[SampleFile]) -> dict[str, SampleTruth]:
    """Return the truth by image id (sha256 of the bytes); of equal files, that of the first in the order given."""
    truth_by_image_id: dict[str, SampleTruth] = {}
    for file in files:
        truth_by_image_id.setdefault(sha256(file.data).hexdigest(), file.truth)
    return truth_by_image_id


class _Timetable:
    """Hands out landing times within the working hours of the three days, never the same twice."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._taken: set[datetime] = set()

    def choose_on(self, day: int) -> datetime:
        """Return a time on day 0, 1 or 2 that leaves an hour for copies to follow."""
        opening = FIRST_DAY + timedelta(days=day) + _OPENING
        return self._choose(opening, opening + (_CLOSING - _OPENING) - timedelta(hours=1))

    def choose_later_on_the_day_of(self, earlier: datetime) -> datetime:
        """Return a time on the same day, at least a minute later."""
        midnight = earlier.replace(hour=0, minute=0, second=0)
        return self._choose(earlier + timedelta(minutes=1), midnight + _CLOSING)

    def choose_on_a_day_after(self, earlier: datetime) -> datetime:
        """Return a time on one of the days that follow; there must be one."""
        return self.choose_on(self._rng.randint((earlier - FIRST_DAY).days + 1, DAY_COUNT - 1))

    def _choose(self, first: datetime, last: datetime) -> datetime:
        chosen = first + timedelta(seconds=self._rng.randint(0, int((last - first).total_seconds())))
        while chosen in self._taken:
            chosen += timedelta(seconds=1)
        self._taken.add(chosen)
        return chosen


def _plan_scenes(seed: int, timetable: _Timetable) -> list[_ScenePlan]:
    """Return the scenes: as many of every class, of every photograph of a class alike, spread over the days."""
    rng = random.Random(f"{seed} scenes")
    subjects = [subject for class_id in CLASS_IDS for subject in _spread_over_photographs(class_id)]
    rng.shuffle(subjects)
    special = [defect for defect, count in _SCENE_DEFECTS.items() for _ in range(count)]
    defects: list[Defect | None] = [*special, *[None] * (len(subjects) - len(special))]
    return [
        _ScenePlan(
            name=f"scene-{number:03d}",
            subject=subject,
            defect=defect,
            source=_choose_source(defect, rng),
            landed_at=timetable.choose_on(number % DAY_COUNT),
        )
        for number, (subject, defect) in enumerate(zip(subjects, defects, strict=True))
    ]


def _spread_over_photographs(class_id: str) -> list[Subject]:
    subjects = [subject for subject in read_subjects() if subject.class_id == class_id]
    return [subjects[number % len(subjects)] for number in range(SCENES_PER_CLASS)]


def _choose_source(defect: Defect | None, rng: random.Random) -> Source:
    if defect in {"gps", "rotated_exif"}:
        return "phone"
    if defect == "png_as_jpg":
        return "scraper"
    return rng.choice(("phone", "scraper"))


def _make_originals(plans: Sequence[_ScenePlan], seed: int) -> list[SampleFile]:
    """Return one file per scene."""
    seen_hashes: list[int] = []
    return [_make_original(plan, _compose_distinct_scene(plan, seed, seen_hashes), seed) for plan in plans]


def _compose_distinct_scene(plan: _ScenePlan, seed: int, seen_hashes: list[int]) -> Scene:
    """Return the scene of the plan, unlike every scene before it, and add its hash to those seen."""
    for attempt in range(_TRIES_PER_SCENE):
        rng = random.Random(f"{seed} {plan.name} {attempt}")
        scene = _spoil_scene(compose_scene(plan.subject, rng), plan.defect, rng)
        scene_hash = hash_luma(np.asarray(scene.image.convert("L")))
        if all(_count_differing_bits(scene_hash, seen) >= _MINIMUM_HASH_DISTANCE for seen in seen_hashes):
            seen_hashes.append(scene_hash)
            return scene
    raise ValueError(
        f"cannot make {plan.name} of {plan.subject.photograph} with seed {seed}: {_TRIES_PER_SCENE} tries all came "
        f"within {_MINIMUM_HASH_DISTANCE} bits of an earlier scene; use another seed, fewer scenes or more photographs"
    )


def _count_differing_bits(hash_a: int, hash_b: int) -> int:
    # The hashes are signed: without the mask, Python would count the bits of the difference's magnitude.
    return ((hash_a ^ hash_b) & 0xFFFF_FFFF_FFFF_FFFF).bit_count()


def _spoil_scene(scene: Scene, defect: Defect | None, rng: random.Random) -> Scene:
    if defect == "blurred":
        return replace(scene, image=blur(scene.image, rng))
    if defect == "dark":
        return replace(scene, image=darken(scene.image, rng))
    return scene


def _make_original(plan: _ScenePlan, scene: Scene, seed: int) -> SampleFile:
    rng = random.Random(f"{seed} {plan.name} file")
    boxes = scene.boxes
    if plan.defect == "png_as_jpg":
        data, boxes = encode_png(scene.image), _scale_boxes(boxes, 0.5, 0.5)
    elif plan.source == "phone":
        data = _encode_as_phone(scene, plan, rng)
    else:
        data = encode_jpeg(scene.image)
    truth = SampleTruth(
        class_id=plan.subject.class_id,
        boxes=boxes,
        photograph=plan.subject.photograph,
        scene=plan.name,
        defect=plan.defect,
        is_held_out=plan.subject.is_held_out,
    )
    return SampleFile(plan.source, _name_file(plan.source, plan.landed_at, rng), data, plan.landed_at, truth)


def _encode_as_phone(scene: Scene, plan: _ScenePlan, rng: random.Random) -> bytes:
    exif = make_camera_exif(plan.landed_at - timedelta(seconds=rng.randint(5, 900)), rng)
    image = scene.image
    if plan.defect == "gps":
        add_position(exif, rng)
    if plan.defect == "rotated_exif":
        image = store_turned(image, exif, rng)
    return encode_jpeg(image, exif)


def _make_copies(originals: Sequence[SampleFile], seed: int, timetable: _Timetable) -> list[SampleFile]:
    """Return the files made from others, by turns later on the same day from the other source and on a later day."""
    rng = random.Random(f"{seed} copies")
    before_the_last_day = [file for file in originals if (file.landed_at - FIRST_DAY).days < DAY_COUNT - 1]
    copies: list[SampleFile] = []
    for defect, count in _COPY_DEFECTS.items():
        for number, original in enumerate(rng.sample(before_the_last_day, count)):
            if number % 2 == 0:
                source: Source = "scraper" if original.source == "phone" else "phone"
                landed_at = timetable.choose_later_on_the_day_of(original.landed_at)
            else:
                source = original.source
                landed_at = timetable.choose_on_a_day_after(original.landed_at)
            data, boxes = _copy_data(original, defect, rng)
            truth = replace(original.truth, defect=defect, boxes=boxes)
            copies.append(SampleFile(source, _name_file(source, landed_at, rng), data, landed_at, truth))
    return copies


def _copy_data(original: SampleFile, defect: Defect, rng: random.Random) -> tuple[bytes, tuple[SampleBox, ...]]:
    boxes = original.truth.boxes
    match defect:
        case "resized":
            data, across, down = resize_jpeg(original.data, rng)
            return data, _scale_boxes(boxes, across, down)
        case "recompressed":
            return recompress_jpeg(original.data, rng), boxes
        case "truncated":
            return truncate(original.data, rng), boxes
        case _:
            return original.data, boxes


def _make_junk(seed: int, timetable: _Timetable) -> list[SampleFile]:
    """Return the files that hold no picture."""
    rng = random.Random(f"{seed} junk")
    junk: list[SampleFile] = []
    for defect, count in _JUNK_DEFECTS.items():
        for number in range(count):
            source: Source = "scraper" if defect == "html" else rng.choice(("phone", "scraper"))
            landed_at = timetable.choose_on(number % DAY_COUNT)
            data = make_error_page(number) if defect == "html" else b""
            truth = SampleTruth(None, (), None, f"{defect}-{number}", defect, is_held_out=False)
            junk.append(SampleFile(source, _name_file(source, landed_at, rng), data, landed_at, truth))
    return junk


def _name_file(source: Source, landed_at: datetime, rng: random.Random) -> str:
    return f"IMG_{landed_at:%Y%m%d_%H%M%S}.jpg" if source == "phone" else f"{rng.getrandbits(48):012x}.jpg"


def _scale_boxes(boxes: Sequence[SampleBox], across: float, down: float) -> tuple[SampleBox, ...]:
    return tuple(
        SampleBox(
            round(box.x_px * across, 2),
            round(box.y_px * down, 2),
            round(box.width_px * across, 2),
            round(box.height_px * down, 2),
        )
        for box in boxes
    )
