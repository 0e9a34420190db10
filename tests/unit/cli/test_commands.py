"""The commands as they are called, on one tiny lake without Label Studio."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.cli.calls import call

ASSETS = "raw_images,cleansed_images,near_duplicates,predicted_labels,image_catalog"
CONFIG = """
[[classes]]
id = "cow"
name = "Cow"
imagenet = ["ox"]
"""


def make_picture(seed: int) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(40, 200, (8, 8, 3), np.uint8)
    return Image.fromarray(np.kron(blocks, np.ones((16, 16, 1), np.uint8)))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the lake's settings; this process works with it as long as the module's tests run."""
    place = tmp_path_factory.mktemp("cli")
    (place / "farmy.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARMY_CONFIG", str(place / "farmy.toml"))
        patch.setenv("FARMY_HOME", str(place / "home"))
        yield place


@pytest.fixture(scope="module")
def pictures(lake: Path) -> Path:
    folder = lake / "pictures"
    (folder / "field 1").mkdir(parents=True)
    make_picture(1).save(folder / "a.jpg", quality=90)
    make_picture(2).save(folder / "field 1" / "b.png")
    make_picture(1).save(folder / "field 1" / "a again.jpg", quality=80)
    (folder / "page.jpg").write_text("<html>403</html>")
    return folder


@pytest.fixture(scope="module")
def submitted(pictures: Path) -> dict[str, str]:
    """The token of each picture by its name."""
    images = call("submit", str(pictures), "--source", "phone", "--json").answer["images"]
    assert all(image["is_new"] for image in images)
    return {Path(image["item"]).name: image["token"] for image in images}


@pytest.fixture(scope="module")
def first_run(submitted: dict[str, str]) -> dict[str, Any]:
    assert submitted
    answer: dict[str, Any] = call("run", "--assets", ASSETS, "--json").answer
    return answer


def test_a_submitted_folder_lands_with_its_names_under_source_and_day(lake: Path, submitted: dict[str, str]) -> None:
    landed = {file.relative_to(lake / "home/lake/landing").as_posix() for file in (lake / "home/lake").rglob("*.*")}
    assert {re.sub(r"/\d{4}/\d\d/\d\d/", "/", key) for key in landed} == {
        *("phone/a.jpg", "phone/page.jpg", "phone/field 1/b.png", "phone/field 1/a again.jpg")
    }
    assert len(set(submitted.values())) == 4


def test_a_submitted_image_is_known_before_any_run(submitted: dict[str, str]) -> None:
    assert call("label", submitted["a.jpg"], "--json").answer == {
        "token": submitted["a.jpg"],
        "status": "NOT_CLASSIFIED",
        "labels": [],
    }


def test_submitting_again_lands_nothing_and_gives_the_same_tokens(pictures: Path, submitted: dict[str, str]) -> None:
    images = call("submit", str(pictures), "--source", "phone", "--json").answer["images"]
    assert not any(image["is_new"] for image in images)
    assert {Path(image["item"]).name: image["token"] for image in images} == submitted


def test_the_first_run_computes_every_asset_for_the_day(first_run: dict[str, Any]) -> None:
    assert first_run["days"] == 1
    rows = {change["asset"]: change["rows"] for change in first_run["changes"]}
    assert rows == {
        "raw_images": 4,
        "cleansed_images": 4,
        "near_duplicates": 3,
        "predicted_labels": 15,
        "image_catalog": 4,
    }


@pytest.mark.usefixtures("first_run")
def test_a_second_run_changes_nothing() -> None:
    assert call("run", "--assets", ASSETS, "--json").answer == {"days": 1, "changes": []}
    assert "Everything is up to date." in call("run", "--assets", ASSETS).out


@pytest.mark.usefixtures("first_run")
def test_a_forced_run_computes_the_chosen_assets_again() -> None:
    changes = call("run", "--assets", "near_duplicates", "--force", "--json").answer["changes"]
    assert [(change["asset"], change["computed"]) for change in changes] == [("near_duplicates", 3)]


@pytest.mark.usefixtures("first_run")
def test_days_outside_the_range_are_left_alone() -> None:
    assert call("run", "--days", "2020-01-01..2020-01-31", "--json").answer == {"days": 0, "changes": []}


def test_an_image_is_labelled_by_the_packaged_model_after_a_run(
    first_run: dict[str, Any], submitted: dict[str, str]
) -> None:
    assert first_run
    answer = call("label", submitted["a.jpg"][:12], "--json").answer
    assert (answer["token"], answer["status"]) == (submitted["a.jpg"], "CLASSIFIED")
    assert len(answer["labels"]) == 5
    assert {label["source"] for label in answer["labels"]} == {"efficientnet-lite0"}
    assert all(0 < label["confidence"] <= 1 for label in answer["labels"])


def test_what_is_no_image_is_answered_with_the_reason(first_run: dict[str, Any], submitted: dict[str, str]) -> None:
    assert first_run
    answer = call("label", submitted["page.jpg"], "--json").answer
    assert (answer["status"], answer["reason"], answer["labels"]) == ("REJECTED", "not_an_image", [])


