"""From queued events to notes: what the arrivals sensor does with a queue at each tick.

A message is deleted only after the notes that hold its hints are written. Whatever happens in between, it comes again,
and writes the same hints again.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from adapters import inbox
from adapters.event_queue import EventQueue, QueueMessage
from adapters.lake import Lake
from lakehouse.arrivals import LANDING, build_event_hints, list_looked_up
from lakehouse.errors import UnreadableEventError
from lakehouse.landing_events import LandingEvent, locate_in_lake, parse_message

_CALLS_AT_ONCE = 4
_ROUNDS_PER_NOTE = 10
"""Rounds of receiving whose messages are noted together: at most 400 are held."""
_WAIT_S = 1


@dataclass(frozen=True)
class Drained:
    """What a look into the queue brought.

    Attributes:
        events: Events in landing that were noted.
        ignored: Events elsewhere in the bucket, and messages that tell of no object.
        set_aside: Messages that went to the dead-letter queue.
        is_empty: Whether the queue was found empty in the end.
    """

    events: int
    ignored: int
    set_aside: int
    is_empty: bool


def note_queued_events(
    lake: Lake, queue: EventQueue, budget_s: float, read_clock: Callable[[], float] = time.monotonic
) -> Drained:
    """Take messages from the queue until it is empty or the time is up, and leave hints at what they tell of.

    Args:
        lake: The lake.
        queue: Its queue.
        budget_s: Seconds after which no further messages are taken.
        read_clock: Seconds that pass evenly.
    """
    deadline = read_clock() + budget_s
    counts: Counter[str] = Counter()
    is_empty = False
    with ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="queue") as pool:
        while not is_empty and read_clock() < deadline:
            messages: list[QueueMessage] = []
            for _ in range(_ROUNDS_PER_NOTE):
                received = list(pool.map(queue.receive, [_WAIT_S] * _CALLS_AT_ONCE))
                messages += [message for batch in received for message in batch]
                is_empty = not any(received)
                if is_empty or read_clock() >= deadline:
                    break
            counts += _note_messages(lake, queue, messages, pool)
    return Drained(counts["events"], counts["ignored"], counts["set aside"], is_empty)


def _note_messages(
    lake: Lake, queue: EventQueue, messages: Sequence[QueueMessage], pool: ThreadPoolExecutor
) -> Counter[str]:
    """Note what messages tell of, then delete them; return counts by what they were."""
    counts: Counter[str] = Counter()
    events: list[tuple[str, LandingEvent]] = []
    understood = []
    for message in messages:
        try:
            own = _read_message(lake, message)
        except UnreadableEventError as error:
            queue.set_aside(message, str(error))
            counts["set aside"] += 1
            continue
        events += own
        understood.append(message)
        counts["events" if own else "ignored"] += len(own) or 1
    inbox.note_hints(lake, build_event_hints(events, inbox.find_days_of_objects(lake, list_looked_up(events))))
    batches = [understood[start : start + 10] for start in range(0, len(understood), 10)]
    list(pool.map(queue.delete, batches))
    return counts


def _read_message(lake: Lake, message: QueueMessage) -> list[tuple[str, LandingEvent]]:
    """Return the events of a message that are about landing, each with its object's key.

    Raises:
        UnreadableEventError: If the message makes no sense.
    """
    bucket, prefix = lake.objects.bucket_and_prefix
    located = [(locate_in_lake(event, bucket, prefix, LANDING), event) for event in parse_message(message.body)]
    return [(key, event) for key, event in located if key is not None]
