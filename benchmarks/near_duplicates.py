"""Near duplicates: what the search costs against faiss, which copies are found, and what is taken for one that is none.

The search is that of a run, `adapters.near_leaders`, over a real table of twenty days in a folder that is removed at
the end: planning, reading and checking included, start-up of Python and imports left out. faiss has its hashes in one
file. Both find all pairs within 8 bits, in turns, in processor time.

Copies and unrelated pictures go through the cleansing itself, from JPEG to hashes. Photographs and scenes are those of
`samples`; `benchmarks.unrelated_pictures` says what the others are.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg

from adapters.near_leaders import find_near_leaders
from adapters.tables import DayRows, Tables, open_sqlite_tables
from benchmarks.peers import run_peer
from benchmarks.results import Result, run_benchmarks
from benchmarks.unrelated_pictures import Pixels, compose_sparse, compose_unrelated
from lakehouse.cleansing import cleanse_image
from lakehouse.near_duplicates import HASHES, NearDuplicateSettings, count_differing_bits
from lakehouse.quality import CleansingRecipe
from lakehouse.schemas import NEAR_DUPLICATES
from samples.catalogue import load_photograph, read_credits, read_subjects
from samples.scenes import compose_scene

SEARCH_GOAL_CPU_S = 0.4
FAISS_GOAL_TIMES = 12
COPIES_GOAL = 0.995
CROP_GOAL = 0.95

LEADERS = (100_000, 1_000_000, 10_000_000)
NEW_IMAGES = 1000
DAYS = 20
RUNS = 3
ORIGINALS = 600
UNRELATED = 20_000
SPARSE = 2000

_FIRST_DAY = date(2026, 1, 1)
_SETTINGS = NearDuplicateSettings()
_ORIGINAL_EDGE_PX = 720
_UNRELATED_EDGE_PX = 512

Hashes = npt.NDArray[np.int64]
Change = Callable[[Pixels, random.Random], Pixels]


def measure_near_duplicates(_images: Path | None) -> list[Result]:
    """Measure search, copies and unrelated pictures; a folder of images says nothing of what in it is a copy."""
    return [*measure_search(), *measure_copies(), *measure_unrelated()]


def measure_search() -> list[Result]:
    """Measure the search at every size, and with leaders that are not as evenly spread as random numbers."""
    results = []
    for count in LEADERS:
        leaders = make_hashes(count, seed=1)
        is_largest = count == max(LEADERS)
        with tempfile.TemporaryDirectory(prefix="farmy-benchmark-") as folder:
            tables = write_leaders(Path(folder), leaders)
            results += _compare_with_faiss(Path(folder), tables, leaders, is_largest=is_largest)
            if is_largest:
                known = tuple(_time_search(tables, make_new_images(leaders, known=100)) for _ in range(RUNS))
                results.append(Result(f"the same, 100 of them near a leader of any of {DAYS} days", "CPU s", known))
    return [*results, *_measure_skewed()]


def _compare_with_faiss(folder: Path, tables: Tables, leaders: Hashes, *, is_largest: bool) -> list[Result]:
    new = make_new_images(leaders, known=1)
    np.save(folder / "leaders.npy", leaders[:, 0].copy())
    np.save(folder / "new.npy", new[HASHES[0]].to_numpy())
    ours, theirs = [], []
    _time_search(tables, new)
    for _ in range(RUNS):
        ours.append(_time_search(tables, new))
        peer = run_peer("faiss_flat", folder / "leaders.npy", folder / "new.npy", _SETTINGS.max_distance)
        theirs.append(float(peer["cpu_s"]))
    what = f"{NEW_IMAGES:,} new images against {len(leaders):,} leaders, distance up to {_SETTINGS.max_distance}"
    times = tuple(their / our for our, their in zip(ours, theirs, strict=True))
    return [
        Result(what, "CPU s", tuple(ours), at_most=SEARCH_GOAL_CPU_S if is_largest else None),
        Result(f"{what}, faiss flat", "CPU s", tuple(theirs)),
        Result(f"{what}, faiss flat over ours", "times", times, at_least=FAISS_GOAL_TIMES if is_largest else None),
    ]


def _measure_skewed() -> list[Result]:
    count = 1_000_000
    leaders = make_hashes(count, seed=2)
    results = []
    for what, tenth in (("too plain to have hashes", None), ("with one perceptual hash", leaders[0, 0])):
        with tempfile.TemporaryDirectory(prefix="farmy-benchmark-") as folder:
            skewed = leaders.copy()
            if tenth is not None:
                skewed[::10, 0] = tenth
            tables = write_leaders(Path(folder), skewed, has_plain=tenth is None)
            new = make_new_images(skewed, known=1)
            runs = tuple(_time_search(tables, new) for _ in range(RUNS))
        results.append(Result(f"{NEW_IMAGES:,} against {count:,}, of which a tenth {what}", "CPU s", runs))
    return results


def make_hashes(count: int, seed: int) -> Hashes:
    """Return count x 3 random hashes."""
    return np.random.default_rng(seed).integers(-(2**63), 2**63, (count, len(HASHES)), np.int64)


def make_new_images(leaders: Hashes, known: int) -> pa.Table:
    """Return new images of a day after all leaders; the first ones differ by three bits from leaders of any day."""
    hashes = make_hashes(NEW_IMAGES, seed=3)
    hashes[:known] = leaders[np.linspace(0, len(leaders) - 1, known, dtype=np.int64)]
    hashes[:known, 0] ^= 0b10101
    days = {"ingest_date": pa.array([_FIRST_DAY + timedelta(days=DAYS)] * NEW_IMAGES, pa.date32())}
    names = {"image_id": pa.array([f"new-{number:04}" for number in range(NEW_IMAGES)])}
    return pa.table(names | days | dict(zip(HASHES, hashes.T.copy(), strict=True)))


def write_leaders(folder: Path, leaders: Hashes, *, has_plain: bool = False) -> Tables:
    """Commit leaders to a new table, as many on each of twenty days.

    Args:
        folder: Exists, and is empty.
        leaders: Their hashes.
        has_plain: Whether every tenth is without hashes.
    """
    tables = open_sqlite_tables(str(folder / "catalog.db"), f"file://{folder}/tables")
    nothing = DayRows(NEAR_DUPLICATES.empty_table(), frozenset())
    rng = np.random.default_rng(4)
    for number, hashes in enumerate(np.array_split(leaders, DAYS)):
        day = _FIRST_DAY + timedelta(days=number)
        tables.commit_day("near_duplicates", day, read=nothing, rows=_build_rows(hashes, day, rng, has_plain=has_plain))
    return tables


def _build_rows(hashes: Hashes, day: date, rng: np.random.Generator, *, has_plain: bool) -> pa.Table:
    count = len(hashes)
    digits = rng.bytes(32 * count).hex()
    image_ids = pa.array([digits[start : start + 64] for start in range(0, len(digits), 64)])
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    is_plain = (np.arange(count) % 10 == 5) & has_plain
    return pa.table(
        {
            "image_id": image_ids,
            "ingest_date": pa.array([day] * count, pa.date32()),
            "landed_at": pa.array(midnight + rng.integers(0, 86_400_000_000, count), pa.timestamp("us", "UTC")),
            "leader_image_id": image_ids,
            "leader_ingest_date": pa.array([day] * count, pa.date32()),
            "distance": pa.array(np.zeros(count, np.int32)),
            **{name: pa.array(hashes[:, place], mask=is_plain) for place, name in enumerate(HASHES)},
            "fingerprint": image_ids,
        }
    )


def _time_search(tables: Tables, new: pa.Table) -> float:
    started = time.process_time()
    found = find_near_leaders(tables, new, _SETTINGS)
    taken = time.process_time() - started
    if found.num_rows == 0:
        raise RuntimeError("the search found none of the leaders that were put before it: the measurement is void")
    return taken


def measure_copies() -> list[Result]:
    """Measure what share of changed copies is near its original."""
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        found = list(processes.map(_find_copies, range(ORIGINALS), chunksize=5))
    plain = sum(one is None for one in found)
    results = [Result(f"originals too plain to have hashes, of {ORIGINALS}", "images", (float(plain),))]
    for what, goal in _COPIES.items():
        shares = [one[name] for one in found if one is not None for name in what[1]]
        results.append(Result(f"copies found: {what[0]}", "share", (float(np.mean(shares)),), at_least=goal))
    return results


def _find_copies(number: int) -> dict[str, bool] | None:
    """Return of each changed copy of an original whether it is near it; None if the original is too plain."""
    original = _make_original(number)
    hashes = _hash_pixels(original, 90)
    if hashes is None:
        return None
    found = {}
    for name, change in _CHANGES.items():
        rng = random.Random(f"{number}/{name}")
        copy = _hash_pixels(change(original, rng), rng.randint(30, 80) if name == "recompressed" else 85)
        found[name] = copy is not None and bool(_are_near(hashes, copy[None])[0])
    return found


def _make_original(number: int) -> Pixels:
    """Return by turns a photograph or most of one, a sample scene, and a composed picture."""
    rng = random.Random(f"{number}/original")
    match number % 3:
        case 0:
            files = [credit.file for credit in read_credits()]
            photograph = np.asarray(load_photograph(files[number // 3 % len(files)]))
            if number // 3 >= len(files):
                photograph = _cut(photograph, [rng.uniform(0, 0.2) for _ in range(4)])
            scale = _ORIGINAL_EDGE_PX / max(photograph.shape)
            return _resize(photograph, scale, cv2.INTER_CUBIC)
        case 1:
            subjects = read_subjects()
            return np.asarray(compose_scene(subjects[number // 3 % len(subjects)], rng).image.convert("RGB"))
        case _:
            return compose_unrelated(UNRELATED + number, _ORIGINAL_EDGE_PX)


def _resize(pixels: Pixels, scale: float, interpolation: int = cv2.INTER_AREA) -> Pixels:
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8)


def _cut(pixels: Pixels, shares: Iterable[float]) -> Pixels:
    """Take shares of the height or width away: top, bottom, left, right."""
    height, width = pixels.shape[:2]
    top, bottom, left, right = shares
    return pixels[
        round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)
    ]


def _expose(pixels: Pixels, factor: float, offset: float) -> Pixels:
    return np.asarray(np.clip(pixels * factor + offset, 0, 255), np.uint8)


def _cut_one_side(pixels: Pixels, rng: random.Random, share: float) -> Pixels:
    side = rng.randrange(4)
    return _cut(pixels, [share if place == side else 0 for place in range(4)])


def _cut_some_sides(pixels: Pixels, rng: random.Random, share: float) -> Pixels:
    sides = rng.sample(range(4), rng.randint(1, 4))
    return _cut(pixels, [share if place in sides else 0 for place in range(4)])


_CHANGES: dict[str, Change] = {
    "resized": lambda pixels, rng: _resize(pixels, rng.uniform(0.25, 0.9)),
    "recompressed": lambda pixels, _: pixels,
    "brighter or darker": lambda pixels, rng: _expose(pixels, rng.uniform(0.7, 1.3), 0),
    "raised or lowered": lambda pixels, rng: _expose(pixels, 1, rng.uniform(-30, 30)),
    "2 % off one side": partial(_cut_one_side, share=0.02),
    "2 % off some sides": partial(_cut_some_sides, share=0.02),
    "2 % off all sides": lambda pixels, _: _cut(pixels, [0.02] * 4),
    "1 % off all sides": lambda pixels, _: _cut(pixels, [0.01] * 4),
    "5 % off one side": partial(_cut_one_side, share=0.05),
    "5 % off some sides": partial(_cut_some_sides, share=0.05),
}
_UNCUT = ("resized", "recompressed", "brighter or darker", "raised or lowered")
_COPIES: dict[tuple[str, tuple[str, ...]], float | None] = {
    ("resized, recompressed, brightness changed, together", _UNCUT): COPIES_GOAL,
    ("resized to 25 to 90 %", ("resized",)): None,
    ("recompressed at quality 30 to 80", ("recompressed",)): None,
    ("brightness times 0.7 to 1.3", ("brighter or darker",)): None,
    ("brightness plus -30 to 30", ("raised or lowered",)): None,
    ("2 % of width or height cut off at one random side", ("2 % off one side",)): CROP_GOAL,
    ("2 % cut off at each of one to four random sides", ("2 % off some sides",)): CROP_GOAL,
    ("2 % cut off at all four sides", ("2 % off all sides",)): CROP_GOAL,
    ("1 % cut off at all four sides", ("1 % off all sides",)): None,
    ("5 % cut off at one random side", ("5 % off one side",)): None,
    ("5 % cut off at each of one to four random sides", ("5 % off some sides",)): None,
}


def measure_unrelated() -> list[Result]:
    """Count the pairs of unrelated pictures that are near."""
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        unrelated = list(processes.map(_hash_unrelated, range(UNRELATED), chunksize=50))
        sparse = list(processes.map(_hash_sparse, range(SPARSE), chunksize=50))
    pairs, pairs_by_one_hash = _count_near_pairs(unrelated)
    sparse_pairs, _ = _count_near_pairs(sparse)
    share = sparse_pairs / (SPARSE * (SPARSE - 1) / 2) * 1e6
    return [
        Result(f"pairs taken for near among {UNRELATED:,} unrelated pictures", "pairs", (float(pairs),), at_most=0),
        Result("the same by the perceptual hash alone", "pairs", (float(pairs_by_one_hash),)),
        Result(f"pairs among {SPARSE:,} pictures of a few specks on even ground", "per million", (share,)),
    ]


def _hash_unrelated(number: int) -> Hashes | None:
    return _hash_pixels(compose_unrelated(number, _UNRELATED_EDGE_PX), 88)


def _hash_sparse(number: int) -> Hashes | None:
    return _hash_pixels(compose_sparse(number, _UNRELATED_EDGE_PX), 88)


def _hash_pixels(pixels: Pixels, quality: int) -> Hashes | None:
    """Return the hashes that cleansing gives a JPEG of the pixels; None if they are too plain."""
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colorsubsampling="420")
    image = cleanse_image(data, CleansingRecipe())
    hashes = [image.perceptual_hash, image.detail_hash, image.strength_hash]
    return None if None in hashes else np.array(hashes, np.int64)


def _count_near_pairs(pictures: Iterable[Hashes | None]) -> tuple[int, int]:
    """Return how many pairs are near, and how many by the perceptual hash alone."""
    hashes = np.array([picture for picture in pictures if picture is not None])
    near, near_by_one = 0, 0
    for place in range(len(hashes) - 1):
        others = hashes[place + 1 :]
        candidates = others[count_differing_bits(others[:, 0], hashes[place, 0]) <= _SETTINGS.max_distance]
        near_by_one += len(candidates)
        near += int(_are_near(hashes[place], candidates).sum())
    return near, near_by_one


def _are_near(one: Hashes, others: Hashes) -> npt.NDArray[np.bool_]:
    differing = count_differing_bits(others, one)
    is_near = differing[:, 0] <= _SETTINGS.max_distance
    return np.asarray(is_near & (differing[:, 1:].sum(axis=1) <= _SETTINGS.max_detail_distance))


if __name__ == "__main__":
    run_benchmarks("Near duplicates", [measure_near_duplicates])
