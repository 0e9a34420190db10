"""`farmy reconcile`: repair from listings what events and polls lost."""

import click

from adapters import inbox
from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import json_option, print_facts, report


@click.command()
@json_option
def reconcile(*, as_json: bool) -> None:
    """Compare what is really in landing and Label Studio with the tables, and note what is missing.

    The next `farmy run`, or the daemon, takes the notes in. The look-up index is rebuilt from the tables.

    Example: farmy reconcile
    """
    with Lake(load_settings()) as lake:
        result = {"images_in_index": inbox.rebuild_index(lake), "objects_noted": inbox.note_all_arrivals(lake)}
        if lake.is_label_studio_up() and lake.tables.snapshot_id("annotation_tasks") is not None:
            result["tasks_noted"] = inbox.note_annotation_progress(lake, from_the_beginning=True)
    report(as_json, result, lambda result: print_facts("Reconciled", result))
