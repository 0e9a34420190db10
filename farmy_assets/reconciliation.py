"""Reconciliation: listings repair whatever events, polls and killed runs lost. The decision is `lakehouse`'s."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from adapters import inbox
from adapters.lake import Lake
from farmy_assets.stages import list_stale_days
from lakehouse.arrivals import LANDING
from lakehouse.reconciliation import COMPARED, compare

_RAW = "raw/"
_KEYS_SHOWN = 20


@dataclass(frozen=True)
class Reconciliation:
    """What a reconcile found. The next runs mend what they can: the first six; the others are for people to look at.

    Attributes:
        objects_new: Objects in landing that no row knows as they are.
        objects_deleted: Rows whose objects are gone from landing.
        originals_missing: Rows whose originals are gone from raw, and that are read from landing again.
        parked_retried: Objects that could not be taken in and are tried again.
        tasks_changed: Tasks in Label Studio to look at again; None if it does not run.
        days_stale: Days on which a table is not up to date.
        images_in_index: Images in the look-up index, which was rebuilt.
        originals_lost: Originals that are gone from raw and from landing, the first few keys.
        originals_orphaned: Originals that no row names, the first few keys.
        sidecars_orphaned: Sidecars beside which no image lies, the first few keys.
        counts: How many of the last three there are.
    """

    objects_new: int
    objects_deleted: int
    originals_missing: int
    parked_retried: int
    tasks_changed: int | None
    days_stale: int
    images_in_index: int
    originals_lost: tuple[str, ...]
    originals_orphaned: tuple[str, ...]
    sidecars_orphaned: tuple[str, ...]
    counts: dict[str, int]

    def describe(self) -> dict[str, object]:
        """Return it as names and values, keys as one text."""
        facts = asdict(self)
        counts = facts.pop("counts")
        for name, count in counts.items():
            keys = ", ".join(facts[name])
            facts[name] = f"{count}: {keys}{' ...' if count > _KEYS_SHOWN else ''}" if count else "0"
        return facts


def reconcile_lake(lake: Lake, now: datetime, on_progress: Callable[[str], None] = lambda _: None) -> Reconciliation:
    """Compare what is really there with the tables, and leave notes for whatever is missing, gone or stale.

    Running it again changes nothing until the notes are taken in; on another day what failed is tried again.

    Args:
        lake: The lake.
        now: The present time.
        on_progress: Told in a few words what is being looked at.
    """
    occasion = f"reconcile of {now:%Y-%m-%d}"
    on_progress("the look-up index")
    images = inbox.rebuild_index(lake)
    on_progress("landing and raw")
    rows = lake.tables.read("raw_images", columns=list(COMPARED))
    found = compare(lake.objects.list(LANDING), lake.objects.list(_RAW), rows, lake.settings.sources, now)
    inbox.note_hints(lake, found.build_hints(occasion))
    parked = inbox.retry_parked(lake, occasion)
    tasks = None
    if lake.is_label_studio_up() and lake.tables.snapshot_id("annotation_tasks") is not None:
        on_progress("the tasks in Label Studio")
        tasks = inbox.note_annotation_progress(lake, from_the_beginning=True)
    on_progress("what is not up to date")
    stale = list_stale_days(lake)
    for day in stale:
        inbox.wake_day(lake, day)
    reported = {
        "originals_lost": found.lost_originals,
        "originals_orphaned": found.orphaned_originals,
        "sidecars_orphaned": found.orphaned_sidecars,
    }
    return Reconciliation(
        objects_new=len(found.new),
        objects_deleted=sum(map(len, found.deleted.values())),
        originals_missing=sum(map(len, found.unkept.values())),
        parked_retried=parked,
        tasks_changed=tasks,
        days_stale=len(stale),
        images_in_index=images,
        **{name: keys[:_KEYS_SHOWN] for name, keys in reported.items()},
        counts={name: len(keys) for name, keys in reported.items()},
    )
