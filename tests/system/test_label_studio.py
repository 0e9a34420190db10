"""The Label Studio adapters against a real server."""

import fcntl
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from itertools import count
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import make_server

import httpx
import psutil
import pytest

from adapters.label_studio import LabelStudio, build_image_url
from adapters.label_studio_server import LabelStudioServer, RunningLabelStudio, find_running, read_credentials
from lakehouse.annotations import (
    Box,
    NewTask,
    PreLabel,
    build_box,
    build_choice,
    flatten_answers,
)
from lakehouse.errors import LabelStudioRefusedError, LabelStudioUnavailableError, ServerStartError, SettingsError
from lakehouse.ontology import LabelClass, build_labelling_interface
from samples.annotators import GOOD, HASTY, ImageTruth, answer_open_tasks

DAY = date(2026, 11, 22)
PASSWORD = "a-long-password"
INTERFACE = build_labelling_interface([LabelClass("red_apple", "Red apple"), LabelClass("cow", "Cow & calf")])
_numbers = count(1)


@pytest.fixture
def project_id(label_studio: LabelStudio, label_studio_home: Path) -> Iterator[int]:
    staging = label_studio_home / "lake" / "staging"
    project_id = label_studio.ensure_project(f"Farm {next(_numbers)}", INTERFACE, staging, overlap=2)
    yield project_id
    label_studio.delete_project(project_id)


@pytest.fixture
def sign_in(label_studio: LabelStudio, running_label_studio: RunningLabelStudio) -> Callable[[str], LabelStudio]:
    return lambda email: LabelStudio(running_label_studio.url, label_studio.ensure_member(email, PASSWORD))


@pytest.fixture
def admin(running_label_studio: RunningLabelStudio, label_studio_home: Path) -> Iterator[httpx.Client]:
    """Sees what the server holds by another way than the adapter."""
    headers = {"Authorization": f"Token {read_credentials(label_studio_home).token}"}
    with httpx.Client(base_url=running_label_studio.url, headers=headers) as client:
        yield client


def new_task(image_id: str, *assignees: str) -> NewTask:
    return NewTask(image_id, DAY, build_image_url(f"staging/{image_id}.jpg"), assignees)


def read_predictions(admin: httpx.Client, project_id: int) -> list[tuple[int, str, float]]:
    predictions = admin.get("/api/predictions/", params={"project": project_id}).json()
    return [
        (prediction["task"], prediction["result"][0]["value"]["choices"][0], prediction["score"])
        for prediction in predictions
    ]


