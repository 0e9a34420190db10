"""Runs that fail, in processes of their own as the daemon starts them, and who is told of it.

What the daemon does in its loops (watching runs, retrying them) is called here one step at a time.
"""

import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import psutil
import pytest
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import consume_new_runs_for_automatic_reexecution
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from adapters.lake import Lake
from adapters.settings import CHECKOUT
from cli.runs import prepare_dagster_home
from lakehouse.alerts import DECISION_S, MAX_DELIVERIES, parse_alert_state
from sensors import failures
from sensors.failures import failure_sensor
from tests.contracts.alert_receiver import AlertReceiver, start_alert_receiver
from tests.graph import failing_runs
from tests.graph.code_servers import open_workspace
from tests.graph.lakes import DAY_1, open_lake

SECRET = "wJalrXUtnFEMI/K7MDENG"
_WAIT_S = 120
logger = logging.getLogger("test")


@dataclass
class Daemon:
    """A Dagster with a code server, whose parts are set going one at a time.

    Attributes:
        instance: Where it records runs.
        context: Its code servers.
        lake: The lake whose settings say who is told of failures.
        cursor: What the sensor remembers.
    """

    instance: dg.DagsterInstance
    context: WorkspaceProcessContext
    lake: Lake
    cursor: str | None = None

    def create_run(self, name: str, **tags: str) -> str:
        """Record a run as the daemon does before it launches it."""
        location = self.context.create_request_context().get_code_location("farmy")
        job = location.get_job(JobSubsetSelector("farmy", "__repository__", f"{name}_job", None))
        run = self.instance.create_run_for_job(
            failing_runs.get_job(name),
            tags={"dagster/partition": DAY_1.isoformat(), **tags},
            remote_job_origin=job.get_remote_origin(),
            job_code_origin=job.get_python_origin(),
        )
        return run.run_id

    def launch(self, run_id: str) -> str:
        self.instance.launch_run(run_id, self.context.create_request_context())
        return run_id

    def get_run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def wait_for_end(self, run_id: str) -> dg.DagsterRunStatus:
        deadline = time.monotonic() + _WAIT_S
        while not self.get_run(run_id).is_finished:
            assert time.monotonic() < deadline, f"the run is {self.get_run(run_id).status}"
            time.sleep(0.1)
        return self.get_run(run_id).status

    def wait_for_failure(self, run_id: str) -> None:
        assert self.wait_for_end(run_id) is dg.DagsterRunStatus.FAILURE

    def wait_for_process(self, run_id: str) -> int:
        """Return the number of the process that works on a run."""
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            for entry in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
                found = re.search(r"Executing steps in process \(pid: (\d+)\)", entry.message)
                if found:
                    return int(found[1])
            time.sleep(0.1)
        pytest.fail("The run did not begin in time.")

    def fail(self, name: str, **tags: str) -> str:
        """Run an asset that fails, to its end."""
        run_id = self.launch(self.create_run(name, **tags))
        self.wait_for_failure(run_id)
        return run_id

    def report_failure(self, message: str = "It was lost.", **tags: str) -> str:
        """Record a run that failed without having been begun, which is quick."""
        run_id = self.create_run("endless", **tags)
        self.instance.report_run_failed(self.get_run(run_id), message)
        return run_id

    def retry_failed_runs(self, *run_ids: str) -> list[str]:
        """Let Dagster retry what it wants to retry, and return the new runs."""
        records = self.instance.get_run_records(dg.RunsFilter(run_ids=list(run_ids)))
        list(consume_new_runs_for_automatic_reexecution(self.context, records, logger))
        tags = [self.get_run(run_id).tags for run_id in run_ids]
        return [found["dagster/auto_retry_run_id"] for found in tags if "dagster/auto_retry_run_id" in found]

    def watch_runs(self) -> None:
        assert not any(execute_run_monitoring_iteration(self.context, logger))

    def tick(self, lake: Lake | None = None) -> SensorExecutionData:
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=failing_runs.defs,
            resources={"lake": lake or self.lake},
        )
        data = failure_sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data


@pytest.fixture(scope="module")
def receiver_of_module() -> Iterator[AlertReceiver]:
    with start_alert_receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(receiver_of_module: AlertReceiver) -> AlertReceiver:
    receiver_of_module.posts.clear()
    receiver_of_module.status = 200
    return receiver_of_module


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory, receiver_of_module: AlertReceiver) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("FARMY_ALERT_WEBHOOK", receiver_of_module.url)
        environment.setenv("FARMY_DAGSTER_URL", "https://farm.example.org/dagster/")
        with (
            open_lake(home) as lake,
            dg.DagsterInstance.from_config(str(prepare_dagster_home(lake.settings))) as instance,
            start_code_server(instance) as context,
        ):
            yield Daemon(instance, context, lake)


