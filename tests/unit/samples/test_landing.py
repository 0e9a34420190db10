import io
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from lakehouse.perceptual_hash import hash_luma
from samples.catalogue import CLASS_IDS, read_subjects
from samples.landing import SampleFile, build_sample_landing, index_sample_truth
from samples.truth import SampleBox, SampleTruth, sample_truth_from_json, sample_truth_to_json

LIST_THE_LANDING = """
from hashlib import sha256
from samples.landing import build_sample_landing
for file in build_sample_landing():
    print(file.source, file.name, file.landed_at.isoformat(), sha256(file.data).hexdigest())
"""

MADE_FROM_ANOTHER_FILE = ("exact_copy", "resized", "recompressed", "truncated")
UNREADABLE = ("truncated", "empty", "html")


@pytest.fixture(scope="module")
def landing() -> list[SampleFile]:
    return list(build_sample_landing())


@pytest.fixture(scope="module")
def originals(landing: list[SampleFile]) -> dict[str, SampleFile]:
    """Return the file of every scene that was not made from another file."""
    return {
        file.truth.scene: file
        for file in landing
        if file.truth.photograph is not None and file.truth.defect not in MADE_FROM_ANOTHER_FILE
    }


def open_upright(file: SampleFile) -> Image.Image:
    with Image.open(io.BytesIO(file.data)) as image:
        return ImageOps.exif_transpose(image)


def measure_luma(file: SampleFile) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(open_upright(file).convert("L"))


def count_differing_bits(hash_a: int, hash_b: int) -> int:
    return ((hash_a ^ hash_b) & (2**64 - 1)).bit_count()


def with_defect(landing: list[SampleFile], defect: str | None) -> list[SampleFile]:
    return [file for file in landing if file.truth.defect == defect]


def test_another_process_with_another_hash_seed_makes_the_same_landing(landing: list[SampleFile]) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", LIST_THE_LANDING],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env={"PYTHONHASHSEED": "12345", "TZ": "Pacific/Auckland"},
    ).stdout.splitlines()
    assert listed == [
        f"{file.source} {file.name} {file.landed_at.isoformat()} {sha256(file.data).hexdigest()}" for file in landing
    ]


def test_another_seed_makes_another_landing(landing: list[SampleFile]) -> None:
    assert next(build_sample_landing(seed=8)).data != landing[0].data


def test_the_landing_has_the_promised_number_of_files_by_defect(landing: list[SampleFile]) -> None:
    assert Counter(file.truth.defect for file in landing) == {
        None: 102,
        "gps": 16,
        "rotated_exif": 14,
        "png_as_jpg": 6,
        "blurred": 6,
        "dark": 6,
        "exact_copy": 28,
        "resized": 20,
        "recompressed": 20,
        "truncated": 10,
        "empty": 5,
        "html": 7,
    }


def test_every_class_has_as_many_scenes_and_every_photograph_of_a_class_has_some(
    originals: dict[str, SampleFile],
) -> None:
    assert Counter(file.truth.class_id for file in originals.values()) == dict.fromkeys(CLASS_IDS, 30)
    assert {file.truth.photograph for file in originals.values()} == {subject.photograph for subject in read_subjects()}


def test_both_sources_land_on_all_three_days_in_working_hours_in_order(landing: list[SampleFile]) -> None:
    assert {(file.source, file.landed_at.date().isoformat()) for file in landing} == {
        (source, day) for source in ("phone", "scraper") for day in ("2026-11-02", "2026-11-03", "2026-11-04")
    }
    assert all(file.landed_at.tzinfo is UTC and 7 <= file.landed_at.hour < 19 for file in landing)
    times = [file.landed_at for file in landing]
    assert times == sorted(set(times))


def test_held_out_scenes_land_on_every_day(originals: dict[str, SampleFile]) -> None:
    held_out = Counter(file.landed_at.date() for file in originals.values() if file.truth.is_held_out)
    assert len(held_out) == 3
    assert min(held_out.values()) >= 8


def test_no_two_files_share_a_name(landing: list[SampleFile]) -> None:
    assert len({file.name for file in landing}) == len(landing)
    assert all(file.name.endswith(".jpg") for file in landing)


def test_distinct_scenes_are_more_than_eight_bits_apart(originals: dict[str, SampleFile]) -> None:
    hashes = {scene: hash_luma(measure_luma(file)) for scene, file in originals.items()}
    nearest = min(
        (count_differing_bits(hashes[one], hashes[other]), one, other) for one, other in combinations(hashes, 2)
    )
    assert nearest[0] > 8, nearest


@pytest.mark.parametrize("defect", ["resized", "recompressed"])
def test_a_near_duplicate_is_a_few_bits_from_its_original(
    landing: list[SampleFile], originals: dict[str, SampleFile], defect: str
) -> None:
    for file in with_defect(landing, defect):
        original = originals[file.truth.scene]
        assert file.data != original.data
        assert count_differing_bits(hash_luma(measure_luma(file)), hash_luma(measure_luma(original))) <= 4


def test_an_exact_copy_has_the_bytes_of_its_original(
    landing: list[SampleFile], originals: dict[str, SampleFile]
) -> None:
    for file in with_defect(landing, "exact_copy"):
        assert file.data == originals[file.truth.scene].data


