"""`farmy reconcile`: repair from listings what events and polls lost."""

from dataclasses import asdict
from datetime import UTC, datetime

import click

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import is_watched, json_option, notices, print_facts, report


@click.command()
@json_option
def reconcile(*, as_json: bool) -> None:
    """Compare what is really in landing, raw and Label Studio with the tables, and note what is missing or gone.

    The next `farmy run`, or the daemon, takes the notes in. The look-up index is rebuilt from the tables.

    Example: farmy reconcile
    """
    from farmy_assets.reconciliation import reconcile_lake

    with Lake(load_settings()) as lake, notices.status("Reconciling") as status:

        def show_progress(what: str) -> None:
            if is_watched():
                status.update(f"Comparing {what}")

        result = reconcile_lake(lake, datetime.now(UTC), show_progress)
    report(as_json, asdict(result), lambda _: print_facts("Reconciled", result.describe()))
