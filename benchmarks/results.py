"""What benchmarks have in common: the form of their results and of their command line. Nothing is measured here."""

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

_CPU_FACTS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        name: What was measured, in words that tell a reader which row of a table it is.
        unit: Of all values.
        runs: What the runs gave; their median is the figure.
        at_most: The goal where less is better; None where there is none.
        at_least: The goal where more is better; None where there is none. A figure has one goal or none.
    """

    name: str
    unit: str
    runs: tuple[float, ...]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def value(self) -> float:
        """The figure."""
        return median(self.runs)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    def as_json(self) -> dict[str, Any]:
        """Return the result for machines; `goal` is what `at_most` or `at_least` is, null without a goal."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "goal": self.at_most if self.at_least is None else self.at_least,
            "at_most": self.at_most,
            "at_least": self.at_least,
            "met": self.is_met,
            "runs": list(self.runs),
        }


Measure = Callable[[Path | None], list[Result]]
Draw = Callable[[Sequence[Result]], str]


class PeersMissingError(Exception):
    """The environment of the programs that Farmy is measured against is not there, or not whole."""


def run_benchmarks(title: str, benchmarks: Sequence[Measure], draw: Draw | None = None) -> None:
    """Be the command line of one or several benchmarks: measure, then print a table or one JSON object.

    Args:
        title: What is measured.
        benchmarks: Each takes the folder of images that was given, if one was.
        draw: Makes an SVG of the results; with it there is an option that says where to.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object, for machines")
    parser.add_argument("--images", type=Path, metavar="DIR", help="measure with the images in this folder")
    if draw is not None:
        parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the results into this SVG file, too")
    options = parser.parse_args()
    if options.images is not None and not options.images.is_dir():
        parser.error(f"there is no folder {options.images}")
    machine = describe_machine()
    try:
        results = [result for measure in benchmarks for result in measure(options.images)]
    except PeersMissingError as error:
        parser.exit(1, f"{error}\n")
    if draw is not None and options.chart is not None:
        options.chart.write_text(draw(results))
    if options.as_json:
        print(json.dumps({"machine": machine, "results": [result.as_json() for result in results]}))
    else:
        _print_table(title, machine, results)


def describe_machine() -> str:
    """Return processor, memory, system and Python of this machine, and how busy it is."""
    memory_gb = psutil.virtual_memory().total / 1e9
    busy = os.getloadavg()[0]
    return (
        f"{_read_processor()}, {os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load {busy:.1f} at the beginning"
    )


def _read_processor() -> str:
    if _CPU_FACTS.exists():
        for line in _CPU_FACTS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _print_table(title: str, machine: str, results: Sequence[Result]) -> None:
    table = Table(title=title, title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    for heading in ("measured", "median", "unit", "goal", "met", "runs"):
        table.add_column(heading, justify="right" if heading in {"median", "goal"} else "left")
    for result in results:
        met = {True: "yes", False: "no", None: ""}[result.is_met]
        runs = ", ".join(f"{run:.4g}" for run in result.runs)
        table.add_row(result.name, f"{result.value:.4g}", result.unit, _describe_goal(result), met, runs)
    console = Console(width=160)
    console.print(table)
    console.print(machine, highlight=False)


def _describe_goal(result: Result) -> str:
    if result.at_least is not None:
        return f"at least {result.at_least:g}"
    return "" if result.at_most is None else f"at most {result.at_most:g}"
