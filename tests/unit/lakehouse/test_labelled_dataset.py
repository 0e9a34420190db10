from datetime import date

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.labelled_dataset import collect_votes, preview_labels

DAY = date(2026, 11, 2)


def collect(votes: list[tuple[str, str]], assignees: dict[str, list[str]] | None = None) -> pa.Table:
    asked = assignees or {}
    annotations = pa.table(
        {
            "image_id": pa.array([image_id for image_id, _ in votes], pa.string()),
            "ingest_date": pa.array([DAY] * len(votes), pa.date32()),
            "fingerprint": pa.array([fingerprint for _, fingerprint in votes], pa.string()),
        }
    )
    tasks = pa.table(
        {
            "image_id": pa.array(list(asked), pa.string()),
            "assignees": pa.array(list(asked.values()), pa.list_(pa.string())),
        }
    )
    return collect_votes(annotations, tasks)


def preview(*labels: tuple[str, str, float | None, bool]) -> dict[str, object]:
    columns = ("kind", "phase", "agreement", "is_conflict")
    types = (pa.string(), pa.string(), pa.float64(), pa.bool_())
    return preview_labels(
        pa.Table.from_pylist(
            [dict(zip(columns, label, strict=True)) for label in labels],
            schema=pa.schema(list(zip(columns, types, strict=True))),
        )
    )


def test_every_answered_image_has_one_row_and_an_unanswered_one_none() -> None:
    rows = collect([("b", "1"), ("a", "1"), ("b", "2")], {"a": ["ann"], "c": ["ann"]})
    assert rows.column("image_id").to_pylist() == ["a", "b"]
    assert rows.column("ingest_date").to_pylist() == [DAY, DAY]


def test_no_answers_are_no_rows() -> None:
    assert collect([], {"a": ["ann"]}).num_rows == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("123")), min_size=1), st.data())
def test_the_order_of_votes_does_not_count(votes: list[tuple[str, str]], data: st.DataObject) -> None:
    assert collect(data.draw(st.permutations(votes))) == collect(votes)


def test_another_vote_or_another_assignee_makes_the_image_stale_and_no_other() -> None:
    votes, asked = [("a", "1"), ("b", "1")], {"a": ["ann"], "b": ["ann"]}
    before = collect(votes, asked)
    revoted, reassigned = collect([*votes, ("a", "2")], asked), collect(votes, {**asked, "a": ["ann", "bob"]})
    assert revoted.column("votes")[0] != before.column("votes")[0]
    assert reassigned.column("assignees")[0] != before.column("assignees")[0]
    for after in (revoted, reassigned):
        assert after.slice(1).to_pylist() == before.slice(1).to_pylist()


def test_the_preview_counts_images_by_phase_conflicts_and_mean_agreement() -> None:
    shown = preview(
        ("choice", "complete", 1.0, False),
        ("choice", "complete", 0.5, False),
        ("choice", "conflict", None, True),
        ("box", "complete", 0.0, True),
    )
    assert shown == {"images complete": 2, "images conflict": 1, "conflicts": 2, "mean_agreement": 0.75}


def test_the_preview_of_an_empty_day_is_without_a_mean() -> None:
    assert preview() == {"conflicts": 0}
