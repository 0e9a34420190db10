"""`farmy up` as a person meets it: Dagster's page and Label Studio's in a real browser.

Outcomes are asserted through GraphQL as well, because the page changes with every release of Dagster. With
FARMY_UPDATE_SCREENSHOTS=1 the pictures in docs/images are taken anew.
"""

import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from adapters.label_studio_server import read_credentials
from farmy_assets.jobs import IMAGE_ASSETS
from samples.catalogue import read_subjects
from samples.defects import encode_jpeg
from samples.scenes import compose_scene
from tests.system.farmy_process import Demo, FarmyHome
from tests.system.running_farmy import RunningFarmy, run_farmy_up, wait_until

ASSETS = {
    "raw_images",
    "cleansed_images",
    "near_duplicates",
    "annotation_tasks",
    "annotations",
    "labelled_dataset",
    "label_model",
    "predicted_labels",
    "task_pre_labels",
    "image_catalog",
    "dataset_releases",
}
SENSORS = {"arrivals_sensor", "annotation_progress_sensor", "training_sensor", "failure_sensor"}
SAMPLE_DAYS = ("2026-11-02", "2026-11-03", "2026-11-04")
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
# Dagster shows pictures in a dialog, which would hide the counts that they belong to.
PICTURES_BESIDE_COUNTS = """
    [role=dialog] { width: 600px !important; margin: 210px 0 0 910px !important }
    [role=dialog] img { height: 150px }
    [class*=backdrop] { background: none !important }
"""
# Dagster darkens a page behind a dialog, and would hide what the page says of the job that is about to be launched.
DIALOG_BESIDE_DESCRIPTION = """
    [role=dialog] { width: 700px !important; margin: 95px 0 0 90px !important }
    [class*=backdrop] { background: none !important }
"""
VIEW_HEIGHT_PX = 900
TAKE_IN_TIMEOUT_S = 120
BACKFILL_TIMEOUT_S = 180
IDLE_S = 30
MAX_IDLE_BYTES = 1_300_000_000
PAGE_TIMEOUT_MS = 60_000
"""Pages are slow while other tests use the processors."""

expect.set_options(timeout=PAGE_TIMEOUT_MS)


@dataclass(frozen=True)
class TakenIn:
    """An image that was submitted while `farmy up` ran.

    Attributes:
        token: Its token.
        label_before: What was known of it before any run.
        run_id: The run that took it in.
    """

    token: str
    label_before: dict[str, Any]
    run_id: str


@pytest.fixture(scope="module")
def farmy(demo: Demo) -> Iterator[RunningFarmy]:
    with run_farmy_up(demo.home.path) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail("There is no browser to look at the pages with: install one, `apt-get install chromium` on Debian.")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1600, "height": VIEW_HEIGHT_PX})
    # A first visit is greeted by a dialog that hides the page; and the page needs the room that its menu takes.
    context.add_init_script(
        "localStorage.setItem('communityNux', '1'); localStorage.setItem('dagster-nav-collapsed', 'true')"
    )
    context.set_default_timeout(PAGE_TIMEOUT_MS)
    yield context.new_page()
    context.close()


def save_screenshot(page: Page, name: str, height_px: float = VIEW_HEIGHT_PX) -> None:
    """Keep the picture for the documentation, small enough for a repository, when that is asked for."""
    if os.environ.get("FARMY_UPDATE_SCREENSHOTS") != "1":
        return
    page.mouse.move(5, 895)
    page.wait_for_timeout(1000)
    IMAGES.mkdir(parents=True, exist_ok=True)
    # Maximum coverage keeps the page's few colours beside a photograph's many.
    screenshot = page.screenshot(clip={"x": 0, "y": 0, "width": 1600, "height": height_px})
    picture = Image.open(BytesIO(screenshot)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    picture.save(IMAGES / name, optimize=True)


def test_the_lineage_page_shows_all_assets_materialized(farmy: RunningFarmy, page: Page) -> None:
    page.goto(f"{farmy.dagster_url}/asset-groups")
    expect(page.get_by_text("Global asset lineage")).to_be_visible()
    page.locator("foreignObject").first.wait_for(state="attached")
    page.keyboard.press("Alt+e")  # expands all groups

    for asset in ASSETS:
        expect(page.locator("svg").get_by_text(asset, exact=True).first).to_be_visible()
    page.wait_for_timeout(2000)
    page.get_by_placeholder("Jump to").locator("xpath=following::button[1]").click()
    page.wait_for_timeout(1000)
    frame_graph(page)
    save_screenshot(page, "lineage.png")

    nodes = farmy.ask_dagster("{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }")
    materialized = {node["assetKey"]["path"][0] for node in nodes["assetNodes"] if node["assetMaterializations"]}
    assert materialized == ASSETS


def frame_graph(page: Page) -> None:
    """Make the graph a little larger and move it to the middle of its pane."""
    page.mouse.move(560, 500)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -10)
    page.keyboard.up("Control")
    page.wait_for_timeout(500)
    boxes = [box for node in page.locator("foreignObject").all() if (box := node.bounding_box())]
    left, right = min(box["x"] for box in boxes), max(box["x"] + box["width"] for box in boxes)
    top, bottom = min(box["y"] for box in boxes), max(box["y"] + box["height"] for box in boxes)
    page.mouse.move(700, 870)
    page.mouse.down()
    page.mouse.move(700 + 810 - (left + right) / 2, 870 + 505 - (top + bottom) / 2, steps=5)
    page.mouse.up()