@pytest.mark.usefixtures("first_run")
def test_the_status_counts_rows_by_day_and_stage() -> None:
    answer = call("status", "--json").answer
    (day,) = answer["days"]
    assert (day["raw_images"], day["cleansed_images"], day["annotation_tasks"]) == (4, 4, 0)
    assert (answer["waiting"], answer["label_model"], answer["releases"]) == ([], None, [])


@pytest.mark.usefixtures("first_run")
def test_a_query_answers_with_rows() -> None:
    sql = "SELECT status, count(*) AS images FROM cleansed_images GROUP BY status ORDER BY status"
    assert call("query", sql, "--json").answer == [
        {"status": "clean", "images": 3},
        {"status": "rejected", "images": 1},
    ]
    shown = call("query", sql)
    assert shown.code == 0
    assert re.search(r"clean\W+3", shown.out)


@pytest.mark.usefixtures("first_run")
def test_the_nearly_equal_picture_has_the_other_one_as_its_leader(submitted: dict[str, str]) -> None:
    sql = "SELECT DISTINCT leader_image_id FROM near_duplicates WHERE image_id IN ('{}', '{}')"
    rows = call("query", sql.format(submitted["a.jpg"], submitted["a again.jpg"]), "--json").answer
    assert len(rows) == 1


@pytest.mark.usefixtures("first_run")
def test_a_release_needs_labels_and_the_message_tells_how_to_get_them() -> None:
    assert call("release", "list", "--json").answer == []
    refused = call("release", "create", "first")
    assert refused.code == 1
    assert "There is nothing to release yet" in refused.err
    assert "`farmy run`" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("query", "DROP TABLE raw_images"), "Give one SELECT"),
        (("query", "SELECT * FROM nothing"), "There is no table nothing"),
        (("label", "ffffffffffff"), "No image's id begins with ffffffffffff"),
        (("presign", "--source", "phone", "--name", "a.jpg"), "use `farmy submit`"),
        (("release", "diff", "old", "new"), "There is no release old"),
        (("export", "out", "--release", "old"), "There is no release old"),
    ],
)
@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_one_sentence_on_stderr_and_exit_code_1(
    arguments: tuple[str, ...],
    message: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    failed = call(*arguments, *(["--json"] if as_json else []))
    assert failed.code == 1
    assert failed.out == ""
    assert message in failed.err
    assert failed.err.startswith("farmy: ")
    assert failed.err.count("\n") == 1
    assert "Traceback" not in failed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("submit",),
        ("submit", "a.jpg", "--source", "../raw"),
        ("submit", "a.jpg", "--source", ""),
        ("presign",),
        ("presign", "--source", "phone", "--name", "a.json"),
        ("presign", "--source", "../raw", "--name", "a.jpg"),
        ("presign", "--source", "phone", "--name", "a.jpg", "--minutes", "61"),
        ("presign", "--source", "phone", "--name", "a.jpg", "--minutes", "0"),
        ("label",),
        ("query",),
        ("run", "--days", "2026-13-01"),
        ("run", "--days", "2026-11-04..2026-11-02"),
        ("run", "--assets", "raw_images,nothing"),
        ("run", "--assets", " , "),
        ("run", "--unknown"),
        ("export", "out"),
        ("export", "out", "--release", "x", "--format", "nothing"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("lake")
def test_a_wrong_call_is_exit_code_2_with_the_usage(arguments: tuple[str, ...]) -> None:
    refused = call(*arguments)
    assert refused.code == 2
    assert refused.out == ""
    assert "Usage: farmy" in refused.err


@pytest.mark.parametrize(
    "command", ["", "submit", "presign", "label", "status", "run", "query", "export", "release create"]
)
def test_every_command_tells_how_to_use_it_with_an_example(command: str) -> None:
    shown = call(*command.split(), "--help")
    assert shown.code == 0
    assert ("Start with `farmy demo`" if command == "" else "Example") in shown.out


def test_settings_that_are_not_valid_are_one_sentence(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lake / "bad.toml").write_text(f"workers = 0\n{CONFIG}")
    monkeypatch.setenv("FARMY_CONFIG", str(lake / "bad.toml"))
    refused = call("status")
    assert refused.code == 1
    assert "workers: Input should be greater than or equal to 1" in refused.err


def test_two_files_of_one_name_both_land(lake: Path) -> None:
    for folder, seed in (("one", 10), ("two", 11)):
        (lake / folder).mkdir()
        make_picture(seed).save(lake / folder / "same.png")
    images = call("submit", *(str(lake / folder / "same.png") for folder in ("one", "two")), "--json").answer["images"]
    assert [image["is_new"] for image in images] == [True, True]
    assert len({image["object_key"] for image in images}) == 2


def test_a_home_below_a_file_is_one_sentence(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lake / "file").write_text("")
    monkeypatch.setenv("FARMY_HOME", str(lake / "file" / "home"))
    refused = call("status")
    assert refused.code == 1
    assert "FARMY_HOME" in refused.err
    assert refused.err.count("\n") == 1
