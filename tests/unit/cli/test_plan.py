"""`farmy plan` as it is called, and how it shows few days and many."""

import io
import json
from contextlib import redirect_stdout
from datetime import date, timedelta
from pathlib import Path

import pytest

from adapters import inbox
from adapters.settings import CHECKOUT
from cli import plan
from cli.main import main
from cli.output import console
from lakehouse.fingerprints import SETTINGS, UPSTREAM
from lakehouse.reprocessing import BYTES, Plan, RowCosts, StaleRows
from tests.graph.lakes import DAY_1, DAY_2, land, make_picture, open_lake, take_in


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FARMY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FARMY_CONFIG", str(CHECKOUT / "farmy.toml"))
    return tmp_path / "home"


def call(*arguments: str) -> str:
    """Return what `farmy plan` prints, which must succeed."""
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    assert ended.value.code == 0
    return out.getvalue()


def test_a_plan_in_json_has_its_rows_by_asset_day_and_reason(home: Path) -> None:
    with open_lake(home) as lake:
        land(lake, "1.jpg", make_picture(1), DAY_1)
        take_in(lake, [DAY_1], ["raw_images"])
        land(lake, "2.jpg", make_picture(2), DAY_2)
        inbox.note_all_arrivals(lake)

    answer = json.loads(call("--assets", "raw_images,cleansed_images", "--json"))

    found = {(stale["asset"], stale["day"], stale["reason"], stale["is_at_most"]) for stale in answer["stale"]}
    assert found == {
        ("raw_images", f"{DAY_2}", BYTES, False),
        ("cleansed_images", f"{DAY_1}", BYTES, False),
        ("cleansed_images", f"{DAY_2}", UPSTREAM, True),
    }
    assert (answer["days"], answer["rows"], answer["waiting_arrivals"]) == (2, 2, 1)
    assert answer["unmeasured"] == ["cleansed_images"]
    assert answer["cpu_seconds"] > 0
    assert json.loads(call("--days", f"{DAY_1}", "--assets", "raw_images", "--json"))["stale"] == []


@pytest.mark.usefixtures("home")
def test_an_empty_lake_is_up_to_date() -> None:
    assert "Everything is up to date" in call()


def make_plan(days: int) -> Plan:
    """Return a plan for two assets on some days, in the order in which a lake gives it."""
    dates = [date(2026, 1, 1) + timedelta(days=number) for number in range(days)]
    certain = [StaleRows("cleansed_images", day, SETTINGS, 3, amended=3) for day in dates]
    possible = [StaleRows("image_catalog", day, UPSTREAM, 3, is_at_most=True) for day in dates]
    return Plan((*certain, *possible), {"cleansed_images": RowCosts(computed=1, amended=0.5)}, days)


def show(planned: Plan) -> str:
    """Return what a person sees, with each line break a space."""
    with console.capture() as captured:
        plan._show(planned)
    return " ".join(captured.get().split())


def test_few_days_are_shown_one_by_one() -> None:
    shown = show(make_plan(2))
    assert "2026-01-01" in shown
    assert "at most 3" in shown
    assert "6 rows are stale, at most 12" in shown
    assert "3 CPU seconds" in shown
    assert "never measured: image_catalog" in shown


def test_many_days_are_put_together_before_they_are_listed() -> None:
    shown = show(make_plan(100))
    totals, _, days = shown.partition(" Days ")
    assert "at most 300" in totals
    assert "2026-01-01" not in totals
    assert "2026-01-01" in days
    assert "2026-04-10" in days
