"""Which votes an image has, and what is shown of the labels that came of them."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.fingerprints import hash_values


def collect_votes(annotations: pa.Table, tasks: pa.Table) -> pa.Table:
    """Return one row per answered image: `image_id, ingest_date, votes, assignees`, the last two as hashes.

    Args:
        annotations: `image_id, ingest_date, fingerprint` of a day's annotations.
        tasks: `image_id, assignees` of the day's tasks.
    """
    assignees = dict(zip(tasks.column("image_id").to_pylist(), tasks.column("assignees").to_pylist(), strict=True))
    votes: dict[str, tuple[object, list[str]]] = {}
    for row in annotations.to_pylist():
        votes.setdefault(row["image_id"], (row["ingest_date"], []))[1].append(row["fingerprint"])
    image_ids = sorted(votes)
    return pa.table(
        {
            "image_id": pa.array(image_ids, pa.string()),
            "ingest_date": pa.array([votes[image_id][0] for image_id in image_ids], pa.date32()),
            "votes": pa.array([hash_values(*sorted(votes[image_id][1])) for image_id in image_ids], pa.string()),
            "assignees": pa.array([hash_values(*assignees.get(image_id, [])) for image_id in image_ids], pa.string()),
        }
    )


def preview_labels(labels: pa.Table) -> dict[str, Any]:
    """Return a day's counts of labels by phase, its conflicts, and its mean agreement on choices."""
    choices = labels.filter(pc.equal(labels.column("kind"), "choice"))
    phases = {f"images {item['values']}": item["counts"] for item in choices.column("phase").value_counts().to_pylist()}
    agreement = pc.mean(choices.column("agreement")).as_py()
    return {
        **dict(sorted(phases.items())),
        "conflicts": pc.sum(labels.column("is_conflict")).as_py() or 0,
        **({} if agreement is None else {"mean_agreement": round(agreement, 4)}),
    }