def test_a_second_process_finds_the_running_server(
    running_label_studio: RunningLabelStudio, label_studio_home: Path
) -> None:
    program = (
        "import pathlib, sys\n"
        "from adapters.label_studio_server import find_running\n"
        "print(find_running(pathlib.Path(sys.argv[1])).url)"
    )

    found = subprocess.run(
        [sys.executable, "-c", program, str(label_studio_home)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout.strip() == running_label_studio.url


def test_the_server_listens_on_loopback_alone(running_label_studio: RunningLabelStudio) -> None:
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(running_label_studio.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert listening == ["127.0.0.1"]


@pytest.mark.usefixtures("running_label_studio")
def test_secrets_are_readable_by_their_owner_alone(label_studio_home: Path) -> None:
    folder = label_studio_home / "label-studio"

    for path in (folder / "credentials.json", folder / "label-studio.log", folder / "data" / "label_studio.sqlite3"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert read_credentials(label_studio_home).token not in repr(read_credentials(label_studio_home))


def test_a_home_that_has_a_server_does_not_get_a_second_one(
    running_label_studio: RunningLabelStudio, label_studio_home: Path, label_studio_command: Path
) -> None:
    second = LabelStudioServer(label_studio_home, label_studio_command, label_studio_home / "lake")

    with pytest.raises(SettingsError, match=f"one runs at {running_label_studio.url}"):
        second.start()
    assert find_running(label_studio_home) == running_label_studio


def test_a_start_beside_another_start_is_told_to_try_again(tmp_path: Path, label_studio_command: Path) -> None:
    folder = tmp_path / "label-studio"
    folder.mkdir()
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ServerStartError, match="another process is starting"):
            LabelStudioServer(tmp_path, label_studio_command, tmp_path / "lake").start()


def test_a_port_that_is_taken_is_named(tmp_path: Path, label_studio_command: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = LabelStudioServer(tmp_path, label_studio_command, tmp_path / "lake", port=port)
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port}: the port is not free"):
            server.start()


def test_a_missing_program_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="make setup"):
        LabelStudioServer(tmp_path, tmp_path / "label-studio", tmp_path / "lake").start()


def test_homes_share_no_secrets_and_a_stopped_server_starts_with_the_same_ones(
    tmp_path: Path, label_studio_home: Path, label_studio_command: Path
) -> None:
    server = LabelStudioServer(tmp_path, label_studio_command, tmp_path / "lake")
    with server as first:
        credentials = read_credentials(tmp_path)
        own_key = (tmp_path / "label-studio" / "data" / ".env").read_text()
        other = LabelStudio(first.url, read_credentials(label_studio_home).token)
        with pytest.raises(LabelStudioRefusedError):
            other.check()

    assert own_key != (label_studio_home / "label-studio" / "data" / ".env").read_text()
    assert find_running(tmp_path) is None
    assert not psutil.pid_exists(first.pid)
    with server as again:
        LabelStudio(again.url, credentials.token).check()


def test_a_server_whose_starter_is_killed_ends_too(tmp_path: Path, label_studio_command: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from adapters.label_studio_server import LabelStudioServer\n"
        "home = pathlib.Path(sys.argv[1])\n"
        "print(LabelStudioServer(home, pathlib.Path(sys.argv[2]), home / 'lake').start().pid, flush=True)\n"
        "time.sleep(600)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(label_studio_command)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        starter.kill()

    server.wait(timeout=20)
    assert find_running(tmp_path) is None


def test_a_project_asked_for_twice_is_made_once(label_studio: LabelStudio, label_studio_home: Path) -> None:
    staging = label_studio_home / "lake" / "staging"

    first = label_studio.ensure_project("Twice", INTERFACE, staging)
    again = label_studio.ensure_project("Twice", INTERFACE, staging)
    longer = label_studio.ensure_project("Twice and more", INTERFACE, staging)
    assert first == again != longer


def test_a_project_follows_a_changed_interface(label_studio: LabelStudio, admin: httpx.Client, project_id: int) -> None:
    def read_interface(project_id: int) -> str:
        return str(admin.get(f"/api/projects/{project_id}/").json()["label_config"])

    first = label_studio.ensure_project("Renamed", INTERFACE)
    assert read_interface(first) == INTERFACE
    renamed = INTERFACE.replace("Red apple", "Apple")
    assert label_studio.ensure_project("Renamed", renamed) == first
    assert read_interface(first) == renamed
    assert read_interface(project_id) == INTERFACE


def test_imported_tasks_are_found_by_image(label_studio: LabelStudio, project_id: int) -> None:
    images = [f"image{number}" for number in range(1_200)]

    imported = label_studio.import_tasks(project_id, [new_task(image) for image in images])
    assert len(set(imported.values())) == 1_200
    assert label_studio.find_tasks(project_id, [*images, "never imported"]) == imported
    assert label_studio.find_tasks(project_id, []) == {}


def test_deleted_tasks_are_gone_with_their_answers_and_may_be_deleted_again(
    label_studio: LabelStudio, sign_in: Callable[[str], LabelStudio], project_id: int
) -> None:
    tasks = label_studio.import_tasks(project_id, [new_task(name) for name in ("kept", "answered", "open")])
    sign_in("ann@farm.example").submit_answer(tasks["answered"], [build_choice("cow")], 1.0)

    for _ in range(2):
        label_studio.delete_tasks(project_id, [tasks["answered"], tasks["open"]])

    assert label_studio.find_tasks(project_id, list(tasks)) == {"kept": tasks["kept"]}
    assert [task.image_id for task in label_studio.list_changed_tasks(project_id)] == ["kept"]
    assert label_studio.read_answers(project_id, [tasks["answered"]]) == []


def test_answered_skipped_and_new_tasks_count_as_changed_since(
    label_studio: LabelStudio, sign_in: Callable[[str], LabelStudio], project_id: int
) -> None:
    tasks = label_studio.import_tasks(project_id, [new_task(name) for name in ("old", "answered", "skipped")])
    imported = label_studio.list_changed_tasks(project_id)
    assert {task.image_id for task in imported} == {"old", "answered", "skipped"}

    ann = sign_in("ann@farm.example")
    ann.submit_answer(tasks["answered"], [build_choice("cow")], 1.0)
    ann.submit_answer(tasks["skipped"], [], 1.0, is_skip=True)
    label_studio.import_tasks(project_id, [new_task("new")])
    changed = label_studio.list_changed_tasks(project_id, imported[-1].updated_at)

    later = [task for task in changed if task.updated_at > imported[-1].updated_at]
    assert [(task.image_id, task.ingest_date) for task in later] == [("answered", DAY), ("skipped", DAY), ("new", DAY)]


def test_more_changes_than_fit_a_page_are_all_listed(label_studio: LabelStudio, project_id: int) -> None:
    tasks = label_studio.import_tasks(project_id, [new_task(f"image{number}") for number in range(2_100)])

    changed = label_studio.list_changed_tasks(project_id)
    assert {task.task_id for task in changed} == set(tasks.values())
    assert changed == sorted(changed, key=lambda task: (task.updated_at, task.task_id))


def test_answers_come_back_as_rows_in_pixels_with_the_name_of_who_answered(
    label_studio: LabelStudio, sign_in: Callable[[str], LabelStudio], project_id: int
) -> None:
    tasks = label_studio.import_tasks(project_id, [new_task("apple"), new_task("cow")])
    ann = sign_in("ann@farm.example")
    bob = sign_in("bob@farm.example")
    ann.submit_answer(
        tasks["apple"], [build_choice("red_apple"), build_box("red_apple", Box(0.1, 0.2, 0.5, 0.25), "b")], 3.5
    )
    bob.submit_answer(tasks["apple"], [], 1.0, is_skip=True)
    bob.submit_answer(tasks["cow"], [build_choice("cow")], 2.0)

    answers = label_studio.read_answers(project_id, list(tasks.values()))
    flat = flatten_answers(answers, {"apple": (1000, 800), "cow": (400, 400)})
    rows = [
        (row["image_id"], row["annotator"], row["kind"], row["class_id"], row["lead_time_s"], row["box_y_px"])
        for row in flat.table.to_pylist()
    ]
    assert rows == [
        ("apple", "ann@farm.example", "choice", "red_apple", 3.5, None),
        ("apple", "ann@farm.example", "box", "red_apple", 3.5, pytest.approx(160)),
        ("apple", "bob@farm.example", "skip", None, 1.0, None),
        ("cow", "bob@farm.example", "choice", "cow", 2.0, None),
    ]
    assert flat.problems == ()


def test_no_tasks_have_no_answers(label_studio: LabelStudio, project_id: int) -> None:
    label_studio.import_tasks(project_id, [new_task("apple")])

    assert label_studio.read_answers(project_id, []) == []


def test_predictions_replaced_twice_leave_one_for_each_task(
    label_studio: LabelStudio, admin: httpx.Client, project_id: int
) -> None:
    tasks = label_studio.import_tasks(project_id, [new_task("apple"), new_task("cow")])
    older = [PreLabel(tasks["apple"], "cow", 0.5, "1"), PreLabel(tasks["cow"], "cow", 0.6, "1")]
    newer = [PreLabel(tasks["apple"], "red_apple", 0.75, "2")]

    label_studio.replace_predictions(project_id, older)
    label_studio.replace_predictions(project_id, newer)
    label_studio.replace_predictions(project_id, newer)
    assert sorted(read_predictions(admin, project_id)) == [
        (tasks["apple"], "red_apple", 0.75),
        (tasks["cow"], "cow", 0.6),
    ]


def test_a_person_who_labels_is_shown_the_prediction_of_any_model(
    label_studio: LabelStudio, running_label_studio: RunningLabelStudio, project_id: int
) -> None:
    tasks = label_studio.import_tasks(project_id, [new_task("apple"), new_task("cow")])
    label_studio.replace_predictions(project_id, [PreLabel(tasks["apple"], "red_apple", 0.9, "1")])
    label_studio.replace_predictions(project_id, [PreLabel(tasks["cow"], "cow", 0.9, "2")])
    token = label_studio.ensure_member("ann@farm.example", PASSWORD)

    url = f"{running_label_studio.url}/api/projects/{project_id}/next"
    task = httpx.get(url, headers={"Authorization": f"Token {token}"}, follow_redirects=True).json()
    assert [mark["value"] for prediction in task["predictions"] for mark in prediction["result"]] == [
        {"choices": ["red_apple"]}
    ]


def test_a_prediction_for_a_task_that_is_gone_is_refused(label_studio: LabelStudio, project_id: int) -> None:
    with pytest.raises(LabelStudioRefusedError, match="import 1 predictions"):
        label_studio.replace_predictions(project_id, [PreLabel(999_999, "cow", 0.5, "1")])


@pytest.mark.usefixtures("project_id")
def test_a_picture_is_served_to_members_and_refused_to_strangers(
    label_studio: LabelStudio, running_label_studio: RunningLabelStudio, label_studio_home: Path
) -> None:
    picture = label_studio_home / "lake" / "staging" / "0a" / "picture of a cow.jpg"
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes(b"\xff\xd8 not really a picture")
    (label_studio_home / "lake" / "raw.jpg").write_bytes(b"with a position")
    address = running_label_studio.url + build_image_url("staging/0a/picture of a cow.jpg")
    headers = {"Authorization": f"Token {label_studio.ensure_member('ann@farm.example', PASSWORD)}"}

    assert httpx.get(address, headers=headers).content == picture.read_bytes()
    assert httpx.get(address).status_code == 401
    outside_staging = running_label_studio.url + build_image_url("raw.jpg")
    assert httpx.get(outside_staging, headers=headers).status_code == 404


def test_a_member_asked_for_twice_keeps_the_token_and_the_wrong_password_is_refused(label_studio: LabelStudio) -> None:
    token = label_studio.ensure_member("dora@farm.example", PASSWORD)

    assert label_studio.ensure_member("dora@farm.example", PASSWORD) == token
    with pytest.raises(LabelStudioRefusedError, match=r"dora@farm\.example"):
        label_studio.ensure_member("dora@farm.example", "another-password")


def test_each_annotator_is_listed_the_tasks_assigned_to_exactly_that_person(
    label_studio: LabelStudio, sign_in: Callable[[str], LabelStudio], admin: httpx.Client, project_id: int
) -> None:
    tasks = label_studio.import_tasks(
        project_id,
        [
            new_task("both", "ann@farm.example", "bob@farm.example"),
            new_task("longer name", "joann@farm.example"),
            new_task("other", "bob@farm.example"),
        ],
    )
    ann = sign_in("ann@farm.example")
    assert [task.image_id for task in ann.list_open_tasks(project_id)] == ["both"]

    view = label_studio.ensure_assignee_view(project_id, "ann@farm.example")
    assert label_studio.ensure_assignee_view(project_id, "ann@farm.example") == view
    shown = admin.get("/api/tasks/", params={"view": view}).json()
    assert [task["id"] for task in shown["tasks"]] == [tasks["both"]]

    ann.submit_answer(tasks["both"], [build_choice("cow")], 1.0)
    assert ann.list_open_tasks(project_id) == []


def test_simulated_annotators_answer_what_is_assigned_to_them_once(
    label_studio: LabelStudio, sign_in: Callable[[str], LabelStudio], project_id: int
) -> None:
    truths = {f"image{number}": ImageTruth("cow", (Box(0.2, 0.2, 0.5, 0.5),)) for number in range(8)}
    tasks = label_studio.import_tasks(project_id, [new_task(image, GOOD.email, HASTY.email) for image in truths])
    label_studio.import_tasks(project_id, [new_task("unknown", GOOD.email)])

    for annotator in (GOOD, HASTY):
        desk = sign_in(annotator.email)
        assert answer_open_tasks(desk, project_id, annotator, truths, ["cow", "red_apple"]) == 8
        assert answer_open_tasks(desk, project_id, annotator, truths, ["cow", "red_apple"]) == 0
    answers = label_studio.read_answers(project_id, list(tasks.values()))
    assert {len(task.answers) for task in answers} == {2}


def test_a_wrong_token_is_refused_without_being_repeated(running_label_studio: RunningLabelStudio) -> None:
    with pytest.raises(LabelStudioRefusedError, match="FARMY_LABEL_STUDIO_TOKEN") as refusal:
        LabelStudio(running_label_studio.url, "not-a-token").check()

    assert "not-a-token" not in str(refusal.value)


def test_a_personal_access_token_works_as_well(
    label_studio: LabelStudio, running_label_studio: RunningLabelStudio
) -> None:
    headers = {"Authorization": f"Token {label_studio.ensure_member('ann@farm.example', PASSWORD)}"}
    created = httpx.post(f"{running_label_studio.url}/api/token/", headers=headers).json()

    LabelStudio(running_label_studio.url, created["token"]).check()


def test_a_server_that_is_down_is_unavailable_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    with pytest.raises(LabelStudioUnavailableError, match="farmy up"):
        LabelStudio(f"http://127.0.0.1:{port}", "token").check()


@pytest.mark.parametrize(
    ("status", "error"),
    [("200 OK", LabelStudioRefusedError), ("503 Service Unavailable", LabelStudioUnavailableError)],
)
def test_a_web_page_in_the_place_of_label_studio_is_not_taken_for_it(status: str, error: type[Exception]) -> None:
    def show_page(environ: object, start_response: object) -> list[bytes]:  # noqa: ARG001
        start_response(status, [("Content-Type", "text/html")])  # type: ignore[operator]
        return [b"<html>Nobody is at home</html>"]

    with make_server("127.0.0.1", 0, show_page) as page:
        Thread(target=page.handle_request, daemon=True).start()
        with pytest.raises(error):
            LabelStudio(f"http://127.0.0.1:{page.server_port}", "token").check()
