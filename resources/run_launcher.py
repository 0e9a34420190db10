"""The launcher of runs on this machine, which notices those whose process is lost.

Dagster's own leaves that to the code server that began the run. Where both are lost, at a power cut say, the run would
be called started for ever, no other of its day would be asked for, and it would hold one of the few places in the
queue. Named in a home's `dagster.yaml`.
"""

import psutil
from dagster import DagsterEventType, DagsterRun, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's launcher, with an answer to whether the process of a run is alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether run monitoring may ask: yes."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Tell whether the process that works on a run is alive; one that has not said which it is yet is."""
        for entry in self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
            pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
            if pid is not None and not _is_alive(int(str(pid.value)), entry.timestamp):
                return CheckRunHealthResult(WorkerStatus.FAILED, f"process {pid.value} is no more")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _is_alive(pid: int, seen_at: float) -> bool:
    """Tell whether the process that had a number at a time, in seconds since the epoch, lives."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= seen_at and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
