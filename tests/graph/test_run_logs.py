"""What runs write to the structured logs."""

import json
from typing import Any

import duckdb
import pytest

from adapters.lake import Lake
from cli.runs import run_assets
from lakehouse.errors import FarmyError
from tests.graph.lakes import DAY_1, DAY_2, FailingObjects, land, make_picture, take_in

ASSETS = ("raw_images", "cleansed_images")


def read_lines(lake: Lake) -> list[dict[str, Any]]:
    paths = sorted((lake.settings.home / "logs").glob("farmy-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_each_day_of_each_asset_says_what_was_done(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "2.jpg", make_picture(2), DAY_2)
    take_in(lake, [DAY_1, DAY_2], ASSETS)

    lines = [line for line in read_lines(lake) if line["logger"] == "farmy.runs"]
    assert [(line["asset"], line["day"]) for line in lines] == [
        (asset, day.isoformat()) for asset in ASSETS for day in (DAY_1, DAY_2)
    ]
    assert len({line["run_id"] for line in lines}) == 1
    assert all("1 rows, 1 computed" in line["message"] for line in lines)


def test_each_image_that_is_not_clean_is_named_with_its_reason(lake: Lake) -> None:
    land(lake, "good.jpg", make_picture(1), DAY_1)
    land(lake, "tiny.jpg", make_picture(2, (20, 20)), DAY_1)
    take_in(lake, [DAY_1], ASSETS)

    (line,) = [line for line in read_lines(lake) if line["logger"] == "farmy.verdicts"]
    (rejected,) = [row for row in lake.tables.read("cleansed_images").to_pylist() if row["status"] != "clean"]
    assert (line["image_id"], line["reason"]) == (rejected["image_id"], "too_small")
    assert (line["asset"], line["day"], line["level"]) == ("cleansed_images", DAY_1.isoformat(), "info")
    assert line["message"] == "The image is rejected: too_small."


def test_a_run_that_fails_says_why_on_which_day(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    land(lake, "2.jpg", make_picture(2), DAY_1)
    take_in(lake, [DAY_1], ["raw_images"])
    lake.objects = FailingObjects(lake.objects, 1)
    with pytest.raises(FarmyError, match="the storage fails"):
        run_assets(lake, [DAY_1], ["cleansed_images"])

    (line,) = [line for line in read_lines(lake) if line["logger"] == "farmy.runs" and line["level"] == "error"]
    assert line["error_type"] == "StorageError"
    assert "the storage fails, as the test wants" in line["error_message"]
    assert (line["asset"], line["day"]) == ("cleansed_images", DAY_1.isoformat())


def test_the_query_of_the_documents_finds_the_lines_of_a_run(lake: Lake) -> None:
    land(lake, "1.jpg", make_picture(1), DAY_1)
    take_in(lake, [DAY_1], ASSETS)

    files = lake.settings.home / "logs" / "farmy-*.jsonl"
    lines = duckdb.execute(
        "SELECT asset, message FROM read_json(?, union_by_name = true) WHERE day = ?", [str(files), DAY_1]
    )
    assert {asset for asset, _ in lines.fetchall()} == set(ASSETS)
