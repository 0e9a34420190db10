"""Backfills as Dagster's page launches them: through its API, with its daemon's loop, code server and run processes."""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.schema import create_schema

from adapters.lake import Lake
from adapters.settings import CHECKOUT
from farmy_assets.day_assets import FORCE_TAG, MOST_DAYS_OF_A_RUN
from tests.graph.code_servers import open_workspace
from tests.graph.lakes import DAY_1, DAY_2, IMAGE_TABLES, land, list_snapshots, make_picture, open_lake, take_in

# Dagster's own API calls what it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning")

DAYS = [DAY_2 - timedelta(days=back) for back in reversed(range(30))]
MANY_DAYS = [DAY_2 - timedelta(days=back) for back in reversed(range(MOST_DAYS_OF_A_RUN + 20))]
ASSETS = IMAGE_TABLES[:2]
TIMEOUT_S = 300
LAUNCH = """
    mutation ($params: LaunchBackfillParams!) {
        launchPartitionBackfill(backfillParams: $params) {
            __typename
            ... on LaunchBackfillSuccess { backfillId }
            ... on PythonError { message }
        }
    }
"""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A lake that the processes of runs open, too."""
    monkeypatch.setenv("FARMY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FARMY_CONFIG", str(CHECKOUT / "farmy.toml"))
    with open_lake(tmp_path / "home") as lake:
        yield lake


@pytest.fixture
def launcher() -> str:
    """Who starts runs: processes of their own by default; a test of which runs are asked for may start none."""
    return "DefaultRunLauncher"


@pytest.fixture
def instance(launcher: str) -> Iterator[dg.DagsterInstance]:
    # Runs start at once: there is no daemon here that would take them out of a queue.
    settings = {"run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}}
    if launcher != "DefaultRunLauncher":
        settings["run_launcher"] = {"module": "dagster._core.test_utils", "class": launcher}
    with dg.instance_for_test(settings) as instance:
        yield instance


@pytest.fixture
def workspace(lake: Lake, instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    assert lake.settings.home.name == "home"
    target = ModuleTarget("farmy_assets.definitions", attribute=None, working_directory=None, location_name="farmy")
    with open_workspace(target, instance) as context:
        yield context


def launch(workspace: WorkspaceProcessContext, params: dict[str, Any]) -> str:
    """Launch a backfill and return its id."""
    with workspace.create_request_context() as context:
        answer = create_schema().execute(LAUNCH, context_value=context, variables={"params": params})
    assert answer.errors is None
    launched = answer.data["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return str(launched["backfillId"])


def turn_daemon(workspace: WorkspaceProcessContext, backfill_id: str) -> list[dg.DagsterRun]:
    """Have the daemon look at backfills once, and return the runs that it has asked for."""
    errors = [error for error in execute_backfill_iteration(workspace, logging.getLogger(__name__)) if error]
    assert errors == []
    return list(workspace.instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id})))


def finish(workspace: WorkspaceProcessContext, backfill_id: str) -> list[dg.DagsterRun]:
    """Turn the daemon's loop until the backfill and its runs have ended, and return them."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        runs = turn_daemon(workspace, backfill_id)
        backfill = workspace.instance.get_backfill(backfill_id)
        assert backfill is not None
        if backfill.status is not BulkActionStatus.REQUESTED and all(run.is_finished for run in runs):
            return runs
        time.sleep(0.5)
    raise AssertionError("the runs of the backfill did not end")


def list_ranges(runs: list[dg.DagsterRun]) -> list[tuple[str, str]]:
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return sorted((run.tags[names[0]], run.tags[names[1]]) for run in runs)


def fill(lake: Lake) -> None:
    for number, day in enumerate((DAYS[0], DAY_1, DAY_2)):
        land(lake, f"{number}.jpg", make_picture(number), day)
    take_in(lake, [DAYS[0]], ASSETS)
    take_in(lake, [DAY_1, DAY_2], ASSETS)


def count_rows_computed(lake: Lake, since: dict[str, int | None]) -> dict[str, dict[str, int]]:
    """Return by table and day how many rows were computed since snapshots were listed."""
    computed: dict[str, dict[str, int]] = {}
    for table in ASSETS:
        history = lake.tables.read_history(table)
        known = [snapshot_id for snapshot_id, _, _ in history].index(since[table] or 0)
        for _, _, summary in history[known + 1 :]:
            computed.setdefault(table, {})[summary["farmy.day"]] = int(summary["farmy.rows-computed"])
    return computed


def build_params(days: Sequence[date], *, force: bool = False) -> dict[str, Any]:
    return {
        "assetSelection": [{"path": [asset]} for asset in ASSETS],
        "partitionNames": [day.isoformat() for day in days],
        "tags": [{"key": FORCE_TAG, "value": "true"}] if force else [],
    }


def build_job_params(days: Sequence[date], job: str) -> dict[str, Any]:
    repository = {"repositoryName": "__repository__", "repositoryLocationName": "farmy"}
    return {
        "selector": {"partitionSetName": f"{job}_partition_set", "repositorySelector": repository},
        "partitionNames": [day.isoformat() for day in days],
    }


def test_a_backfill_over_days_is_one_run_that_computes_what_is_stale_alone(
    lake: Lake, workspace: WorkspaceProcessContext
) -> None:
    fill(lake)
    land(lake, "new.jpg", make_picture(9), DAY_2)
    take_in(lake, [DAY_2], ["raw_images"])
    before = list_snapshots(lake)

    runs = finish(workspace, launch(workspace, build_params(DAYS)))

    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS]
    assert list_ranges(runs) == [(DAYS[0].isoformat(), DAYS[-1].isoformat())]
    assert count_rows_computed(lake, before) == {"cleansed_images": {DAY_2.isoformat(): 1}}


def test_a_backfill_with_force_computes_every_row_of_its_days(lake: Lake, workspace: WorkspaceProcessContext) -> None:
    fill(lake)
    before = list_snapshots(lake)

    runs = finish(workspace, launch(workspace, build_params(DAYS, force=True)))

    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS]
    every_day = {day.isoformat(): 1 for day in (DAYS[0], DAY_1, DAY_2)}
    assert count_rows_computed(lake, before) == dict.fromkeys(ASSETS, every_day)


@pytest.mark.parametrize("launcher", ["MockedRunLauncher"])
@pytest.mark.parametrize("target", ["assets", "job"])
@pytest.mark.usefixtures("launcher")
def test_a_backfill_over_very_many_days_is_a_run_for_each_hundred(
    workspace: WorkspaceProcessContext, target: str
) -> None:
    params = build_params(MANY_DAYS) if target == "assets" else build_job_params(MANY_DAYS, "labels_job")

    runs = turn_daemon(workspace, launch(workspace, params))

    days = [day.isoformat() for day in MANY_DAYS]
    assert list_ranges(runs) == [
        (days[0], days[MOST_DAYS_OF_A_RUN - 1]),
        (days[MOST_DAYS_OF_A_RUN], days[-1]),
    ]
