"""`farmy export`: a release as files that other tools load."""

import json
from pathlib import Path
from typing import Any

import click

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import is_watched, json_option, notices, print_facts, report
from lakehouse.coco import build_coco
from lakehouse.errors import StorageError


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "format_name", type=click.Choice(["coco"]), default="coco", show_default=True)
@click.option("--release", "release_name", required=True, metavar="NAME", help="Which release.")
@json_option
def export(out: Path, format_name: str, release_name: str, *, as_json: bool) -> None:
    """Write a release into a folder: images, and their labels in the format.

    Example: farmy export --format coco --release 2026-11 out/
    """
    with Lake(load_settings()) as lake:
        result = export_coco(lake, release_name, out)
    report(as_json, {"format": format_name, **result}, lambda result: print_facts(f"Release {release_name}", result))


def export_coco(lake: Lake, release_name: str, out: Path) -> dict[str, Any]:
    """Write `annotations.json` and `images/<split>/`; files that are there already are written again.

    Raises:
        NotFoundError: If there is no such release.
        StorageError: If the folder cannot be written.
    """
    manifest = lake.releases.read_manifest(release_name)
    coco = build_coco(manifest, lake.settings.classes)
    keys = dict(zip(manifest.column("image_id").to_pylist(), manifest.column("standard_key").to_pylist(), strict=True))
    try:
        with notices.status("", spinner="dots") as status:
            for number, image in enumerate(coco["images"], start=1):
                if is_watched():
                    status.update(f"Writing image {number} of {len(coco['images'])}")
                file = out / image["file_name"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(lake.objects.read(keys[image["farmy_image_id"]]))
        file = out / "annotations.json"
        file.write_text(json.dumps(coco, indent=1))
    except OSError as error:
        raise StorageError(
            f"Could not write the export into {out}: {error.strerror}. Give a folder that you can "
            "write and that has room."
        ) from error
    return {"images": len(coco["images"]), "boxes": len(coco["annotations"]), "annotations_file": str(file)}
