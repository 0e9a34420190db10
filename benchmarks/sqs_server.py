"""A queue on loopback that speaks SQS's JSON protocol, as much of it as sending, receiving and deleting need.

`python -m benchmarks.sqs_server BODIES` holds one message for each line of a file, and prints its address. It stands in
for SQS where a hundred thousand messages wait: each call costs the same however many there are.
"""

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import boto3

_VISIBILITY_S = 120
_POLL_S = 0.02


class Queue:
    """Messages, of which none is forgotten before it is deleted. Safe to share among threads.

    Args:
        bodies: What they say.
        read_clock: Seconds that pass evenly.
    """

    def __init__(self, bodies: Iterable[str] = (), read_clock: Callable[[], float] = time.monotonic) -> None:
        self._read_clock = read_clock
        self._bodies: dict[int, str] = {}
        self._waiting: deque[int] = deque()
        self._in_flight: dict[int, float] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        self.send(bodies)

    def send(self, bodies: Iterable[str]) -> None:
        """Add messages."""
        with self._lock:
            for body in bodies:
                number = next(self._numbers)
                self._bodies[number] = body
                self._waiting.append(number)

    def receive(self, most: int, wait_s: float) -> list[tuple[str, str]]:
        """Return the handle and body of up to `most` messages; waits for the first."""
        deadline = self._read_clock() + wait_s
        while not (taken := self._take(most)) and self._read_clock() < deadline:
            time.sleep(_POLL_S)
        return [(str(number), self._bodies[number]) for number in taken]

    def delete(self, handles: Sequence[str]) -> None:
        """Forget messages that were received."""
        with self._lock:
            for handle in handles:
                self._in_flight.pop(int(handle), None)
                self._bodies.pop(int(handle), None)

    def _take(self, most: int) -> list[int]:
        now = self._read_clock()
        with self._lock:
            # Handed over in the order of time, so the oldest stand first.
            while self._in_flight and next(iter(self._in_flight.values())) <= now:
                expired = next(iter(self._in_flight))
                del self._in_flight[expired]
                self._waiting.append(expired)
            oldest = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            taken = [number for number in oldest if number in self._bodies]
            self._in_flight |= dict.fromkeys(taken, now + _VISIBILITY_S)
        return taken


def answer(queue: Queue, action: str, call: dict[str, Any]) -> dict[str, Any]:
    """Return what SQS answers.

    Args:
        queue: The queue.
        action: `ReceiveMessage`, `DeleteMessageBatch` or `SendMessageBatch`.
        call: The fields of the call.

    Raises:
        ValueError: If it is any other action.
    """
    match action:
        case "ReceiveMessage":
            received = queue.receive(int(call.get("MaxNumberOfMessages", 1)), float(call.get("WaitTimeSeconds", 0)))
            return {
                "Messages": [{"MessageId": handle, "ReceiptHandle": handle, "Body": body} for handle, body in received]
            }
        case "DeleteMessageBatch":
            queue.delete([entry["ReceiptHandle"] for entry in call["Entries"]])
            return {"Successful": [{"Id": entry["Id"]} for entry in call["Entries"]], "Failed": []}
        case "SendMessageBatch":
            queue.send([entry["MessageBody"] for entry in call["Entries"]])
            return {"Successful": [{"Id": entry["Id"], "MessageId": entry["Id"]} for entry in call["Entries"]]}
    raise ValueError(f"The queue of the benchmarks does not answer {action}: use a real one for that.")


@contextmanager
def start_sqs_server(bodies: Path) -> Iterator[str]:
    """Run a server in a process of its own, yield the queue's address, and end it whatever happens.

    Args:
        bodies: File with a message a line.

    Raises:
        RuntimeError: If it does not start.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sqs_server", str(bodies)],
        cwd=Path(__file__).resolve().parents[1],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            address = process.stdout.readline().strip() if process.stdout is not None else ""
            if not address:
                raise RuntimeError(f"Could not start a queue with the messages of {bodies}: see what it wrote above.")
            yield address
        finally:
            process.kill()


def send_messages(url: str, bodies: Sequence[str]) -> None:
    """Send messages to a queue, ten at a time; credentials come from the environment."""
    client = boto3.client("sqs", endpoint_url=url.rpartition("/")[0].rpartition("/")[0], region_name="us-east-1")
    for start in range(0, len(bodies), 10):
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies[start : start + 10])]
        client.send_message_batch(QueueUrl=url, Entries=entries)


def _serve(queue: Queue) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the second part of an answer waits for the first to be acknowledged.
        wbufsize = -1

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(answer(queue, self.headers["X-Amz-Target"].removeprefix("AmazonSQS."), call)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing about calls."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/123456789012/arrivals", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    _serve(Queue(Path(sys.argv[1]).read_text().splitlines()))
