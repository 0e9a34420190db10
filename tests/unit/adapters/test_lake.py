import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.lake import Lake
from adapters.settings import Settings
from lakehouse.errors import SettingsError, StorageError
from lakehouse.ontology import LabelClass


def open_lake(home: Path, **settings: Any) -> Lake:
    return Lake(Settings(home=home, classes=(LabelClass("cow", "Cow", imagenet=("ox",)),), **settings))


def test_objects_live_below_the_home_unless_the_settings_name_a_folder(tmp_path: Path) -> None:
    assert open_lake(tmp_path / "home").objects.folder == tmp_path / "home" / "lake"
    assert open_lake(tmp_path / "home", objects=str(tmp_path / "disk")).objects.folder == tmp_path / "disk"


def test_objects_live_in_a_bucket_when_the_settings_name_one(tmp_path: Path) -> None:
    objects = open_lake(tmp_path, objects="s3://bucket/some/prefix/", s3_endpoint="http://127.0.0.1:1").objects
    assert objects.root == "s3://bucket/some/prefix"
    assert objects.folder is None


def test_tables_live_beside_the_objects_and_their_catalog_in_the_home(tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "home", objects=str(tmp_path / "disk"))
    assert lake.tables.local_warehouse == f"{tmp_path}/disk/tables"
    assert (tmp_path / "home" / "catalog.db").is_file()


def test_another_s3_is_told_to_the_tables_with_its_region(tmp_path: Path) -> None:
    lake = open_lake(tmp_path, objects="s3://bucket", s3_endpoint="http://127.0.0.1:1", s3_region="garage")
    options = lake.tables.catalog.properties
    assert (options["s3.endpoint"], options["s3.region"]) == ("http://127.0.0.1:1", "garage")
    assert lake.tables.local_warehouse is None


def test_what_is_opened_is_opened_once(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    assert lake.objects is lake.objects
    assert lake.tables is lake.tables
    assert lake.index is lake.index


def test_nothing_is_made_before_it_is_used(tmp_path: Path) -> None:
    with open_lake(tmp_path / "home"):
        assert not (tmp_path / "home").exists()


def test_the_packaged_models_outputs_mean_the_settings_classes(tmp_path: Path) -> None:
    labels = open_lake(tmp_path).image_model_labels
    assert len(labels.labels) == len(labels.class_ids) == 1000
    assert [labels.labels[output] for output, class_id in enumerate(labels.class_ids) if class_id == "cow"] == ["ox"]


def test_a_label_studio_elsewhere_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set FARMY_LABEL_STUDIO_TOKEN"):
        _ = open_lake(tmp_path, label_studio_url="http://127.0.0.1:1").label_studio_token


def test_farmys_own_label_studio_cannot_serve_pictures_from_a_bucket(tmp_path: Path) -> None:
    lake = open_lake(tmp_path, objects="s3://bucket", s3_endpoint="http://127.0.0.1:1")
    with pytest.raises(SettingsError, match=r"FARMY_OBJECTS is a bucket: set FARMY_LABEL_STUDIO_URL"):
        _ = lake.label_studio


def test_looking_whether_label_studio_is_up_does_not_start_it(tmp_path: Path) -> None:
    assert not open_lake(tmp_path).is_label_studio_up()
    assert open_lake(tmp_path, label_studio_url="http://127.0.0.1:1").is_label_studio_up()


def test_a_home_that_cannot_be_made_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lake = open_lake(tmp_path / "file" / "home", objects=str(tmp_path / "lake"))
    for part in ("tables", "index"):
        with pytest.raises(SettingsError, match="Set FARMY_HOME"):
            getattr(lake, part)
    with pytest.raises(StorageError, match="Set FARMY_HOME or FARMY_OBJECTS"):
        _ = open_lake(tmp_path / "file" / "home").objects


def test_what_a_command_does_not_touch_is_not_imported() -> None:
    heavy = ("pyiceberg", "duckdb", "cv2", "onnxruntime", "sklearn", "pandas", "label_studio_sdk", "dagster")
    program = f"import sys, adapters.lake, cli.main; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
