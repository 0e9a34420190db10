"""`farmy release`: immutable dataset versions."""

from typing import Any

import click

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import json_option, print_facts, print_table, report


@click.group()
def release() -> None:
    """Make, list and compare immutable dataset versions."""


@release.command()
@click.argument("name", required=False)
@json_option
def create(name: str | None, *, as_json: bool) -> None:
    """Pin the labels that are accepted now under a name; without one it follows from the content.

    Example: farmy release create 2026-11
    """
    with Lake(load_settings()) as lake:
        row = make_release(lake, name)
    report(as_json, row, lambda row: print_facts(f"Release {row['name']}", row))


def make_release(lake: Lake, name: str | None) -> dict[str, Any]:
    """Make a release in a run of its own, and return its row."""
    from cli.runs import run_assets

    before = {row["name"] for row in lake.releases.list()}
    run_assets(lake, [], ["dataset_releases"], release=name)
    rows = lake.releases.list()
    if name is not None:
        return lake.releases.find(name)
    new = [row for row in rows if row["name"] not in before]
    return new[0] if new else rows[-1]


@release.command(name="list")
@json_option
def list_releases(*, as_json: bool) -> None:
    """List the releases, oldest first.

    Example: farmy release list
    """
    with Lake(load_settings()) as lake:
        rows = lake.releases.list()
    report(as_json, rows, lambda rows: print_table(None, [_shorten(row) for row in rows]))


@release.command()
@click.argument("old")
@click.argument("new")
@json_option
def diff(old: str, new: str, *, as_json: bool) -> None:
    """Show which labels were added, removed or changed from one release to another.

    Example: farmy release diff 2026-10 2026-11
    """
    from lakehouse.releases import diff_releases

    with Lake(load_settings()) as lake:
        rows = diff_releases(lake.releases.read_manifest(old), lake.releases.read_manifest(new)).to_pylist()
    report(as_json, rows, lambda rows: print_table(f"{old} to {new}", rows))


def _shorten(row: dict[str, Any]) -> dict[str, Any]:
    shown = ("name", "created_at", "images", "labels", "train_images", "validation_images", "test_images")
    return {name: row[name] for name in shown} | {"content": row["content_hash"][:12]}
