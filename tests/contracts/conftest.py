"""A real S3 and a real Ray for the contracts that have an implementation there."""

import os
from collections.abc import Iterator

import pytest

from adapters.ray_compute import RayCompute
from benchmarks.s3_server import S3Server, start_s3_server
from tests.contracts.ray_cluster import WORKERS, RayCluster, start_ray_cluster


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with start_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, with its credentials in this process's environment, where an operator puts them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One test kills the only Ray that there is.
    items.sort(key=lambda item: item.name == "test_nothing_is_left_of_ray_when_its_starter_is_killed_at_work")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    with start_ray_cluster() as cluster, pytest.MonkeyPatch.context() as environment:
        for name, value in cluster.environment.items():
            environment.setenv(name, value)
        yield cluster


@pytest.fixture(scope="session")
def ray_compute(ray_cluster: RayCluster) -> Iterator[RayCompute]:
    compute = RayCompute(WORKERS, ray_cluster.address)
    yield compute
    compute.close()
