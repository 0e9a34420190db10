"""The asset graph as Dagster loads it."""

from graphlib import TopologicalSorter

import dagster as dg
import pytest

from farmy_assets.definitions import build_definitions
from farmy_assets.stages import STAGES
from lakehouse.schemas import TABLES

DEPENDENCIES = {
    "raw_images": set(),
    "cleansed_images": {"raw_images"},
    "near_duplicates": {"cleansed_images"},
    "annotation_tasks": {"near_duplicates"},
    "annotations": {"annotation_tasks"},
    "labelled_dataset": {"annotations", "annotation_tasks"},
    "label_model": {"labelled_dataset", "near_duplicates", "cleansed_images"},
    "predicted_labels": {"cleansed_images", "label_model"},
    "task_pre_labels": {"annotation_tasks", "predicted_labels", "labelled_dataset"},
    "image_catalog": {
        "raw_images",
        "cleansed_images",
        "near_duplicates",
        "annotation_tasks",
        "labelled_dataset",
        "predicted_labels",
    },
    "dataset_releases": {"labelled_dataset", "image_catalog"},
}
WITHOUT_DAYS = {"label_model", "dataset_releases"}
JOBS = {
    "images_job": {
        "raw_images",
        "cleansed_images",
        "near_duplicates",
        "annotation_tasks",
        "annotations",
        "labelled_dataset",
        "predicted_labels",
        "task_pre_labels",
        "image_catalog",
    },
    "labels_job": {"annotations", "labelled_dataset", "task_pre_labels", "image_catalog"},
    "training_job": {"label_model", "predicted_labels", "task_pre_labels", "image_catalog"},
    "loop_job": set(DEPENDENCIES) - {"dataset_releases"},
    "release_job": {"dataset_releases"},
}


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    return build_definitions().get_repository_def()


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in build_definitions().resolve_all_asset_specs()}


def test_there_is_one_asset_for_each_table(specs: dict[str, dg.AssetSpec]) -> None:
    assert specs.keys() == TABLES.keys() == DEPENDENCIES.keys()


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_every_asset_says_what_it_is(name: str, specs: dict[str, dg.AssetSpec]) -> None:
    spec = specs[name]

    assert spec.group_name in {"images", "annotation", "labels", "models", "catalog"}
    assert "iceberg" in spec.kinds
    assert list(spec.owners) == ["team:farmy"]
    assert spec.code_version
    assert spec.description
    assert "One row is one" in spec.description


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_assets_are_made_a_utc_day_at_a_time_or_as_a_whole(name: str, specs: dict[str, dg.AssetSpec]) -> None:
    partitions = specs[name].partitions_def

    assert (partitions is None) == (name in WITHOUT_DAYS) == (not TABLES[name].is_partitioned)
    if partitions is not None:
        assert isinstance(partitions, dg.DailyPartitionsDefinition)
        assert partitions.timezone == "UTC"
        assert partitions.end_offset == 1, "the open day can be run"


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_dependencies_are_those_of_the_design(name: str, specs: dict[str, dg.AssetSpec]) -> None:
    assert {dependency.asset_key.to_user_string() for dependency in specs[name].deps} == DEPENDENCIES[name]


def test_the_graph_has_no_cycle(specs: dict[str, dg.AssetSpec]) -> None:
    graph = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()}

    assert len(list(TopologicalSorter(graph).static_order())) == len(DEPENDENCIES)


@pytest.mark.parametrize("name", JOBS)
def test_jobs_run_what_they_say(name: str, repository: dg.RepositoryDefinition) -> None:
    selected = repository.get_job(name).asset_layer.selected_asset_keys

    assert {key.to_user_string() for key in selected} == JOBS[name]


def test_the_job_that_a_woken_day_starts_repairs_whatever_reconcile_calls_stale() -> None:
    assert {stage.table for stage in STAGES} <= JOBS["images_job"]


def test_sensors_and_the_schedule_are_on_from_the_start_and_name_jobs_that_exist(
    repository: dg.RepositoryDefinition,
) -> None:
    jobs = {job.name for job in repository.get_all_jobs()}

    for sensor in repository.sensor_defs:
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert {target.job_name for target in sensor.targets} <= jobs
    for schedule in repository.schedule_defs:
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.job_name in jobs
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "arrivals_sensor",
        "annotation_progress_sensor",
        "training_sensor",
        "failure_sensor",
    }
