"""Cleansing beside what people use: time per image, threads, memory, and whether its measures find what is flawed.

Time is measured inside each process after a pass that warms it up, so that no start counts, over the same files and
reading them included, with one thread each. What is compared to within a few percent, cleansing and a bare decode,
runs in one process, image by image in turn; the other programs run between its rounds, each in a process of its own.
A ratio is taken within a round; figures are medians of the rounds.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil
import simplejpeg

from adapters.isolated_cleansing import cleanse_isolated
from benchmarks.batch import cleanse_folder
from benchmarks.charts import Bar, Panel, draw_bars
from benchmarks.corpus import write_large, write_mixed, write_small
from benchmarks.flaws import FLAWS, Specimen, write_flaws
from benchmarks.peers import run_peer
from benchmarks.results import Result, run_benchmarks
from lakehouse.cleansing import CleansedImage, measure_image
from lakehouse.quality import CleansingRecipe

LARGE = "12 megapixels"
TURNED = "12 megapixels to be turned"
SMALL = "1 to 2 megapixels, already standard"

IMAGES = 24
ROUNDS = 5
WARMING_UP = 2
FLAWS_SEEDS = (11, 12, 13)
"""None of them is the one on which the formulas of the measures were chosen."""

MEMORY_GOAL_MB = 400
AUC_GOAL = 0.97
THREADS_GOAL = 1.9
_SAMPLE_EVERY_S = 0.005

ALL_OF_IT = "Farmy, all of it"
MEASURES = "Farmy, measures and thumbnail"
FULL_DECODE = "simplejpeg, decode"
EIGHTH_DECODE = "simplejpeg, decode at 1/8"
CLEANVISION = "CleanVision"
NAIVE = "Pillow, naive cleansing"
PILLOW_DECODE = "Pillow, decode"

_CPU_UNIT = "CPU ms an image"
_RECIPE = CleansingRecipe()


class Cost(NamedTuple):
    """What one image took, in milliseconds, on average over a pass."""

    cpu_ms: float
    wall_ms: float


@dataclass
class Comparison:
    """What every program took for the same folder of images.

    Attributes:
        costs: By program, one cost for each round.
        versions: By program, where it is another's.
    """

    costs: dict[str, list[Cost]] = field(default_factory=lambda: defaultdict(list))
    versions: dict[str, str] = field(default_factory=dict)

    def list_costs(self, label: str) -> list[Result]:
        """Return processor and clock time of each program."""
        results = []
        for name, costs in self.costs.items():
            shown = f"{label}: {self._add_version(name)}"
            results += [
                Result(shown, _CPU_UNIT, tuple(cost.cpu_ms for cost in costs)),
                Result(shown, "ms an image", tuple(cost.wall_ms for cost in costs)),
            ]
        return results

    def _add_version(self, name: str) -> str:
        program, comma, work = name.partition(",")
        return f"{program} {self.versions[name]}{comma}{work}" if name in self.versions else name

    def divide(self, dividend: str, divisor: str) -> tuple[float, ...]:
        """Return the ratio of processor time in each round."""
        pairs = zip(self.costs[dividend], self.costs[divisor], strict=True)
        return tuple(first.cpu_ms / second.cpu_ms for first, second in pairs)


def measure_cleansing(images: Path | None) -> list[Result]:
    """Measure everything on the seeded images, or speed, threads and memory on those in a folder.

    Args:
        images: JPEGs that can be decoded are taken from it, others left out; the goals are for the seeded images.
    """
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="farmy-benchmark-") as name:
        folder = Path(name)
        if images is not None:
            return _measure_given(images, folder)
        return [*_measure_seeded(folder), *measure_flaws(folder)]


def _measure_seeded(folder: Path) -> list[Result]:
    large, turned, small, mixed = (folder / name for name in ("large", "turned", "small", "mixed"))
    for made in (large, turned, small, mixed):
        made.mkdir()
    write_large(large, IMAGES)
    write_large(turned, IMAGES // 4, is_turned=True)
    write_small(small, IMAGES)
    write_mixed(mixed)
    of_large, of_small = compare(large), compare(small)
    of_turned = Comparison()
    for _ in range(ROUNDS):
        time_ours(turned, of_turned)
    return [
        *list_ratios(of_large, LARGE, has_goals=True),
        Result(
            f"{SMALL}: {CLEANVISION} over {ALL_OF_IT}", "times", of_small.divide(CLEANVISION, ALL_OF_IT), at_least=12
        ),
        Result(f"{TURNED}: {ALL_OF_IT} over {FULL_DECODE}", "times", of_turned.divide(ALL_OF_IT, FULL_DECODE)),
        measure_threads(large, LARGE, THREADS_GOAL),
        measure_memory(mixed, "20 files of 12 to 50 megapixels in all formats", MEMORY_GOAL_MB),
        *of_large.list_costs(LARGE),
        *of_small.list_costs(SMALL),
    ]


def _measure_given(images: Path, folder: Path) -> list[Result]:
    label = f"images of {images.name}"
    for path in select_jpegs(images):
        (folder / path.name).symlink_to(path.resolve())
    compared = compare(folder)
    return [
        *list_ratios(compared, label, has_goals=False),
        measure_threads(folder, label, None),
        measure_memory(folder, label, None),
        *compared.list_costs(label),
    ]


def select_jpegs(folder: Path) -> list[Path]:
    """Return the JPEGs of a folder that every program can decode.

    Raises:
        SystemExit: There is none.
    """
    chosen = [path for path in sorted(folder.iterdir()) if path.is_file() and _is_decodable(path.read_bytes())]
    if not chosen:
        raise SystemExit(f"Cannot measure with {folder}: none of its files is a JPEG that can be decoded.")
    return chosen


def _is_decodable(data: bytes) -> bool:
    if not simplejpeg.is_jpeg(data):
        return False
    try:
        decode(data)
    except ValueError:
        return False
    return True


def compare(folder: Path) -> Comparison:
    """Time every program on a folder of JPEGs, in turns."""
    comparison = Comparison()
    for _ in range(ROUNDS):
        time_ours(folder, comparison)
        time_peer(CLEANVISION, comparison, "cleanvision_pass", folder)
        time_peer(NAIVE, comparison, "pillow_pass", folder, "cleanse")
        time_peer(PILLOW_DECODE, comparison, "pillow_pass", folder, "decode")
    return comparison


def time_ours(folder: Path, comparison: Comparison) -> None:
    """Time Farmy and simplejpeg on each image in turn, another one first each time."""
    paths = sorted(folder.iterdir())
    for path in paths[:WARMING_UP]:
        for work in _IN_PROCESS.values():
            work(path.read_bytes())
    spent = dict.fromkeys(_IN_PROCESS, (0.0, 0.0))
    names = list(_IN_PROCESS)
    for number, path in enumerate(paths):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            cpu, wall = time.process_time(), time.perf_counter()
            _IN_PROCESS[name](path.read_bytes())
            spent[name] = (
                spent[name][0] + time.process_time() - cpu,
                spent[name][1] + time.perf_counter() - wall,
            )
    for name, (cpu, wall) in spent.items():
        comparison.costs[name].append(Cost(1000 * cpu / len(paths), 1000 * wall / len(paths)))
    comparison.versions |= dict.fromkeys((FULL_DECODE, EIGHTH_DECODE), version("simplejpeg"))


def decode(data: bytes) -> object:
    """Decode a JPEG to RGB."""
    return simplejpeg.decode_jpeg(data, colorspace="RGB")


def decode_eighth(data: bytes) -> object:
    """Decode a JPEG to RGB at an eighth of its width and height."""
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    return simplejpeg.decode_jpeg(
        data, colorspace="RGB", min_height=-(-height // 8), min_width=-(-width // 8), min_factor=1
    )


def _cleanse(data: bytes) -> CleansedImage:
    return cleanse_isolated(data, _RECIPE)


def _measure(data: bytes) -> CleansedImage:
    return measure_image(data, _RECIPE)


_IN_PROCESS: dict[str, Callable[[bytes], object]] = {
    ALL_OF_IT: _cleanse,
    MEASURES: _measure,
    FULL_DECODE: decode,
    EIGHTH_DECODE: decode_eighth,
}


def time_peer(name: str, comparison: Comparison, script: str, *arguments: object) -> None:
    """Time a pass of another program."""
    answer = run_peer(script, *arguments)
    comparison.costs[name].append(Cost(1000 * answer["cpu_s"], 1000 * answer["wall_s"]))
    comparison.versions[name] = answer["version"]


def list_ratios(comparison: Comparison, label: str, *, has_goals: bool) -> list[Result]:
    """Return what is to be compared of large images."""
    least, all_most, measures_most = (20, 1.05, 1.15) if has_goals else (None, None, None)
    ratios = (
        (CLEANVISION, ALL_OF_IT, None, least),
        (NAIVE, ALL_OF_IT, None, None),
        (ALL_OF_IT, FULL_DECODE, all_most, None),
        (MEASURES, EIGHTH_DECODE, measures_most, None),
    )
    return [
        Result(f"{label}: {first} over {second}", "times", comparison.divide(first, second), at_most, at_least)
        for first, second, at_most, at_least in ratios
    ]


def measure_threads(folder: Path, label: str, goal: float | None) -> Result:
    """Return how many times faster two workers are than one, by the clock."""
    runs = []
    for _ in range(ROUNDS):
        walls = []
        for workers in (1, 2):
            started = time.perf_counter()
            cleanse_folder(folder, workers)
            walls.append(time.perf_counter() - started)
        runs.append(walls[0] / walls[1])
    return Result(f"{label}: Farmy, 2 threads against 1", "times", tuple(runs), at_least=goal)


def measure_memory(folder: Path, label: str, goal: float | None) -> Result:
    """Return the most memory that cleansing with two workers took: resident sets of all its processes, added up.

    What processes have in common is counted once for each of them, so this is an upper bound.
    """
    runs = tuple(watch_memory([sys.executable, "-m", "benchmarks.batch", str(folder), "2"]) for _ in range(ROUNDS))
    return Result(f"{label}: Farmy, 2 threads, memory at its peak", "MB", runs, at_most=goal)


def watch_memory(command: Sequence[str]) -> float:
    """Run a command and return the most megabytes that it and its children had resident at one moment.

    Raises:
        RuntimeError: It failed.
    """
    peak = 0
    with subprocess.Popen(command, cwd=Path(__file__).resolve().parents[1], env=os.environ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _read_resident(watched))
            time.sleep(_SAMPLE_EVERY_S)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}; see what it wrote to standard error.")
    return peak / 1e6


def _read_resident(process: psutil.Process) -> int:
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        return total
    return total


def measure_flaws(folder: Path) -> list[Result]:
    """Return how well Farmy's and CleanVision's scores tell flawed pictures from sound ones, on several corpora."""
    ours: dict[str, list[float]] = defaultdict(list)
    theirs: dict[str, list[float]] = defaultdict(list)
    peer = CLEANVISION
    for seed in FLAWS_SEEDS:
        corpus = folder / f"flaws_{seed}"
        corpus.mkdir()
        specimens = write_flaws(corpus, seed)
        answer = run_peer("cleanvision_scores", corpus)
        peer = f"{CLEANVISION} {answer['version']}"
        for flaw in FLAWS:
            of_flaw = [specimen for specimen in specimens if specimen.flaw == flaw]
            their_scores = [answer["scores"][str(specimen.path.relative_to(corpus))][flaw] for specimen in of_flaw]
            ours[flaw].append(compute_auc(of_flaw, [score_soundness(specimen) for specimen in of_flaw]))
            theirs[flaw].append(compute_auc(of_flaw, their_scores))
    results = []
    for flaw in FLAWS:
        gains = tuple(own - other for own, other in zip(ours[flaw], theirs[flaw], strict=True))
        results += [
            Result(f"{flaw}, known truth: Farmy", "AUC", tuple(ours[flaw]), at_least=AUC_GOAL),
            Result(f"{flaw}, known truth: {peer}", "AUC", tuple(theirs[flaw])),
            Result(f"{flaw}, known truth: Farmy more than {CLEANVISION}", "AUC", gains, at_least=0),
        ]
    return results


def score_soundness(specimen: Specimen) -> float:
    """Return Farmy's measure of the flaw that the picture is about, turned so that sound ones have more."""
    image = measure_image(specimen.path.read_bytes(), _RECIPE)
    measures = {"blurred": image.edge_sharpness, "dark": image.detail_brightness, "bright": image.burnt_share}
    measure = measures[specimen.flaw]
    if measure is None:
        raise RuntimeError(f"Cannot score {specimen.path.name}: it has no measures, its failure is {image.failure}.")
    return -measure if specimen.flaw == "bright" else measure


def compute_auc(specimens: Sequence[Specimen], soundness: Sequence[float]) -> float:
    """Return the share of pairs of a sound and a flawed picture in which the sound one scores higher, ties half."""
    scores = np.array(soundness)
    is_flawed = np.array([specimen.is_flawed for specimen in specimens])
    sound, flawed = scores[~is_flawed, None], scores[None, is_flawed]
    return float(np.mean(sound > flawed) + np.mean(sound == flawed) / 2)


def draw_costs(results: Sequence[Result]) -> str:
    """Return the processor time of every program as a chart, one panel for each kind of image."""
    panels: dict[str, list[Bar]] = defaultdict(list)
    for result in results:
        if result.unit == _CPU_UNIT:
            label, name = result.name.split(": ", 1)
            panels[label].append(Bar(name, result.value, name.startswith("Farmy")))
    return draw_bars(
        "What cleansing an image costs",
        "Processor time in milliseconds, one thread; less is better",
        [Panel(label, sorted(bars, key=lambda bar: -bar.value)) for label, bars in panels.items()],
    )


if __name__ == "__main__":
    run_benchmarks("Cleansing", [measure_cleansing], draw_costs)
