"""How commands speak: text and tables for people, one JSON object with `--json` for machines."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 160)
"""What a command has to say; progress goes to `notices`, so that output can be piped."""
notices = Console(stderr=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")


def is_watched() -> bool:
    """Tell whether a person watches, who is shown progress."""
    return sys.stderr.isatty()


def print_json(value: object) -> None:
    """Print one JSON value."""
    click.echo(json.dumps(value, default=_encode, ensure_ascii=False))


def _encode(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)


def print_table(title: str | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that share their keys as a table."""
    if not rows:
        console.print(f"{title}: none" if title else "No rows.")
        return
    table = Table(title=title, title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    for name, value in rows[0].items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_format(value) for value in row.values()))
    console.print(table)


def _format(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list):
        return ", ".join(map(_format, value))
    # What stands in brackets, as in an IPv6 address, would be taken for a style.
    return escape(str(value))


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    table = Table(title=title, title_justify="left", show_header=False, show_edge=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, _format(value))
    console.print(table)


def report(as_json: bool, value: Any, show: Callable[[Any], None]) -> None:  # noqa: ANN401, FBT001
    """Print a value as JSON, or show it to a person."""
    if as_json:
        print_json(value)
    else:
        show(value)
