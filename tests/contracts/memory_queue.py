"""An event queue in memory, for tests: with the faults of a real one, on request, and a clock that can be moved."""

import heapq
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.event_queue import MAX_RECEIVED, QueueDepth, QueueMessage, cut_body, cut_reason


@dataclass
class _Held:
    message_id: str
    body: str
    visible_at: float
    receipts: list[str]


class MemoryQueue:
    """An `EventQueue` that hands messages over in any order, and some of them twice.

    Args:
        visibility_s: How long a received message stays away unless it is deleted.
        max_receives: How often a message is received before it goes to the dead-letter queue.
        duplicate_share: Of the messages received, the share that stays to be received once more, 0 to 1.
        seed: Decides order and duplicates.

    Attributes:
        dead: Body and reason of the messages in the dead-letter queue; None for those received too often.
    """

    def __init__(
        self, visibility_s: float = 120, max_receives: int = 5, duplicate_share: float = 0, seed: int = 0
    ) -> None:
        self.dead: list[tuple[str, str | None]] = []
        self._visibility_s = visibility_s
        self._max_receives = max_receives
        self._duplicate_share = duplicate_share
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._waiting: list[str] = []
        self._hidden: list[tuple[float, str]] = []
        self._sent = 0
        self._passed_s = 0.0

    def send(self, *bodies: str, delay_s: float = 0) -> None:
        """Put messages into the queue, to be received after a delay."""
        with self._lock:
            for body in bodies:
                self._sent += 1
                message_id = f"message-{self._sent}"
                held = self._held[message_id] = _Held(message_id, body, 0, [])
                self._hide(held, delay_s)

    def pass_time(self, seconds: float) -> None:
        """Move the queue's clock on."""
        self._passed_s += seconds

    def receive(self, wait_s: int = 0) -> list[QueueMessage]:  # noqa: ARG002
        """Return up to ten messages, at once."""
        with self._lock:
            while self._hidden and self._hidden[0][0] <= self._now():
                self._waiting.append(heapq.heappop(self._hidden)[1])
            chosen: list[_Held] = []
            while self._waiting and len(chosen) < MAX_RECEIVED:
                held = self._held.get(self._take_any())
                if held is not None and len(held.receipts) >= self._max_receives:
                    self._bury(held)
                elif held is not None:
                    chosen.append(held)
            return [self._hand_over(held) for held in chosen]

    def delete(self, messages: Sequence[QueueMessage]) -> int:
        """Delete messages, also such as came back meanwhile, and return how many receipts were known."""
        with self._lock:
            return sum(self._delete_one(message) for message in messages)

    def set_aside(self, message: QueueMessage, reason: str) -> None:
        """Put a message into the dead-letter queue, and then delete it."""
        with self._lock:
            self.dead.append((cut_body(message.body), cut_reason(reason)))
            self._delete_one(message)

    def measure(self) -> QueueDepth:
        """Count the messages."""
        with self._lock:
            now = self._now()
            hidden = [held for held in self._held.values() if held.visible_at > now]
            delayed = sum(not held.receipts for held in hidden)
            return QueueDepth(len(self._held) - len(hidden), len(hidden) - delayed, delayed, len(self.dead))

    def _take_any(self) -> str:
        place = self._random.randrange(len(self._waiting))
        self._waiting[place], self._waiting[-1] = self._waiting[-1], self._waiting[place]
        return self._waiting.pop()

    def _hand_over(self, held: _Held) -> QueueMessage:
        receipt = f"{held.message_id}-{len(held.receipts) + 1}"
        held.receipts.append(receipt)
        if self._random.random() < self._duplicate_share:
            self._waiting.append(held.message_id)
        else:
            self._hide(held, self._visibility_s)
        return QueueMessage(held.message_id, receipt, held.body)

    def _hide(self, held: _Held, seconds: float) -> None:
        held.visible_at = self._now() + seconds
        heapq.heappush(self._hidden, (held.visible_at, held.message_id))

    def _delete_one(self, message: QueueMessage) -> bool:
        held = self._held.get(message.message_id)
        if held is not None and message.receipt in held.receipts:
            del self._held[message.message_id]
        return held is None or message.receipt in held.receipts

    def _bury(self, held: _Held) -> None:
        self.dead.append((held.body, None))
        del self._held[held.message_id]

    def _now(self) -> float:
        return time.monotonic() + self._passed_s
