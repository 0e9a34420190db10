import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from benchmarks.cleansing import (
    Comparison,
    Cost,
    compute_auc,
    list_ratios,
    score_soundness,
    select_jpegs,
    time_ours,
    watch_memory,
)
from benchmarks.flaws import Specimen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    (tmp_path / "picture.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    return tmp_path


def test_farmy_and_the_bare_decoder_are_timed_on_the_same_images(folder: Path) -> None:
    comparison = Comparison()
    time_ours(folder, comparison)
    assert all(len(costs) == 1 and costs[0].cpu_ms > 0 for costs in comparison.costs.values())
    names = [result.name for result in comparison.list_costs("tiny")]
    assert "tiny: Farmy, all of it" in names
    assert f"tiny: simplejpeg {version('simplejpeg')}, decode" in names


def test_ratios_are_taken_within_a_round() -> None:
    rounds = [("CleanVision", 800, 1600), ("Farmy, all of it", 40, 80), ("simplejpeg, decode", 40, 40)]
    rounds += [("Pillow, naive cleansing", 400, 400), ("Farmy, measures and thumbnail", 20, 30)]
    comparison = Comparison({name: [Cost(value, 0) for value in values] for name, *values in rounds})
    comparison.costs["simplejpeg, decode at 1/8"] = [Cost(20, 0), Cost(20, 0)]
    ratios = {result.name: result for result in list_ratios(comparison, "large", has_goals=True)}
    assert ratios["large: CleanVision over Farmy, all of it"].runs == (20, 20)
    assert ratios["large: Farmy, all of it over simplejpeg, decode"].runs == (1, 2)
    assert ratios["large: Farmy, all of it over simplejpeg, decode"].is_met is False


def test_only_what_every_program_can_decode_is_taken_from_a_folder(folder: Path) -> None:
    whole = (folder / "picture.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no picture")
    (folder / "more").mkdir()
    assert select_jpegs(folder) == [folder / "picture.jpg"]


def test_a_folder_without_a_picture_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="none of its files is a JPEG that can be decoded"):
        select_jpegs(tmp_path)


def test_memory_is_that_of_a_process_and_its_children() -> None:
    child = "import time; kept = b'x' * 60_000_000; time.sleep(0.5)"
    both = f"import subprocess, sys; kept = b'x' * 40_000_000; subprocess.run([sys.executable, '-c', {child!r}])"
    assert 100 < watch_memory([sys.executable, "-c", both]) < 200


def test_a_command_that_fails_gives_no_figure() -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        watch_memory([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_area_under_the_curve_is_the_share_of_pairs_that_are_told_apart(tmp_path: Path) -> None:
    specimens = [Specimen(tmp_path, "dark", is_flawed, "") for is_flawed in (True, True, False, False)]
    assert compute_auc(specimens, [1, 3, 2, 4]) == 0.75


def test_a_picture_that_cannot_be_read_has_no_score(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(RuntimeError, match=r"Cannot score empty\.jpg: .* its failure is empty"):
        score_soundness(Specimen(path, "dark", is_flawed=True, variant=""))
