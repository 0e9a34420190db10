"""The whole loop as a user runs it: `farmy` commands as processes in one home, and how they speak of faults."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pycocotools.coco import COCO

from adapters.label_studio_server import RunningLabelStudio
from adapters.lake import Lake
from adapters.settings import load_settings
from lakehouse.schemas import TABLES
from samples.catalogue import read_subjects
from samples.defects import encode_jpeg
from samples.landing import SampleFile, build_sample_landing, index_sample_truth
from samples.scenes import compose_scene
from tests.system.farmy_process import Demo, FarmyHome, find_free_ports

PROMISED = {
    "images_landed",
    "images_distinct",
    "clean",
    "suspect",
    "rejected",
    "tasks",
    "annotations",
    "conflicts",
    "labelled",
    "predicted",
    "label_accuracy",
    "prediction_accuracy",
    "release",
    "seconds",
}
REJECTED_DEFECTS = {"truncated", "empty", "html"}
SUSPECT_DEFECTS = {"blurred", "dark"}
TRIO = ("good", "fair", "hasty")


@pytest.fixture(scope="module")
def files() -> list[SampleFile]:
    return list(build_sample_landing())


@pytest.fixture
def failing_server() -> Iterator[str]:
    """The address of a server that answers everything with 500."""

    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that is overridden
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def open_lake(home: FarmyHome) -> Lake:
    return Lake(load_settings(home=home.path))


def read_state(home: FarmyHome) -> dict[str, tuple[str, int | None]]:
    """Return each table's content hash and newest snapshot."""
    with open_lake(home) as lake:
        return {name: (lake.tables.hash_content(name), lake.tables.snapshot_id(name)) for name in TABLES}


def land_new_image(home: FarmyHome, folder: Path, seed: str) -> str:
    """Submit a picture that was never seen before, and return its token."""
    picture = folder / f"{seed}.jpg"
    picture.write_bytes(encode_jpeg(compose_scene(read_subjects()[0], random.Random(seed)).image))
    token: str = home.run_json("submit", str(picture))["images"][0]["token"]
    return token


def test_the_demo_prints_what_it_promises(demo: Demo) -> None:
    assert demo.result.keys() >= PROMISED
    assert demo.result["seconds"]["Total"] > 0


def test_every_landed_file_is_accounted_for(demo: Demo, files: list[SampleFile]) -> None:
    result = demo.result

    assert result["images_landed"] == len(files)
    assert result["images_distinct"] == len({sha256(file.data).digest() for file in files})
    copies = result["images_landed"] - result["images_distinct"]
    assert result["images_landed"] == result["clean"] + result["suspect"] + result["rejected"] + copies


def test_verdicts_agree_with_what_was_done_to_each_file(demo: Demo, files: list[SampleFile]) -> None:
    truths = index_sample_truth(files)

    with open_lake(demo.home) as lake:
        verdicts = lake.tables.read("cleansed_images", columns=["image_id", "status"]).to_pylist()

    found = {row["image_id"]: row["status"] for row in verdicts if row["image_id"] in truths}
    assert found.keys() == truths.keys()
    wrong = {
        image_id: (truth.defect, found[image_id])
        for image_id, truth in truths.items()
        if found[image_id] != expected_status(truth.defect)
    }
    assert wrong == {}


def expected_status(defect: str | None) -> str:
    if defect in REJECTED_DEFECTS:
        return "rejected"
    return "suspect" if defect in SUSPECT_DEFECTS else "clean"


def test_people_see_each_scene_once(demo: Demo, files: list[SampleFile]) -> None:
    clean_scenes = {file.truth.scene for file in files if expected_status(file.truth.defect) == "clean"}

    assert demo.result["tasks"] == len(clean_scenes)


def test_labels_and_predictions_are_mostly_right(demo: Demo) -> None:
    assert demo.result["label_accuracy"] >= 0.9
    assert demo.result["prediction_accuracy"] >= 0.7
    assert demo.result["labelled"] > 50
    assert demo.result["predicted"] == demo.result["clean"] + demo.result["suspect"]


def test_the_export_loads_as_coco(demo: Demo) -> None:
    coco = COCO(demo.result["export"])

    assert len(coco.getImgIds()) > 50
    assert len(coco.getAnnIds()) > 50
    assert {category["name"] for category in coco.loadCats(coco.getCatIds())} >= {"fish", "tool"}
    folder = Path(demo.result["export"]).parent
    assert all((folder / image["file_name"]).is_file() for image in coco.loadImgs(coco.getImgIds()))


def test_a_second_demo_changes_nothing(demo: Demo) -> None:
    demo.home.run_json("run")
    before = read_state(demo.home)

    again = demo.home.run_json("demo")

    assert read_state(demo.home) == before
    unchanged = ("label_accuracy", "labelled", "annotations", "conflicts", "release", "rejected", "suspect")
    assert {name: again[name] for name in unchanged} == {name: demo.result[name] for name in unchanged}


def test_a_run_with_nothing_to_do_commits_nothing(demo: Demo) -> None:
    demo.home.run_json("run")
    before = read_state(demo.home)

    assert demo.home.run_json("run")["changes"] == []
    assert read_state(demo.home) == before


def test_a_query_agrees_with_the_table(demo: Demo) -> None:
    rows = demo.home.run_json("query", "SELECT status, count(*) AS images FROM cleansed_images GROUP BY status")

    with open_lake(demo.home) as lake:
        statuses = lake.tables.read("cleansed_images", columns=["status"]).column("status").to_pylist()
    assert {row["status"]: row["images"] for row in rows} == Counter(statuses)


