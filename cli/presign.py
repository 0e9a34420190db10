"""`farmy presign`: leave for somebody without credentials to put one image into landing."""

import shlex
from datetime import timedelta
from typing import Any

import click

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import console, json_option, print_facts, report
from cli.submit import check_source
from lakehouse.submissions import find_content_type


def _check_name(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    try:
        find_content_type(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return name


@click.command()
@click.option("--source", required=True, callback=check_source, help="Who lands it: the first folder below landing/.")
@click.option("--name", required=True, callback=_check_name, help="The image's file name; its suffix says what it is.")
@click.option(
    "--minutes", type=click.IntRange(1, 60), default=15, show_default=True, help="How long the form can be posted."
)
@json_option
def presign(source: str, name: str, minutes: int, *, as_json: bool) -> None:
    """Print a form with which anybody can put one image into landing, for a phone app to post.

    The objects have to live in a bucket. Nothing is written until the form is posted.

    Example: farmy presign --source phone --name leaf.jpg --minutes 5
    """
    with Lake(load_settings()) as lake:
        upload = lake.presigned_uploads.create(source, name, is_valid_for=timedelta(minutes=minutes))
    result = {
        "url": upload.url,
        "fields": upload.fields,
        "object_key": upload.object_key,
        "expires_at": upload.expires_at.isoformat(timespec="seconds"),
    }
    report(as_json, result, lambda result: _show(result, name))


def _show(result: dict[str, Any], name: str) -> None:
    print_facts("Post as a form, the image last, as `file`", {"url": result["url"], **result["fields"]})
    console.print(f"\nIt lands as {result['object_key']}, until {result['expires_at']}:\n", markup=False)
    console.print(build_curl_line(result["url"], result["fields"], name), soft_wrap=True, markup=False, highlight=False)


def build_curl_line(url: str, fields: dict[str, str], name: str) -> str:
    """Return a shell command that posts a form with a file of the present folder."""
    quoted_name = name.replace("\\", "\\\\").replace('"', '\\"')
    words = ["curl", "--fail-with-body"]
    for field, value in fields.items():
        words += ["--form-string", f"{field}={value}"]
    return shlex.join([*words, "--form", f'file=@"{quoted_name}"', url])
