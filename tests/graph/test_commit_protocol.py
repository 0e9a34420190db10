"""The commit protocol of `farmy_assets.day_runs` under another run's commits."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adapters.lake import Lake
from adapters.settings import load_settings
from farmy_assets.day_runs import DayStage, Wanted, update_day
from lakehouse.schemas import NEAR_DUPLICATES

DAY = date(2026, 11, 2)
ABOUT: dict[str, Any] = {"description": None, "group": "images", "deps": (), "kind": "python", "code_version": "1"}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(load_settings(home=tmp_path)) as lake:
        yield lake


def build_rows(*image_ids: str) -> pa.Table:
    row = {
        "ingest_date": DAY,
        "landed_at": datetime(2026, 11, 2, tzinfo=UTC),
        "leader_image_id": "leader",
        "leader_ingest_date": DAY,
        "distance": 0,
        "perceptual_hash": 0,
        "hash_band_0": 0,
        "hash_band_1": 0,
        "hash_band_2": 0,
        "fingerprint": "same",
    }
    return pa.Table.from_pylist([{"image_id": image_id, **row} for image_id in image_ids], schema=NEAR_DUPLICATES)


def commit(lake: Lake, rows: pa.Table) -> None:
    read = lake.tables.read_day("near_duplicates", DAY)
    lake.tables.commit_day("near_duplicates", DAY, read=read, rows=rows, append=True)


def read_image_ids(lake: Lake) -> list[str]:
    return sorted(lake.tables.read("near_duplicates", day=DAY).column("image_id").to_pylist())


def test_a_row_that_another_run_commits_while_this_one_selects_is_not_lost(lake: Lake) -> None:
    rounds: list[Any] = []

    def select(lake: Lake, day: date) -> Wanted:
        standing = lake.tables.read("near_duplicates", day=day)
        if not rounds:
            commit(lake, build_rows("theirs"))
        rounds.append(standing.num_rows)
        return Wanted(
            pa.concat_tables([standing, build_rows("ours")]) if "ours" not in read_image_ids(lake) else standing
        )

    update_day(lake, DayStage("near_duplicates", **ABOUT, select=select), DAY, run_id="ours")
    assert rounds == [0, 1]
    assert read_image_ids(lake) == ["ours", "theirs"]


def test_a_row_that_another_run_commits_while_this_one_computes_is_not_lost(lake: Lake) -> None:
    rounds: list[Any] = []

    def select(lake: Lake, day: date) -> Wanted:
        standing = lake.tables.read("near_duplicates", day=day)
        return Wanted(pa.concat_tables([standing, build_rows("ours")]))

    def compute(lake: Lake, stale: pa.Table) -> pa.Table:
        if not rounds:
            commit(lake, build_rows("theirs"))
        rounds.append(stale.column("image_id").to_pylist())
        return stale

    update_day(lake, DayStage("near_duplicates", **ABOUT, select=select, compute=compute), DAY, run_id="ours")
    assert rounds == [["ours"], ["ours"]]
    assert read_image_ids(lake) == ["ours", "theirs"]


def test_notes_are_deleted_only_after_the_day_is_settled(lake: Lake) -> None:
    lake.objects.create("inbox/note", b"{}")
    seen: list[Any] = []

    def settle(lake: Lake, rows: pa.Table) -> None:
        seen.append((rows.num_rows, lake.objects.exists("inbox/note"), read_image_ids(lake)))

    stage = DayStage(
        "near_duplicates", **ABOUT, select=lambda _lake, _day: Wanted(build_rows("a"), ["inbox/note"]), settle=settle
    )
    update_day(lake, stage, DAY, run_id="ours")
    assert seen == [(1, True, ["a"])]
    assert not lake.objects.exists("inbox/note")