def test_status_shows_each_day_and_nothing_that_waits(demo: Demo) -> None:
    demo.home.run_json("run")

    status = demo.home.run_json("status")

    assert {"2026-11-02", "2026-11-03", "2026-11-04"} <= {row["day"] for row in status["days"]}
    assert sum(row["raw_images"] for row in status["days"]) >= demo.result["images_landed"]
    assert all(row["stale"] == 0 for row in status["days"])
    assert status["waiting"] == []
    assert status["images_in_conflict"] == demo.result["conflicts"]
    assert "demo" in status["releases"]


def test_an_image_can_be_traced_and_its_label_asked_for(demo: Demo) -> None:
    labelled = "SELECT image_id, class_id FROM labelled_dataset WHERE kind = 'choice' AND NOT is_conflict LIMIT 1"
    row = demo.home.run_json("query", labelled)[0]

    label = demo.home.run_json("label", row["image_id"])
    trace = demo.home.run_json("trace", row["image_id"][:16])

    assert label["status"] == "CLASSIFIED"
    assert label["labels"][0]["class_id"] == row["class_id"]
    assert label["labels"][0]["source"] == "people"
    assert trace["image_id"] == row["image_id"]
    assert trace["arrivals"][0]["is_first"]
    assert {vote["annotator"] for vote in trace["annotations"]} <= {f"{who}@farmy.local" for who in TRIO}
    assert [release["release"] for release in trace["releases"]] == ["demo"]
    assert {run["table"] for run in trace["runs"]} >= {"raw_images", "cleansed_images", "labelled_dataset"}


def test_the_release_is_listed(demo: Demo) -> None:
    releases = demo.home.run_json("release", "list")

    assert [release["name"] for release in releases] == ["demo"]
    parts = ("train_images", "validation_images", "test_images")
    assert sum(releases[0][part] for part in parts) == releases[0]["images"]


def test_the_doctor_finds_the_home_well(demo: Demo) -> None:
    assert all(finding["is_well"] for finding in demo.home.run_json("doctor"))


@pytest.mark.parametrize("command", [["status"], ["doctor"], ["release", "list"], ["run"]])
def test_commands_for_people_say_nothing_on_stderr(demo: Demo, command: list[str]) -> None:
    finished = demo.home.run(*command)

    assert finished.returncode == 0
    assert finished.stdout.strip()
    assert finished.stderr.strip() == ""


def assert_fails_in_one_sentence(home: FarmyHome, *command: str, saying: str) -> None:
    """Make sure that a command fails, and that its last line says why in words that a person understands."""
    finished = home.run(*command)
    assert finished.returncode == 1, finished.stdout
    *progress, complaint = finished.stderr.strip().splitlines()
    assert complaint.startswith("farmy: "), finished.stderr
    assert saying in complaint
    assert all(line.endswith(" ...") for line in progress), finished.stderr


def test_a_label_studio_that_fails_loses_nothing(
    demo: Demo, tmp_path: Path, failing_server: str, running_label_studio: RunningLabelStudio
) -> None:
    token = land_new_image(demo.home, tmp_path, "fault")
    nobody = f"http://127.0.0.1:{find_free_ports(1)[0]}"
    for url, saying in (
        (nobody, nobody),
        (failing_server, "500"),
        (running_label_studio.url, "FARMY_LABEL_STUDIO_TOKEN"),
    ):
        settings = {"FARMY_LABEL_STUDIO_URL": url, "FARMY_LABEL_STUDIO_TOKEN": "0" * 40}

        assert_fails_in_one_sentence(FarmyHome(demo.home.path, settings), "run", saying=saying)

    demo.home.run_json("run")
    assert demo.home.run_json("label", token)["status"] == "CLASSIFIED"
    assert demo.home.run_json("run")["changes"] == []


@pytest.mark.parametrize("variable", ["FARMY_DAGSTER_PORT", "FARMY_LABEL_STUDIO_PORT"])
def test_a_busy_port_is_named_with_the_setting_that_changes_it(demo: Demo, variable: str, failing_server: str) -> None:
    free = find_free_ports(2)
    busy = failing_server.rpartition(":")[2]
    ports = {"FARMY_DAGSTER_PORT": str(free[0]), "FARMY_LABEL_STUDIO_PORT": str(free[1]), variable: busy}

    assert_fails_in_one_sentence(FarmyHome(demo.home.path, ports), "up", saying=variable)


def test_a_home_that_cannot_be_made_is_named_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    home = FarmyHome(tmp_path, {"FARMY_HOME": str(tmp_path / "file" / "home")})

    for command in (["status"], ["run"], ["demo"]):
        assert_fails_in_one_sentence(home, *command, saying="FARMY_HOME")


def test_a_folder_of_objects_that_is_none_is_named_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    home = FarmyHome(tmp_path, {"FARMY_OBJECTS": str(tmp_path / "file")})

    assert_fails_in_one_sentence(home, "run", saying="FARMY_OBJECTS")


def test_what_is_submitted_must_exist(tmp_path: Path) -> None:
    finished = FarmyHome(tmp_path).run("submit", str(tmp_path / "nothing.jpg"), "--json")
    assert finished.returncode == 1
    (row,) = json.loads(finished.stdout)["images"]
    assert (row["token"], "nothing.jpg" in row["reason"]) == (None, True)


def test_json_output_is_one_object_on_stdout(demo: Demo) -> None:
    finished = demo.home.run("status", "--json")

    assert finished.stderr == ""
    assert isinstance(json.loads(finished.stdout), dict)
