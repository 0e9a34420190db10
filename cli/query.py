"""`farmy query`: ask the tables in SQL."""

import click

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import json_option, print_table, report


@click.command()
@click.argument("sql")
@json_option
def query(sql: str, *, as_json: bool) -> None:
    r"""Run one SELECT in Athena's SQL over the tables.

    \b
    Examples:
      farmy query "SELECT status, count(*) AS images FROM cleansed_images GROUP BY status"
      farmy query "SELECT * FROM image_catalog WHERE phase = 'conflict'" --json
    """
    from adapters.sql import query as run_query

    with Lake(load_settings()) as lake:
        rows = run_query(lake.tables, sql).to_pylist()
    report(as_json, rows, lambda rows: print_table(None, rows))
