"""What holds for Ray alone: how it is started, reached and ended, and what travels to it."""

import os
import pickle
import signal
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from adapters.lake import Lake
from adapters.local_ray import start_local_ray
from adapters.ray_compute import RayCompute
from adapters.settings import load_settings
from lakehouse.errors import ServerStartError, SettingsError, TransientError
from tests.contracts.ray_cluster import WORKERS, RayCluster
from tests.graph.lakes import DAY_1, IMAGE_TABLES, hash_tables, land, make_picture, open_lake, take_in

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
TOKEN = "9f3c0a7d5e1b4826"


def kill_once(folder: Path, number: int) -> int:
    """Kill the process that works on 40, the first time."""
    if number == 40 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def kill(folder: Path, number: int) -> None:
    (folder / f"{os.getpid()}-{number}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def identify_lake(lake: Lake, number: int) -> tuple[int, int, str]:
    time.sleep(0.01)
    assert number >= 0
    return os.getpid(), id(lake.objects), lake.label_studio_token


def read_file(lake: Lake, name: str) -> bytes:
    return (lake.settings.home / name).read_bytes()


def test_work_whose_process_is_killed_is_done_again(ray_compute: RayCompute, tmp_path: Path) -> None:
    assert list(ray_compute.map(partial(kill_once, tmp_path), range(100))) == list(range(100))
    assert (tmp_path / "killed").exists()


def test_work_that_kills_every_process_fails_with_what_to_do_and_prints_nothing(
    ray_compute: RayCompute, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TransientError, match=r"lost the process .* 4 times: .* have memory to spare, then run again"):
        list(ray_compute.map(partial(kill, tmp_path), [1]))
    assert len(list(tmp_path.iterdir())) == 4
    assert capfd.readouterr() == ("", "")


def test_an_error_says_where_in_the_worker_it_arose(ray_compute: RayCompute) -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        list(ray_compute.map(int, ["1", "one"]))
    assert "In a Ray worker: Traceback" in raised.value.__notes__[0]


def test_a_lake_travels_as_its_settings_and_is_opened_once_in_a_process(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    address = "http://127.0.0.1:1"
    with open_lake(tmp_path, label_studio_url=address, label_studio_token=TOKEN) as lake:
        seen = set(ray_compute.map(partial(identify_lake, lake), range(100)))
    assert len(seen) == len({process for process, _, _ in seen}) == WORKERS
    assert {token for _, _, token in seen} == {TOKEN}


def send(lake: Lake) -> Lake:
    sent = pickle.loads(pickle.dumps(lake))  # noqa: S301
    assert isinstance(sent, Lake)
    return sent


def test_a_lake_comes_out_of_a_pickle_with_its_settings(tmp_path: Path) -> None:
    lake = open_lake(tmp_path, label_studio_token=TOKEN, s3_endpoint="http://127.0.0.1:1")
    copy = send(lake)
    assert dict(copy.settings) == dict(lake.settings) | {"objects": str(tmp_path / "lake")}
    assert send(lake) is copy
    assert send(open_lake(tmp_path / "other")) is not copy


def test_a_lake_that_travels_finds_its_objects_from_wherever_the_other_process_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = open_lake(tmp_path / "home", objects="pictures")
    lake.objects.create("raw/a", b"a")
    monkeypatch.chdir("/")
    assert send(lake).objects.read("raw/a") == b"a"


def test_secrets_that_travel_are_written_nowhere(
    ray_cluster: RayCluster, ray_compute: RayCompute, tmp_path: Path
) -> None:
    with open_lake(tmp_path, label_studio_token=TOKEN) as lake, pytest.raises(FileNotFoundError):
        list(ray_compute.map(partial(read_file, lake), ["missing"]))
    files = [path for path in ray_cluster.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 20
    secrets = (TOKEN.encode(), ray_cluster.environment["RAY_AUTH_TOKEN"].encode())
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
    assert ray_cluster.folder.stat().st_mode & 0o077 == 0


def test_a_run_on_ray_gives_the_rows_that_threads_give(ray_cluster: RayCluster, tmp_path: Path) -> None:
    def run(home: Path, **settings: str) -> dict[str, str]:
        with open_lake(home, **settings) as lake:
            for number in range(5):
                land(lake, f"{number}.jpg", make_picture(number), DAY_1)
            land(lake, "broken.jpg", b"\xff\xd8 no picture", DAY_1)
            assert {outcome.computed for outcome in take_in(lake, [DAY_1])} == {5, 6}
            return hash_tables(lake, IMAGE_TABLES)

    on_ray = run(tmp_path / "ray", compute="ray", ray_address=ray_cluster.address)
    assert on_ray == run(tmp_path / "threads")


def test_ray_listens_on_loopback_alone(ray_cluster: RayCluster, ray_compute: RayCompute) -> None:
    list(ray_compute.map(abs, range(10)))
    processes = [*ray_cluster.list_processes(), psutil.Process()]
    listening = [
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 5
    assert set(listening) <= LOOPBACK


def test_a_cluster_that_ran_before_runs_on_when_we_leave_it(ray_cluster: RayCluster, ray_compute: RayCompute) -> None:
    before = ray_cluster.starter.pid, ray_cluster.folder
    another = RayCompute(WORKERS, ray_cluster.address)
    assert list(another.map(abs, [-1])) == [1]
    another.close()
    ray_compute.close()
    assert list(ray_compute.map(abs, [-2])) == [2]
    assert (ray_cluster.starter.pid, ray_cluster.folder) == before


def test_ray_leaves_the_handling_of_sigterm_to_us(ray_compute: RayCompute) -> None:
    ray_compute.close()
    handler = signal.getsignal(signal.SIGTERM)
    list(ray_compute.map(abs, [-1]))
    assert signal.getsignal(signal.SIGTERM) is handler


def test_nobody_at_the_address_is_said_in_a_sentence(ray_compute: RayCompute) -> None:
    ray_compute.close()
    with pytest.raises(SettingsError, match=r"Cannot connect to Ray at 127.0.0.1:9: .*refused\. See that it runs"):
        list(RayCompute(WORKERS, "127.0.0.1:9").map(abs, [1]))


def test_without_ray_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"Ray is not installed: run pip install 'farmy-lakehouse\[ray\]'"):
        list(RayCompute(WORKERS, "127.0.0.1:9").map(abs, [1]))


def test_a_ray_that_does_not_start_is_said_with_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No room left.' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ServerStartError, match=r"Cannot start Ray on this machine: No room left\. Set FARMY_COMPUTE"):
        start_local_ray(WORKERS)


def test_no_items_start_no_ray() -> None:
    compute = RayCompute(WORKERS)
    assert list(compute.map(abs, [])) == []
    compute.close()


def test_the_environment_chooses_where_work_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FARMY_COMPUTE", "ray")
    monkeypatch.setenv("FARMY_RAY_ADDRESS", "auto")
    lake = Lake(load_settings(home=tmp_path))
    assert isinstance(lake.compute, RayCompute)
    lake.close()
    monkeypatch.setenv("FARMY_COMPUTE", "dask")
    with pytest.raises(SettingsError, match="compute: Input should be 'threads' or 'ray'"):
        load_settings(home=tmp_path)


def test_nothing_is_left_of_ray_when_its_starter_is_killed_at_work(
    ray_cluster: RayCluster, ray_compute: RayCompute
) -> None:
    # `conftest.py` runs this test last: after it there is no Ray.
    results = ray_compute.map(time.sleep, [0, 60, 60])
    next(results)
    processes, folder = ray_cluster.list_processes(), ray_cluster.folder
    assert len(processes) > 5
    ray_compute.close()
    ray_cluster.starter.kill()
    _, left = psutil.wait_procs(processes, timeout=20)
    assert left == []
    assert not folder.exists()
