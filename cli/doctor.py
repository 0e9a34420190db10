"""`farmy doctor`: are the settings and connections in order?"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click

from adapters.lake import LABEL_STUDIO_COMMAND, Lake
from adapters.settings import load_settings
from cli.output import json_option, print_table, report
from lakehouse.arrivals import LANDING
from lakehouse.errors import FarmyError, SettingsError, StorageError

_LEAST_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    is_well: bool
    finding: str


@click.command()
@json_option
def doctor(*, as_json: bool) -> int:
    """Check the settings and everything that they connect to; exit 1 if anything is not well.

    Example: farmy doctor
    """
    with Lake(load_settings()) as lake:
        findings = [examine(name, check, lake) for name, check in CHECKS.items()]
    rows = [finding.__dict__ for finding in findings]
    report(as_json, rows, lambda rows: print_table(None, rows))
    return 0 if all(finding.is_well for finding in findings) else 1


def examine(name: str, check: Callable[[Lake], str], lake: Lake) -> Finding:
    """Run one check; what it raises on purpose is its finding."""
    try:
        return Finding(name, True, check(lake))
    except FarmyError as error:
        return Finding(name, False, str(error))


def _check_home(lake: Lake) -> str:
    home = lake.settings.home
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / ".doctor"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SettingsError(f"{home} cannot be written: {error.strerror}. Set FARMY_HOME to another folder.") from error
    free_bytes = shutil.disk_usage(home).free
    if free_bytes < _LEAST_FREE_BYTES:
        raise StorageError(
            f"{home} has {free_bytes / 1e9:.1f} GB of room left: make room, or set FARMY_HOME elsewhere."
        )
    return f"{home}, {free_bytes / 1e9:.0f} GB free"


def _check_objects(lake: Lake) -> str:
    sources = {prefix.removeprefix(LANDING).rstrip("/") for prefix in lake.objects.list_folders(LANDING)}
    unnamed = sorted(sources - {source.name for source in lake.settings.sources})
    remark = f"; farmy.toml does not name {', '.join(unnamed)}" if unnamed else ""
    return f"{lake.objects.root}, {len(sources)} sources in landing{remark}"


def _check_tables(lake: Lake) -> str:
    days = lake.tables.read_days("raw_images")
    return f"{len(days)} days with images"


def _check_index(lake: Lake) -> str:
    lake.index.find_firsts(["0" * 64])
    return "answers"


def _check_notes(lake: Lake) -> str:
    from adapters.inbox import list_days_with_arrivals, list_days_with_progress, list_parked

    waiting = {*list_days_with_arrivals(lake), *list_days_with_progress(lake)}
    parked = list_parked(lake)
    if parked:
        raise StorageError(
            f"{len(parked)} objects in landing cannot be taken in, the first: {parked[0].reason} `farmy reconcile` has "
            "each tried again."
        )
    return f"{len(waiting)} days with notes that wait for a run"


def _check_queue(lake: Lake) -> str:
    if lake.event_queue is None:
        return "none: arrivals are found by listing landing"
    depth = lake.event_queue.measure()
    if depth.dead:
        raise StorageError(
            f"{depth.dead} messages wait in the dead-letter queue: look at each message's attribute `reason`, mend "
            "what sends it, and purge that queue. What they told of is found by `farmy reconcile`."
        )
    return f"{depth.waiting} messages wait, {depth.in_flight} in flight"


def _check_label_studio(lake: Lake) -> str:
    if lake.is_label_studio_up():
        lake.label_studio.check()
        return f"answers at {lake.label_studio.url}"
    if not LABEL_STUDIO_COMMAND.is_file():
        raise SettingsError(f"Label Studio is not installed at {LABEL_STUDIO_COMMAND}: run `make setup`.")
    return "installed; `farmy up` starts it"


def _check_model(lake: Lake) -> str:
    model = lake.image_model
    newest = lake.label_models.load_newest()
    own = f"label model {newest.version}" if newest else "no label model yet"
    return f"{model.name} {model.version}, {own}"


def _check_classes(lake: Lake) -> str:
    mapped = sum(class_id is not None for class_id in lake.image_model_labels.class_ids)
    return f"{len(lake.settings.classes)} classes, {mapped} ImageNet labels mean one of them"


CHECKS: Mapping[str, Callable[[Lake], str]] = {
    "home": _check_home,
    "classes": _check_classes,
    "objects": _check_objects,
    "tables": _check_tables,
    "look-up index": _check_index,
    "event queue": _check_queue,
    "notes": _check_notes,
    "models": _check_model,
    "Label Studio": _check_label_studio,
}
