"""`farmy up` as a person meets it: Dagster's page and Label Studio's in a real browser, and what is left at the end.

Outcomes are asserted through GraphQL as well, because the page changes with every release of Dagster. With
FARMY_UPDATE_SCREENSHOTS=1 the pictures in docs/images are taken anew.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from adapters.label_studio_server import read_credentials
from samples.catalogue import read_subjects
from samples.defects import encode_jpeg
from samples.scenes import compose_scene
from tests.system.farmy_process import FARMY, Demo, FarmyHome, find_free_ports

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
SENSORS = {"arrivals_sensor", "annotation_progress_sensor", "training_sensor"}
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
# Dagster shows pictures in a dialog, which would hide the counts that they belong to.
PICTURES_BESIDE_COUNTS = """
    [role=dialog] { width: 600px !important; margin: 210px 0 0 910px !important }
    [role=dialog] img { height: 150px }
    [class*=backdrop] { background: none !important }
"""
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
TAKE_IN_TIMEOUT_S = 120
IDLE_S = 30
MAX_IDLE_BYTES = 1_300_000_000
PAGE_TIMEOUT_MS = 60_000
"""Pages are slow while other tests use the processors."""

expect.set_options(timeout=PAGE_TIMEOUT_MS)


@dataclass(frozen=True)
class RunningFarmy:
    """A `farmy up` that has printed its addresses."""

    process: subprocess.Popen[str]
    home: FarmyHome
    dagster_port: int
    label_studio_port: int

    @property
    def dagster_url(self) -> str:
        return f"http://127.0.0.1:{self.dagster_port}"

    @property
    def label_studio_url(self) -> str:
        return f"http://127.0.0.1:{self.label_studio_port}"

    def list_processes(self) -> list[psutil.Process]:
        """Return `farmy up` and all that it started."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def ask_dagster(self, query: str) -> dict[str, Any]:
        """Return the data that a GraphQL query asks for."""
        answer = httpx.post(f"{self.dagster_url}/graphql", json={"query": query}, timeout=30).json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data


@contextmanager
def run_farmy_up(home: Path, *, in_background: bool = False) -> Iterator[RunningFarmy]:
    """Start `farmy up` on free ports; whatever is left of it at the end is killed.

    Args:
        home: The home.
        in_background: Whether to start it as `farmy up &` in a script does, with Ctrl-C ignored.
    """
    dagster_port, label_studio_port = find_free_ports(2)
    ports = {"FARMY_DAGSTER_PORT": str(dagster_port), "FARMY_LABEL_STUDIO_PORT": str(label_studio_port)}
    farmy_home = FarmyHome(home, ports)
    output, notices = home / "up.out", home / "up.err"
    with output.open("w") as out, notices.open("w") as err:
        process = subprocess.Popen(
            ["/bin/sh", "-c", "trap '' INT; exec \"$0\" up", FARMY] if in_background else [FARMY, "up"],
            env=farmy_home.environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            start_new_session=True,
        )
    running = RunningFarmy(process, farmy_home, dagster_port, label_studio_port)
    started: list[psutil.Process] = []
    try:
        wait_until(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, START_TIMEOUT_S)
        assert process.poll() is None, f"farmy up ended at once: {notices.read_text()}"
        started = running.list_processes()
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
        for survivor in psutil.wait_procs(started, 1)[1]:
            survivor.kill()


def wait_until(is_true: Callable[[], bool], timeout_s: float, pause_s: float = 0.5) -> None:
    """Wait until something becomes true; fail if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(pause_s)


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
    context = browser.new_context(viewport={"width": 1600, "height": 900})
    # A first visit is greeted by a dialog that hides the page; and the page needs the room that its menu takes.
    context.add_init_script(
        "localStorage.setItem('communityNux', '1'); localStorage.setItem('dagster-nav-collapsed', 'true')"
    )
    context.set_default_timeout(PAGE_TIMEOUT_MS)
    yield context.new_page()
    context.close()


def save_screenshot(page: Page, name: str) -> None:
    """Keep the picture for the documentation, small enough for a repository, when that is asked for."""
    if os.environ.get("FARMY_UPDATE_SCREENSHOTS") != "1":
        return
    page.mouse.move(5, 895)
    page.wait_for_timeout(1000)
    IMAGES.mkdir(parents=True, exist_ok=True)
    # Maximum coverage keeps the page's few colours beside a photograph's many.
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
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


def test_the_daemon_takes_a_submitted_image_in_by_itself(farmy: RunningFarmy, tmp_path: Path) -> None:
    photograph = tmp_path / "new.jpg"
    photograph.write_bytes(encode_jpeg(compose_scene(read_subjects()[3], random.Random("browser")).image))

    token = farmy.home.run_json("submit", str(photograph))["images"][0]["token"]
    before = farmy.home.run_json("label", token)
    wait_until(lambda: has_succeeded(farmy, "images_job"), TAKE_IN_TIMEOUT_S, pause_s=2)
    after = farmy.home.run_json("label", token)

    assert before == {"token": token, "status": "NOT_CLASSIFIED", "labels": []}
    assert after["status"] == "CLASSIFIED"
    assert all(0 <= label["confidence"] <= 1 for label in after["labels"])


def has_succeeded(farmy: RunningFarmy, job: str) -> bool:
    """Tell whether a run of the job has succeeded; a failed one fails the test at once."""
    query = f'{{ runsOrError(filter: {{pipelineName: "{job}"}}) {{ ... on Runs {{ results {{ status }} }} }} }}'
    statuses = {run["status"] for run in farmy.ask_dagster(query)["runsOrError"]["results"]}
    assert "FAILURE" not in statuses
    return "SUCCESS" in statuses


def test_ctrl_c_stops_everything(demo: Demo) -> None:
    with run_farmy_up(demo.home.path) as running:
        processes = running.list_processes()

        os.killpg(running.process.pid, signal.SIGINT)

        running.process.wait(STOP_TIMEOUT_S)
        assert_nothing_is_left(processes, running, within_s=5)
        assert "Traceback" not in (demo.home.path / "up.err").read_text()


def test_a_request_to_terminate_stops_everything_also_in_the_background(demo: Demo) -> None:
    with run_farmy_up(demo.home.path, in_background=True) as running:
        processes = running.list_processes()

        running.process.terminate()

        running.process.wait(STOP_TIMEOUT_S)
        assert_nothing_is_left(processes, running, within_s=5)
        assert "killed" not in (demo.home.path / "up.err").read_text()


def test_nothing_outlives_a_killed_farmy_up_for_long(demo: Demo) -> None:
    with run_farmy_up(demo.home.path) as running:
        processes = running.list_processes()

        running.process.kill()

        assert_nothing_is_left(processes, running, within_s=30)


def assert_nothing_is_left(processes: Sequence[psutil.Process], running: RunningFarmy, within_s: float) -> None:
    """Make sure that processes have ended and that their ports are free."""
    running.process.wait(STOP_TIMEOUT_S)
    survivors = psutil.wait_procs(processes, within_s)[1]
    assert [" ".join(survivor.cmdline()) for survivor in survivors] == []
    for port in (running.dagster_port, running.label_studio_port):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/")
