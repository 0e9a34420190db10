"""A lake of its own for every test."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from adapters.lake import Lake
from tests.graph.lakes import open_lake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with open_lake(tmp_path / "home") as lake:
        yield lake


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
