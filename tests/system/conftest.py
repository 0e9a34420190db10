"""What system tests share: one real Label Studio server, and one home in which the demo has run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.label_studio import LabelStudio
from adapters.label_studio_server import LabelStudioServer, RunningLabelStudio, read_credentials
from tests.system.farmy_process import Demo, FarmyHome


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo in a fresh home, run once for all tests that need its outcome."""
    home = FarmyHome(tmp_path_factory.mktemp("demo"))
    return Demo(home, home.run_json("demo"))


@pytest.fixture(scope="session")
def label_studio_command() -> Path:
    return Path(__file__).resolve().parents[2] / ".venv-label-studio" / "bin" / "label-studio"


@pytest.fixture(scope="session")
def label_studio_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the server; pictures are served from `lake/staging` in it."""
    home = tmp_path_factory.mktemp("home")
    (home / "lake" / "staging").mkdir(parents=True)
    return home


@pytest.fixture(scope="session")
def running_label_studio(label_studio_home: Path, label_studio_command: Path) -> Iterator[RunningLabelStudio]:
    with LabelStudioServer(label_studio_home, label_studio_command, label_studio_home / "lake") as running:
        yield running


@pytest.fixture(scope="session")
def label_studio(running_label_studio: RunningLabelStudio, label_studio_home: Path) -> Iterator[LabelStudio]:
    with LabelStudio(running_label_studio.url, read_credentials(label_studio_home).token) as client:
        yield client
