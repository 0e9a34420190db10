"""Runs without the daemon: the same Dagster jobs, in this process, recorded where Dagster's page shows them."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from adapters.lake import Lake
from adapters.settings import Settings
from cli.output import is_watched, notices
from lakehouse.errors import FarmyError, SettingsError, StorageError

if TYPE_CHECKING:
    import dagster as dg

    from farmy_assets.day_runs import DayOutcome

_INSTANCE_SETTINGS = """\
# Written by Farmy for this home; production settings are in deploy/.
telemetry:
  enabled: false
run_queue:
  max_concurrent_runs: 2
  tag_concurrency_limits:
    - key: dagster/partition
      limit: 1
      value:
        applyLimitPerUniqueValue: true
run_launcher:
  module: resources.run_launcher
  class: LocalRunLauncher
# A run whose process is lost, that does not begin, or that never ends, is called failed.
run_monitoring:
  enabled: true
  poll_interval_seconds: 30
  start_timeout_seconds: 300
  cancel_timeout_seconds: 180
  max_runtime_seconds: 43200
# A failed run goes on from the step that failed, unless its tag says that somebody has to mend something first.
run_retries:
  enabled: true
  max_retries: 2
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days:
      skipped: 1
      success: 7
      failure: 30
"""


def prepare_dagster_home(settings: Settings) -> Path:
    """Return the folder in which Dagster keeps this home's runs, made with its settings if need be."""
    folder = settings.home / "dagster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dagster.yaml").write_text(_INSTANCE_SETTINGS)
    except OSError as error:
        raise SettingsError(
            f"Cannot write {folder}: {error.strerror}. Set FARMY_HOME to a folder that you can write and that has room."
        ) from error
    return folder


def run_assets(
    lake: Lake, days: Sequence[date], assets: Sequence[str], *, force: bool = False, release: str | None = None
) -> list["DayOutcome"]:
    """Bring days up to date, in this process.

    Args:
        lake: The lake.
        days: The days, all between the first and the last are run.
        assets: The assets, in any order.
        force: Whether to compute rows again that are up to date.
        release: Name of the release, where `dataset_releases` is among the assets.

    Returns:
        What was done to each day of each asset.

    Raises:
        FarmyError: What stopped the run; what was committed before stands.
    """
    import dagster as dg

    from farmy_assets.day_assets import FORCE_TAG
    from farmy_assets.definitions import build_definitions

    tags = {FORCE_TAG: "true"} if force else {}
    if days:
        tags |= {
            "dagster/asset_partition_range_start": f"{min(days)}",
            "dagster/asset_partition_range_end": f"{max(days)}",
        }
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if release is not None:
        config["ops"] = {"dataset_releases": {"config": {"name": release}}}
    job_name = "release_job" if list(assets) == ["dataset_releases"] else "loop_job"
    with _outcomes(len(assets) * max(1, len(days))) as outcomes, _records_errors(lake.settings):
        with dg.DagsterInstance.from_config(str(prepare_dagster_home(lake.settings))) as instance:
            result = (
                build_definitions(lake)
                .resolve_job_def(job_name)
                .execute_in_process(
                    run_config=config,
                    instance=instance,
                    tags=tags,
                    asset_selection=[dg.AssetKey(name) for name in assets],
                    raise_on_error=False,
                )
            )
        if not result.success:
            raise _describe_failure(result, lake.settings)
    return outcomes


@contextmanager
def _records_errors(settings: Settings) -> Iterator[None]:
    """Say it in one sentence when Dagster's own records cannot be written."""
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except OperationalError as error:
        raise _build_records_error(settings, str(error.orig)) from error


_FULL_DISK = re.compile(r"database or disk is full|disk I/O error|No space left on device")


def _build_records_error(settings: Settings, found: str) -> StorageError:
    return StorageError(
        f"Dagster's records in {settings.home / 'dagster'} cannot be written: {found}. See that the disk has room, "
        "then run again: what was committed before stands."
    )


@contextmanager
def _outcomes(expected: int) -> Iterator[list["DayOutcome"]]:
    """Collect the outcomes of days as they happen, and show them to whoever watches."""
    from farmy_assets.day_runs import outcomes_log

    outcomes: list[DayOutcome] = []
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=notices,
        disable=not is_watched(),
        transient=True,
    )
    bar = progress.add_task("Starting", total=expected)

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            outcome: DayOutcome = record.__dict__["outcome"]
            outcomes.append(outcome)
            progress.update(bar, advance=1, description=f"{outcome.table} {outcome.day}")

    collector = Collector()
    outcomes_log.addHandler(collector)
    outcomes_log.setLevel(logging.INFO)
    outcomes_log.propagate = False
    try:
        with progress:
            yield outcomes
    finally:
        outcomes_log.removeHandler(collector)


def _describe_failure(result: "dg.ExecuteInProcessResult", settings: Settings) -> FarmyError:
    """Return what stopped the run, in the words of the error raised; one that nobody foresaw goes to a file."""
    traces = []
    for event in result.all_events:
        data = event.event_specific_data
        if not event.is_step_failure:
            continue
        reported = getattr(data, "user_failure_data", None)
        if reported is not None and reported.description:
            return FarmyError(f"{event.step_key} failed. {reported.description}")
        traces.append(getattr(data, "error").to_string())  # noqa: B009 - which kind of data it is, Dagster tells by name
    full_disk = _FULL_DISK.search("\n".join(traces))
    if full_disk is not None:
        return _build_records_error(settings, full_disk.group())
    path = settings.home / "logs" / f"{result.run_id}.log"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(traces))
    return FarmyError(f"The run failed in a way that Farmy did not foresee, please report it: {path} says how.")
