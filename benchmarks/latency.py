"""From an object that lands to a run that is asked for, on one machine where `farmy up` runs: what a producer waits."""

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import simplejpeg

from benchmarks.loop import find_free_ports, new_home, run_up
from benchmarks.results import Result
from benchmarks.unrelated_pictures import compose_unrelated

LATENCY_GOAL_S = 35
PUTS = 6
_LONGEST_PAUSE_S = 20
"""As long as the sensor's own pause, so that objects land at any moment of it."""
_POLL_S = 0.5
_TIMEOUT_S = 600
"""For anything to happen at all, on a machine however busy."""
_EDGE_PX = 512
_QUERY = """
{ runsOrError(filter: {pipelineName: "images_job"}) { ... on Runs { results { runId status } } } }
"""


def measure_latency() -> list[Result]:
    """Land images one after another, each after the run of the one before has ended, at random moments."""
    rng = random.Random(0)
    (port,) = find_free_ports(1)
    waits = []
    page = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
    with new_home() as home, run_up(home, port), page:
        for number in range(PUTS):
            time.sleep(rng.uniform(0, _LONGEST_PAUSE_S))
            waits.append(_measure_one(home, page, number))
    what = "from object put to run requested, farmy up running"
    return [
        Result(f"{what}, median", "s", tuple(waits), LATENCY_GOAL_S),
        Result(f"{what}, worst of {PUTS}", "s", (max(waits),), LATENCY_GOAL_S),
    ]


def _measure_one(home: Path, page: httpx.Client, number: int) -> float:
    """Return the seconds from a put to the run that it brings about, and wait until the run has ended.

    Raises:
        RuntimeError: If the run fails, or takes far too long to come or to end.
    """
    now = datetime.now(UTC)
    path = home / "lake" / "landing" / "phone" / f"{now:%Y/%m/%d}" / f"{number}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = simplejpeg.encode_jpeg(np.ascontiguousarray(compose_unrelated(number, _EDGE_PX)))
    known = _list_runs(page)
    started = time.perf_counter()
    path.write_bytes(picture)
    _wait_for(lambda: _list_runs(page).keys() - known.keys())
    waited_s = time.perf_counter() - started
    _wait_for(lambda: set(_list_runs(page).values()) == {"SUCCESS"})
    return waited_s


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"What was waited for did not happen within {_TIMEOUT_S} s: the measurement is void.")
        time.sleep(_POLL_S)


def _list_runs(page: httpx.Client) -> Mapping[str, str]:
    """Return the status of every run by its id.

    Raises:
        RuntimeError: If one has failed.
    """
    answer = page.post("/graphql", json={"query": _QUERY}).json()
    statuses = {run["runId"]: run["status"] for run in answer["data"]["runsOrError"]["results"]}
    if "FAILURE" in statuses.values():
        raise RuntimeError("a run of the benchmark failed: the measurement is void")
    return statuses
