"""`farmy label`: what is known of one image."""

from typing import Any

import click

from adapters.lake import Lake
from adapters.settings import load_settings
from cli.output import json_option, print_facts, print_table, report
from lakehouse.quality import REJECTED

NOT_CLASSIFIED = "NOT_CLASSIFIED"


@click.command()
@click.argument("token")
@json_option
def label(token: str, *, as_json: bool) -> None:
    """Tell what is known of an image: its status and labels, with confidence and source.

    TOKEN is what `farmy submit` printed; its first characters do where they are unique to one image.

    Example: farmy label 3f786850e387550fdab836ed7e6dc881de23001b
    """
    with Lake(load_settings()) as lake:
        answer = read_label(lake, token)
    report(as_json, answer, _show)


def read_label(lake: Lake, token: str) -> dict[str, Any]:
    """Return an image's status and its labels, people's first.

    The status is `NOT_CLASSIFIED`, `CLASSIFIED`, `REJECTED` by cleansing, or `WITHDRAWN` by who landed it.

    Raises:
        NotFoundError: If nobody ever submitted or landed it.
    """
    image_id = lake.index.find_image(token)
    first = lake.index.find_firsts([image_id]).get(image_id)
    if first is None:
        return {"token": image_id, "status": NOT_CLASSIFIED, "labels": []}
    if first.is_withdrawn:
        return {"token": image_id, "status": "WITHDRAWN", "labels": []}
    where = {"image_id": [image_id]}
    verdicts = lake.tables.read("cleansed_images", day=first.ingest_date, where=where).to_pylist()
    if verdicts and verdicts[0]["status"] == REJECTED:
        return {"token": image_id, "status": "REJECTED", "reason": verdicts[0]["reason"], "labels": []}
    labelled = lake.tables.read("labelled_dataset", day=first.ingest_date, where=where).to_pylist()
    predicted = lake.tables.read("predicted_labels", day=first.ingest_date, where=where).to_pylist()
    labels = [
        {
            "label": lake.settings.class_names.get(row["class_id"], row["class_id"]),
            "class_id": row["class_id"],
            "confidence": row["confidence"],
            "source": "people",
            "version": row["rule"],
        }
        for row in labelled
        if row["kind"] == "choice" and row["class_id"] and not row["is_conflict"]
    ] + [
        {
            "label": row["label"],
            "class_id": row["class_id"],
            "confidence": row["confidence"],
            "source": row["model_name"],
            "version": row["model_version"],
        }
        for row in sorted(predicted, key=lambda row: (row["class_id"] is None, row["model_name"], row["rank"]))
    ]
    return {"token": image_id, "status": "CLASSIFIED" if labels else NOT_CLASSIFIED, "labels": labels}


def _show(answer: dict[str, Any]) -> None:
    print_facts(answer["token"], {name: answer[name] for name in ("status", "reason") if name in answer})
    if answer["labels"]:
        print_table(None, answer["labels"])
