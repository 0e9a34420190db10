"""A webhook on loopback that keeps what is posted to it, and answers as a test wants."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET_PATH = "/services/T0/B0/s3cret-path"


@dataclass
class AlertReceiver:
    """What was posted, and how the next posts are answered.

    Attributes:
        port: Where it listens.
        status: How each post is answered.
        hangs: Whether posts are not answered at all, until the receiver ends.
        posts: What was posted, in the order of arrival.
    """

    port: int = 0
    status: int = 200
    hangs: bool = False
    posts: list[dict[str, Any]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{SECRET_PATH}"


@contextmanager
def start_alert_receiver() -> Iterator[AlertReceiver]:
    """Listen on a free port of loopback; it ends whatever happens."""
    receiver = AlertReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == SECRET_PATH
            assert self.headers["Content-Type"] == "application/json"
            receiver.posts.append(json.loads(body))
            if receiver.hangs:
                receiver.ended.wait()
                return
            self.send_response(receiver.status)
            self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