@contextmanager
def start_code_server(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    target = ModuleTarget("tests.graph.failing_runs", "defs", str(CHECKOUT), "farmy")
    with open_workspace(target, instance) as context:
        yield context


@pytest.fixture
def daemon(dagster: Daemon) -> Daemon:
    """The Dagster of all tests, whose sensor has just begun."""
    dagster.cursor = None
    dagster.tick()
    return dagster


@dataclass
class Clock:
    """A clock of the sensor's that a test puts forward."""

    now: float = 1_000_000.0

    def read(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(failures, "_read_clock", clock.read)
    return clock


def test_a_run_that_failed_for_good_is_told_once_with_all_that_is_needed(
    daemon: Daemon, receiver: AlertReceiver
) -> None:
    run_id = daemon.fail("refused")

    daemon.tick()
    daemon.tick()

    (post,) = receiver.posts
    assert post.pop("text").startswith(f"Farmy: refused_job failed on {DAY_1} at refused\nCannot read landing/phone")
    assert post == {
        "run_id": run_id,
        "job": "refused_job",
        "days": "2026-11-02",
        "asset": "refused",
        "error": "Cannot read landing/phone/1.jpg: access denied. See to the rights.",
        "url": f"https://farm.example.org/dagster/runs/{run_id}",
    }


def test_what_somebody_has_to_mend_first_is_not_retried(daemon: Daemon) -> None:
    run_id = daemon.fail("refused")

    assert daemon.retry_failed_runs(run_id) == []


def test_a_run_that_is_retried_is_told_when_its_last_retry_has_failed(daemon: Daemon, receiver: AlertReceiver) -> None:
    run_ids = [daemon.fail("troubled")]
    for _ in range(2):
        daemon.tick()
        (retry,) = daemon.retry_failed_runs(run_ids[-1])
        daemon.tick()
        daemon.wait_for_failure(daemon.launch(retry))
        run_ids.append(retry)
    assert receiver.posts == []

    assert daemon.retry_failed_runs(run_ids[-1]) == []
    daemon.tick()
    daemon.tick()

    assert [post["run_id"] for post in receiver.posts] == run_ids[-1:]
    assert "the storage does not answer" in receiver.posts[0]["error"]


def test_an_error_that_nobody_foresaw_is_told_without_the_secret_that_it_holds(
    daemon: Daemon, receiver: AlertReceiver
) -> None:
    daemon.fail("mistaken", **{"dagster/max_retries": "0"})

    daemon.tick()

    (post,) = receiver.posts
    assert post["asset"] == "mistaken"
    assert post["error"] == "KeyError: 'no such key, only [redacted]'"
    assert SECRET not in str(post)


def test_a_run_whose_process_is_killed_is_told_once(daemon: Daemon, receiver: AlertReceiver) -> None:
    run_id = daemon.launch(daemon.create_run("endless", **{"dagster/max_retries": "0"}))
    os.kill(daemon.wait_for_process(run_id), signal.SIGKILL)
    daemon.wait_for_failure(run_id)

    daemon.tick()
    daemon.tick()

    (post,) = receiver.posts
    assert (post["run_id"], post["asset"]) == (run_id, None)


def test_a_run_that_is_lost_with_its_code_server_is_noticed_retried_and_told(
    daemon: Daemon, receiver: AlertReceiver
) -> None:
    with start_code_server(daemon.instance) as context:
        second = Daemon(daemon.instance, context, daemon.lake)
        final = second.launch(second.create_run("endless", **{"dagster/max_retries": "0"}))
        retried = second.launch(second.create_run("endless"))
        workers = [second.wait_for_process(run_id) for run_id in (final, retried)]
        server = psutil.Process(workers[0]).parent()
        assert server is not None
        for process in (server, *server.children(recursive=True)):
            process.kill()
        psutil.wait_procs([server])

        daemon.watch_runs()

    daemon.wait_for_failure(final)
    daemon.wait_for_failure(retried)
    assert len(daemon.retry_failed_runs(final, retried)) == 1
    daemon.tick()
    (post,) = receiver.posts
    assert post["run_id"] == final
    assert re.search(r"process \d+ is no more", post["error"])


def test_a_run_that_never_ends_is_ended_when_its_time_is_up(daemon: Daemon, receiver: AlertReceiver) -> None:
    tags = {"dagster/max_runtime": "1", "dagster/max_retries": "0"}
    run_id = daemon.launch(daemon.create_run("endless", **tags))
    worker = daemon.wait_for_process(run_id)
    time.sleep(1.5)

    daemon.watch_runs()

    # Called canceled where the process itself says so last; it is told of either way.
    assert daemon.wait_for_end(run_id) in {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    psutil.wait_procs([psutil.Process(worker)] if psutil.pid_exists(worker) else [], timeout=_WAIT_S)
    assert not psutil.pid_exists(worker)
    daemon.tick()
    assert "maximum runtime of 1 seconds" in receiver.posts[0]["error"]


def test_a_run_whose_process_lives_is_left_alone(daemon: Daemon) -> None:
    run_id = daemon.launch(daemon.create_run("endless", **{"dagster/max_retries": "0"}))
    worker = daemon.wait_for_process(run_id)

    daemon.watch_runs()

    assert daemon.get_run(run_id).status is dg.DagsterRunStatus.STARTED
    os.kill(worker, signal.SIGKILL)
    daemon.wait_for_failure(run_id)


def test_what_failed_before_anybody_was_to_be_told_is_not_told(daemon: Daemon, receiver: AlertReceiver) -> None:
    nobody = Lake(daemon.lake.settings.model_copy(update={"alert_webhook": None}))
    daemon.report_failure(**{"dagster/max_retries": "0"})

    told = daemon.tick(nobody)
    daemon.tick()

    assert "FARMY_ALERT_WEBHOOK" in str(told.skip_message)
    assert receiver.posts == []


def test_an_alert_that_is_not_taken_is_sent_again_later_and_holds_up_no_other(
    daemon: Daemon, receiver: AlertReceiver, clock: Clock
) -> None:
    receiver.status = 500
    first = daemon.report_failure(**{"dagster/max_retries": "0"})
    daemon.tick()
    daemon.tick()
    assert [post["run_id"] for post in receiver.posts] == [first], "it is not sent again at once"

    receiver.status = 200
    second = daemon.report_failure(**{"dagster/max_retries": "0"})
    clock.now += 31
    daemon.tick()
    daemon.tick()

    assert [post["run_id"] for post in receiver.posts] == [first, second, first]


def test_an_alert_that_is_never_taken_is_given_up_in_the_end_and_logged(
    daemon: Daemon, receiver: AlertReceiver, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    run_id = daemon.report_failure(**{"dagster/max_retries": "0"})
    for _ in range(MAX_DELIVERIES + 3):
        daemon.tick()
        clock.now += 86_400

    assert len(receiver.posts) == MAX_DELIVERIES
    state = parse_alert_state(daemon.cursor)
    assert state is not None
    assert state.waiting == ()
    assert f"the alert of run {run_id}" in caplog.text
    assert "given up" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_retry_that_never_comes_is_not_waited_for_for_ever(
    daemon: Daemon, receiver: AlertReceiver, clock: Clock
) -> None:
    run_id = daemon.report_failure()
    daemon.tick()
    clock.now += DECISION_S - 1
    daemon.tick()
    assert receiver.posts == []

    clock.now += 2
    daemon.tick()

    assert [post["run_id"] for post in receiver.posts] == [run_id]


def test_a_burst_of_failures_is_told_whole(daemon: Daemon, receiver: AlertReceiver) -> None:
    run_ids = [daemon.report_failure(**{"dagster/max_retries": "0"}) for _ in range(12)]

    daemon.tick()

    assert [post["run_id"] for post in receiver.posts] == run_ids


def test_deliveries_that_a_tick_has_no_time_for_are_left_to_the_next(
    daemon: Daemon, receiver: AlertReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_ids = [daemon.report_failure(**{"dagster/max_retries": "0"}) for _ in range(3)]

    with monkeypatch.context() as hurry:
        hurry.setattr(failures, "_SENDING_S", -1)
        daemon.tick()
    assert receiver.posts == []
    daemon.tick()

    assert [post["run_id"] for post in receiver.posts] == run_ids


def test_a_run_that_somebody_deleted_is_not_told(daemon: Daemon, receiver: AlertReceiver) -> None:
    daemon.instance.delete_run(daemon.report_failure(**{"dagster/max_retries": "0"}))

    daemon.tick()

    assert receiver.posts == []


def test_who_runs_farmy_by_hand_is_told_by_the_command_alone(daemon: Daemon, receiver: AlertReceiver) -> None:
    result = failing_runs.get_job("refused").execute_in_process(
        instance=daemon.instance, partition_key=DAY_1.isoformat(), raise_on_error=False
    )
    assert not result.success

    daemon.tick()

    assert receiver.posts == []


def test_a_cursor_that_makes_no_sense_begins_anew(daemon: Daemon, receiver: AlertReceiver) -> None:
    daemon.report_failure(**{"dagster/max_retries": "0"})
    daemon.cursor = "nonsense"

    assert "from now on" in str(daemon.tick().skip_message)
    daemon.tick()

    assert receiver.posts == []