@pytest.mark.parametrize("defect", MADE_FROM_ANOTHER_FILE)
def test_copies_land_after_their_original_on_the_same_day_and_on_later_days(
    landing: list[SampleFile], originals: dict[str, SampleFile], defect: str
) -> None:
    copies = [(file, originals[file.truth.scene]) for file in with_defect(landing, defect)]
    assert all(copy.landed_at > original.landed_at for copy, original in copies)
    same_day = [pair for pair in copies if pair[0].landed_at.date() == pair[1].landed_at.date()]
    assert len(same_day) * 2 == len(copies)
    assert all(copy.source != original.source for copy, original in same_day)


def test_every_box_lies_inside_the_upright_picture(landing: list[SampleFile]) -> None:
    for file in landing:
        if file.truth.defect in UNREADABLE:
            continue
        width, height = open_upright(file).size
        assert file.truth.boxes, file.truth
        for box in file.truth.boxes:
            # Boxes are rounded to a hundredth of a pixel.
            assert 0 <= box.x_px < box.x_px + box.width_px <= width + 0.02, file.truth
            assert 0 <= box.y_px < box.y_px + box.height_px <= height + 0.02, file.truth


def test_subjects_take_two_fifths_of_the_long_edge_in_nearly_all_scenes(originals: dict[str, SampleFile]) -> None:
    shares = [
        max(max(box.width_px, box.height_px) for box in file.truth.boxes) / max(open_upright(file).size)
        for file in originals.values()
    ]
    assert sum(share >= 0.4 for share in shares) >= 0.95 * len(shares)
    assert min(shares) >= 0.3


def test_turned_phone_files_are_stored_turned_in_all_three_ways(landing: list[SampleFile]) -> None:
    orientations = set()
    for file in with_defect(landing, "rotated_exif"):
        with Image.open(io.BytesIO(file.data)) as image:
            orientation = image.getexif()[ExifTags.Base.Orientation]
            is_quarter_turn = orientation in {6, 8}
            assert open_upright(file).size == (image.size[::-1] if is_quarter_turn else image.size)
            orientations.add(orientation)
    assert orientations == {3, 6, 8}


def test_only_files_with_the_gps_defect_carry_a_position(landing: list[SampleFile]) -> None:
    for file in landing:
        if file.truth.defect in UNREADABLE:
            continue
        with Image.open(io.BytesIO(file.data)) as image:
            position = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert bool(position) == (file.truth.defect == "gps"), file.truth


def test_original_phone_files_carry_a_camera_and_a_time_before_the_landing(originals: dict[str, SampleFile]) -> None:
    for file in originals.values():
        with Image.open(io.BytesIO(file.data)) as image:
            exif = image.getexif()
        assert (ExifTags.Base.Model in exif) == (file.source == "phone"), file.truth
        if file.source == "phone":
            captured_at = datetime.strptime(exif[ExifTags.Base.DateTime], "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
            assert captured_at < file.landed_at


def test_dark_files_are_dark_and_the_others_are_not(landing: list[SampleFile]) -> None:
    for file in landing:
        if file.truth.defect not in UNREADABLE:
            assert (measure_luma(file).mean() < 25) == (file.truth.defect == "dark"), file.truth


def test_blurred_files_have_no_fine_detail_and_the_others_have(landing: list[SampleFile]) -> None:
    for file in landing:
        if file.truth.defect in UNREADABLE or file.truth.defect == "dark":
            continue
        luma = measure_luma(file).astype(np.float64)
        detail = np.abs(np.diff(luma, axis=1)).mean()
        assert (detail < 1.0) == (file.truth.defect == "blurred"), (detail, file.truth)


def test_a_truncated_file_is_the_beginning_of_a_picture_that_cannot_be_read(
    landing: list[SampleFile], originals: dict[str, SampleFile]
) -> None:
    for file in with_defect(landing, "truncated"):
        assert originals[file.truth.scene].data.startswith(file.data)
        with pytest.raises(OSError, match="truncated"):
            open_upright(file)


def test_empty_files_pages_and_pngs_are_what_they_are_called(landing: list[SampleFile]) -> None:
    assert all(file.data == b"" for file in with_defect(landing, "empty"))
    assert all(file.data.startswith(b"<!DOCTYPE html>") for file in with_defect(landing, "html"))
    assert all(file.data.startswith(b"\x89PNG") for file in with_defect(landing, "png_as_jpg"))


def test_held_out_is_what_the_photograph_says(landing: list[SampleFile]) -> None:
    held_out = {subject.photograph for subject in read_subjects() if subject.is_held_out}
    assert all(file.truth.is_held_out == (file.truth.photograph in held_out) for file in landing)


def test_the_truth_survives_json(landing: list[SampleFile]) -> None:
    truth = index_sample_truth(landing)
    assert sample_truth_from_json(sample_truth_to_json(truth)) == truth
    assert set(truth) == {sha256(file.data).hexdigest() for file in landing}


def test_equal_files_have_the_truth_of_the_first() -> None:
    def make_file(name: str, truth: SampleTruth) -> SampleFile:
        return SampleFile("phone", name, b"same", datetime(2026, 11, 2, 9, tzinfo=UTC), truth)

    original = SampleTruth("fish", (SampleBox(1.0, 2.0, 3.0, 4.0),), "perch.webp", "scene-000", None, is_held_out=False)
    copy = SampleTruth("fish", original.boxes, "perch.webp", "scene-000", "exact_copy", is_held_out=False)
    truth = index_sample_truth([make_file("a.jpg", original), make_file("b.jpg", copy)])
    assert truth == {sha256(b"same").hexdigest(): original}
