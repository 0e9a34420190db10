"""What the tests of faults share."""

from pathlib import Path

import pytest

from farmy_assets import definitions  # noqa: F401 - made of all stages, before any test leaves some out
from tests.faults.counted_kills import PreparedHome
from tests.faults.recovery import IMAGE_STAGES


@pytest.fixture
def images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reconcile look at the image tables alone: the others need people and models, and would always be stale."""
    monkeypatch.setattr("farmy_assets.stages.STAGES", IMAGE_STAGES)


@pytest.fixture
def home(tmp_path: Path) -> PreparedHome:
    """A home that can be brought back to a former state."""
    return PreparedHome({"home": tmp_path / "home", "workers": 2}, tmp_path / "saved")
