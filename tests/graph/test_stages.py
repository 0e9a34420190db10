"""What there is to do, told from tables and notes alone."""

from dataclasses import replace
from datetime import date

import pytest

from adapters import inbox
from adapters.lake import Lake
from farmy_assets import stages
from farmy_assets.day_runs import DayStage
from farmy_assets.stages import find_work
from lakehouse.quality import QualitySettings, SuspectLimits
from tests.graph.lakes import DAY_1, DAY_2, IMAGE_TABLES, land, make_picture, open_lake, take_in

DAYS = [DAY_1, DAY_2]


def fill(lake: Lake) -> None:
    land(lake, "one.jpg", make_picture(1), DAY_1)
    land(lake, "two.jpg", make_picture(2), DAY_2)
    take_in(lake, DAYS)
    assert find_work(lake, DAYS, IMAGE_TABLES) is None


def test_a_waiting_note_is_work_on_its_day_alone(lake: Lake) -> None:
    fill(lake)
    land(lake, "three.jpg", make_picture(3), DAY_2)
    inbox.note_all_arrivals(lake)
    assert find_work(lake, DAYS, IMAGE_TABLES) == "raw_images"
    assert find_work(lake, [DAY_1], IMAGE_TABLES) is None


def test_the_first_asset_that_is_behind_is_named(lake: Lake) -> None:
    land(lake, "one.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1], ["raw_images", "cleansed_images"])
    assert find_work(lake, [DAY_1], ["raw_images", "cleansed_images"]) is None
    assert find_work(lake, [DAY_1], IMAGE_TABLES) == "near_duplicates"


def test_another_setting_is_work_although_nothing_was_to_do_before(lake: Lake) -> None:
    fill(lake)
    with open_lake(lake.settings.home, quality=QualitySettings(suspect=SuspectLimits(min_sharpness=1e9))) as changed:
        assert find_work(changed, DAYS, IMAGE_TABLES) == "cleansed_images"


def test_another_code_version_is_work_although_nothing_was_to_do_before(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake)
    newer = tuple(
        replace(stage, code_version="2") if stage.table == "image_catalog" else stage for stage in stages.STAGES
    )
    monkeypatch.setattr(stages, "STAGES", newer)
    looked: list[str] = []

    def look(_lake: Lake, stage: DayStage, _day: date) -> int:
        looked.append(stage.table)
        return 0

    monkeypatch.setattr(stages, "count_stale", look)
    assert find_work(lake, DAYS, IMAGE_TABLES) is None
    assert "image_catalog" in looked


def test_where_nothing_was_found_nothing_is_looked_for_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake)

    def look(_lake: Lake, _stage: object, _day: object) -> int:
        raise AssertionError("the tables were read again")

    monkeypatch.setattr(stages, "count_stale", look)
    assert find_work(lake, DAYS, IMAGE_TABLES) is None
