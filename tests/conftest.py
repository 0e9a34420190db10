"""What holds for every test: which run in one process, and that in CI a skipped test is a failed one.

Tests run in several processes. Those of a file stay together, and so do the files that share a server or a demo,
because starting one costs more than it saves.
"""

import os
from collections.abc import Generator

import pytest

IN_CI = os.environ.get("CI") == "true"
SHARED = {
    "test_browser.py": "demo",
    "test_compute.py": "ray",
    "test_loop.py": "demo",
    "test_ray.py": "ray",
    "test_kills.py": "label_studio",
    "test_label_studio.py": "label_studio",
    "test_stopping.py": "demo",
}
"""Files that share what is dear to start, by the name of their group."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Groups are handed out in this order: the longest first, so that none is left over at the end.
    items.sort(key=lambda item: item.path.name not in SHARED)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(SHARED.get(item.path.name, str(item.path))))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # What a test logs may hold half characters, which the process that collects the reports does not take.
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if IN_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} must run in CI: {reason}. Provide what it needs."