def test_the_page_of_an_asset_shows_counts_and_pictures(farmy: RunningFarmy, page: Page) -> None:
    page.goto(f"{farmy.dagster_url}/assets/cleansed_images?view=partitions&partition=2026-11-04")

    expect(page.get_by_text("rejected: not_an_image")).to_be_visible()
    show_pictures = page.get_by_text("[Show Markdown]")
    if show_pictures.count():
        show_pictures.first.click()
    expect(page.locator("img[alt=thumbnail]").first).to_be_visible()
    page.add_style_tag(content=PICTURES_BESIDE_COUNTS)
    save_screenshot(page, "asset.png")


def test_sensors_and_schedules_run_without_being_switched_on(farmy: RunningFarmy) -> None:
    query = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
        sensors { name sensorState { status ticks(limit: 5) { status } } } schedules { scheduleState { status } }
    } } } }"""

    def read() -> dict[str, Any]:
        repository: dict[str, Any] = farmy.ask_dagster(query)["repositoriesOrError"]["nodes"][0]
        return repository

    wait_until(lambda: all(sensor["sensorState"]["ticks"] for sensor in read()["sensors"]), 90)
    repository = read()

    assert {sensor["name"] for sensor in repository["sensors"]} == SENSORS
    assert {sensor["sensorState"]["status"] for sensor in repository["sensors"]} == {"RUNNING"}
    assert {schedule["scheduleState"]["status"] for schedule in repository["schedules"]} == {"RUNNING"}
    statuses = {tick["status"] for sensor in repository["sensors"] for tick in sensor["sensorState"]["ticks"]}
    assert "FAILURE" not in statuses


def test_label_studio_shows_the_tasks_to_a_signed_in_person(farmy: RunningFarmy, demo: Demo, page: Page) -> None:
    tasks = demo.result["tasks"]
    task_id = find_task_with_boxes(farmy.home)
    credentials = read_credentials(farmy.home.path)

    page.goto(f"{farmy.label_studio_url}/user/login")
    page.fill("input[name=email]", credentials.email)
    page.fill("input[name=password]", credentials.password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("Farmy", exact=True).first.click()
    expect(page.get_by_text(f"Tasks: {tasks} / {tasks}")).to_be_visible()

    page.goto(f"{page.url.split('?')[0]}?task={task_id}")
    page.get_by_text(re.compile(r"^good@far\.\.")).click()
    expect(page.get_by_text("Pot, pan, cup or bucket").first).to_be_visible()
    # The tab of the pre-label, beside those of the three people.
    expect(page.get_by_text("farmy", exact=True).last).to_be_visible()
    page.wait_for_timeout(2000)
    save_screenshot(page, "label_studio.png")


def find_task_with_boxes(home: FarmyHome) -> int:
    """Return the task on which three people agree on two boxes, of those the one with the surest pre-label."""
    sql = """
        SELECT t.task_id FROM labelled_dataset l
        JOIN annotation_tasks t ON t.image_id = l.image_id
        JOIN task_pre_labels p ON p.image_id = l.image_id AND p.class_id = l.class_id
        WHERE l.kind = 'box' AND NOT l.is_conflict
        GROUP BY t.task_id HAVING count(*) > 1 AND min(l.votes_for) = 3 ORDER BY min(p.confidence) DESC LIMIT 1
    """
    return int(home.run_json("query", sql)[0]["task_id"])


def test_an_idle_farmy_up_needs_little_memory(farmy: RunningFarmy, capsys: pytest.CaptureFixture[str]) -> None:
    time.sleep(IDLE_S)
    memory = [process.memory_full_info() for process in farmy.list_processes()]

    uss_bytes, pss_bytes = sum(info.uss for info in memory), sum(info.pss for info in memory)

    with capsys.disabled():
        print(f"\nidle: {len(memory)} processes, USS {uss_bytes / 1e6:.0f} MB, PSS {pss_bytes / 1e6:.0f} MB")  # noqa: T201
    assert pss_bytes < MAX_IDLE_BYTES


@pytest.fixture(scope="module")
def taken_in(farmy: RunningFarmy, tmp_path_factory: pytest.TempPathFactory) -> TakenIn:
    photograph = tmp_path_factory.mktemp("photographs") / "new.jpg"
    photograph.write_bytes(encode_jpeg(compose_scene(read_subjects()[3], random.Random("browser")).image))
    token = farmy.home.run_json("submit", str(photograph))["images"][0]["token"]
    label_before = farmy.home.run_json("label", token)
    wait_until(lambda: list_successful_runs(farmy, "arrivals_sensor") != [], TAKE_IN_TIMEOUT_S, pause_s=2)
    [run_id] = list_successful_runs(farmy, "arrivals_sensor")
    return TakenIn(token, label_before, run_id)


def list_successful_runs(farmy: RunningFarmy, sensor: str) -> list[str]:
    """Return the ids of those runs that a sensor asked for and that succeeded; a failed one fails the test at once."""
    query = f"""{{ runsOrError(filter: {{tags: [{{key: "dagster/sensor_name", value: "{sensor}"}}]}}) {{
        ... on Runs {{ results {{ runId status }} }}
    }} }}"""
    runs = farmy.ask_dagster(query)["runsOrError"]["results"]
    assert "FAILURE" not in {run["status"] for run in runs}
    return [run["runId"] for run in runs if run["status"] == "SUCCESS"]


def test_the_daemon_takes_a_submitted_image_in_by_itself(farmy: RunningFarmy, taken_in: TakenIn) -> None:
    after = farmy.home.run_json("label", taken_in.token)

    assert taken_in.label_before == {"token": taken_in.token, "status": "NOT_CLASSIFIED", "labels": []}
    assert after["status"] == "CLASSIFIED"
    assert all(0 <= label["confidence"] <= 1 for label in after["labels"])


def test_a_backfill_over_three_days_computes_nothing_where_nothing_is_stale(farmy: RunningFarmy, page: Page) -> None:
    page.goto(f"{farmy.dagster_url}/locations/farmy/jobs/images_job")
    expect(page.get_by_text("What a run would do")).to_be_visible()
    expect(page.get_by_text(re.compile("is up to date"))).to_be_visible()
    page.get_by_role("button", name="Materialize all").click()
    choose_sample_days(page)
    page.add_style_tag(content=DIALOG_BESIDE_DESCRIPTION)
    dialog = page.get_by_role("dialog").bounding_box()
    assert dialog is not None
    save_screenshot(page, "backfill.png", height_px=dialog["y"] + dialog["height"] + 20)

    run = launch_backfill(farmy, page)

    counts = read_counts(run)
    assert counts.keys() == set(product(IMAGE_ASSETS, SAMPLE_DAYS))
    assert {count["rows_computed"] for count in counts.values()} == {0}
    assert sum(counts["cleansed_images", day]["keys_unchanged"] for day in SAMPLE_DAYS) > 0


def test_a_forced_backfill_over_three_days_computes_all_rows(farmy: RunningFarmy, demo: Demo, page: Page) -> None:
    page.goto(f"{farmy.dagster_url}/assets/cleansed_images")
    page.get_by_role("button", name="Materialize").first.click()
    choose_sample_days(page)
    page.get_by_role("dialog").get_by_text("Tags", exact=True).click()
    page.get_by_role("button", name="Add tags").click()
    page.get_by_placeholder("Tag Key").fill("farmy/force")
    page.get_by_placeholder("Tag Value").fill("true")
    page.get_by_role("button", name="Apply").click()

    run = launch_backfill(farmy, page)

    counts = read_counts(run)
    assert counts.keys() == {("cleansed_images", day) for day in SAMPLE_DAYS}
    assert all(count["rows_computed"] == count["dagster/row_count"] for count in counts.values())
    assert sum(count["rows_computed"] for count in counts.values()) == demo.result["images_distinct"]


def choose_sample_days(page: Page) -> None:
    """Choose the days of the samples in the dialog that launches a backfill."""
    dialog = page.get_by_role("dialog")
    # At first it offers only the last 90 days.
    dialog.get_by_text("Show all partitions").click()
    days = dialog.get_by_role("textbox").first
    days.fill(f"[{SAMPLE_DAYS[0]}...{SAMPLE_DAYS[-1]}]")
    days.press("Enter")
    expect(dialog.get_by_text(f"{len(SAMPLE_DAYS)} partitions", exact=True)).to_be_visible()


def launch_backfill(farmy: RunningFarmy, page: Page) -> dict[str, Any]:
    """Launch the backfill that the dialog offers, wait for its end, and return its only run."""
    before = list_backfills(farmy)
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()
    [backfill_id] = list_backfills(farmy).keys() - before.keys()
    page.goto(f"{farmy.dagster_url}/runs/b/{backfill_id}")

    wait_until(lambda: has_ended_well(list_backfills(farmy)[backfill_id]), BACKFILL_TIMEOUT_S, pause_s=2)
    expect(page.get_by_text("100% completed")).to_be_visible()

    backfill = list_backfills(farmy)[backfill_id]
    assert backfill["partitionNames"] == list(SAMPLE_DAYS)
    [run] = backfill["runs"]
    assert run["status"] == "SUCCESS"
    return dict(run)


def list_backfills(farmy: RunningFarmy) -> dict[str, dict[str, Any]]:
    """Return what Dagster says of each backfill, by its id."""
    query = """{ partitionBackfillsOrError(limit: 10) { ... on PartitionBackfills { results {
        id status partitionNames runs(limit: 10) { status assetMaterializations {
            assetKey { path } partition metadataEntries { label ... on IntMetadataEntry { intValue } }
        } }
    } } } }"""
    return {backfill["id"]: backfill for backfill in farmy.ask_dagster(query)["partitionBackfillsOrError"]["results"]}


def has_ended_well(backfill: dict[str, Any]) -> bool:
    """Tell whether a backfill has ended; one that went wrong fails the test at once."""
    status = backfill["status"]
    assert "FAIL" not in status, f"backfill {backfill['id']}: {status}"
    return bool(status == "COMPLETED_SUCCESS")


def read_counts(run: dict[str, Any]) -> dict[tuple[str, str], dict[str, int]]:
    """Return the numbers that a run reported, by asset and day."""
    return {
        (materialization["assetKey"]["path"][0], materialization["partition"]): {
            entry["label"]: entry["intValue"] for entry in materialization["metadataEntries"] if "intValue" in entry
        }
        for materialization in run["assetMaterializations"]
    }


def test_the_page_shows_the_run_that_the_arrivals_sensor_asked_for(
    farmy: RunningFarmy, taken_in: TakenIn, page: Page
) -> None:
    trace = farmy.home.run_json("trace", taken_in.token)
    [day] = {arrival["ingest_date"] for arrival in trace["arrivals"]}

    page.goto(f"{farmy.dagster_url}/locations/farmy/sensors/arrivals_sensor")
    page.get_by_role("button", name="Runs", exact=True).click()
    expect_run_of_sensor(page, taken_in.run_id, day)
    page.goto(f"{farmy.dagster_url}/runs")
    row = expect_run_of_sensor(page, taken_in.run_id, day).bounding_box()
    assert row is not None
    save_screenshot(page, "runs.png", height_px=row["y"] + row["height"])

    assert {run["run_id"] for run in trace["runs"] if run["table"] == "raw_images"} == {taken_in.run_id}
    query = f'{{ runOrError(runId: "{taken_in.run_id}") {{ ... on Run {{ status tags {{ key value }} }} }} }}'
    run = farmy.ask_dagster(query)["runOrError"]
    assert run["status"] == "SUCCESS"
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert (tags["dagster/sensor_name"], tags["dagster/partition"]) == ("arrivals_sensor", day)


def expect_run_of_sensor(page: Page, run_id: str, day: str) -> Locator:
    """Make sure that a list of runs shows a run as the arrivals sensor's, with its day; return its row."""
    row = page.get_by_role("link", name=run_id[:8]).locator("xpath=ancestor::div[@data-index]")
    for text in ("images_job", "arrivals_sensor", f"partition: {day}", "Success"):
        expect(row).to_contain_text(text)
    return row
