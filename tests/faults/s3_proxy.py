"""A proxy on loopback in front of an S3, which fails as S3 and the way to it do: by a seed, on a share of all calls.

What it lets through it forwards unchanged, `Host` included, so that signatures hold.
"""

import random
import shutil
import socketserver
import struct
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET, socket
from typing import IO, Any
from urllib.parse import urlsplit

_PIECE_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Fault(Enum):
    """What can go wrong with a call."""

    INTERNAL_ERROR = "answered 500 InternalError"
    SLOW_DOWN = "answered 503 SlowDown"
    RESET = "reset before it was carried out"
    LOST_ANSWER = "carried out, and reset before the answer"
    CUT_ANSWER = "carried out, and reset in the middle of the answer"


_REFUSALS = {
    Fault.INTERNAL_ERROR: (HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "We encountered an internal error."),
    Fault.SLOW_DOWN: (HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate."),
}


class S3Proxy:
    """A running proxy.

    Attributes:
        endpoint: `http://127.0.0.1:port`, to be used as the S3's own.
        share: The share of calls that fail, 0 to 1; may be changed at any time.
        calls: How many calls came, by method.
        faults: How many of them failed, by method and fault.
    """

    def __init__(self, endpoint: str, upstream: str, seed: int) -> None:
        self.endpoint = endpoint
        self.share = 0.0
        self.calls: Counter[str] = Counter()
        self.faults: Counter[tuple[str, Fault]] = Counter()
        self.upstream = urlsplit(upstream).netloc
        self._random = random.Random(seed)
        self._planned: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._lock = threading.Lock()

    def fail_next(self, method: str, *faults: Fault) -> None:
        """Have the next calls of a method fail, one for each fault."""
        with self._lock:
            self._planned[method].extend(faults)

    def count_faults(self) -> Counter[Fault]:
        """Return how many calls failed, by fault."""
        counts: Counter[Fault] = Counter()
        for (_, fault), count in self.faults.items():
            counts[fault] += count
        return counts

    def decide(self, method: str) -> Fault | None:
        """Count a call, and return what is to go wrong with it."""
        with self._lock:
            self.calls[method] += 1
            fault = self._choose(method)
            if fault is not None:
                self.faults[method, fault] += 1
            return fault

    def _choose(self, method: str) -> Fault | None:
        if self._planned[method]:
            return self._planned[method].popleft()
        return self._random.choice(list(Fault)) if self._random.random() < self.share else None


@contextmanager
def start_s3_proxy(upstream: str, seed: int) -> Iterator[S3Proxy]:
    """Run a proxy, which fails on nothing yet.

    Args:
        upstream: The S3, `http://host:port`.
        seed: Of two runs with one seed the n-th calls fail alike.
    """
    with _Listener(upstream, seed) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listener.proxy
        finally:
            listener.shutdown()
            listener.hang_up()
            thread.join()
    assert listener.errors == []


class _Listener(socketserver.ThreadingTCPServer):
    request_queue_size = 128

    def __init__(self, upstream: str, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = S3Proxy(f"http://127.0.0.1:{self.server_address[1]}", upstream, seed)
        self.errors: list[BaseException] = []
        self._open: set[socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection without taking leave first, so that one that is to be reset is."""
        self._open.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Remember what went wrong in the proxy itself; a client may hang up as it likes."""
        import sys

        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.errors.append(error)

    def hang_up(self) -> None:
        """End the connections that clients keep for later."""
        for connection in list(self._open):
            try:
                connection.shutdown(SHUT_RDWR)
            except OSError:  # its client was faster
                continue


class _Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""

    def _serve(self) -> None:
        fault = self.server.proxy.decide(self.command)
        if fault in _REFUSALS:
            self._drain()
            self._refuse(*_REFUSALS[fault])
        elif fault is Fault.RESET:
            self._drain()
            self._reset()
        else:
            upstream = HTTPConnection(self.server.proxy.upstream)
            try:
                self._answer(self._forward(upstream), fault)
            finally:
                upstream.close()

    def _forward(self, upstream: HTTPConnection) -> HTTPResponse:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders()
        for piece in self._read_body():
            upstream.send(piece)
        return upstream.getresponse()

    def _read_body(self) -> Iterator[bytes]:
        """Yield the body as it comes; one in chunks (RFC 9112, 7.1) with the marks of its chunks."""
        if "Transfer-Encoding" not in self.headers:
            yield from self._read_bytes(int(self.headers.get("Content-Length", 0)))
            return
        while size := int((line := self.rfile.readline()).partition(b";")[0] or b"0", 16):
            yield line
            yield from self._read_bytes(size + len(b"\r\n"))
        yield line
        while (line := self.rfile.readline()).strip():
            yield line
        yield line

    def _read_bytes(self, count: int) -> Iterator[bytes]:
        while count and (piece := self.rfile.read(min(count, _PIECE_BYTES))):
            count -= len(piece)
            yield piece

    def _drain(self) -> None:
        for _ in self._read_body():
            continue

    def _answer(self, answer: HTTPResponse, fault: Fault | None) -> None:
        body: IO[bytes] = answer
        length, headers = answer.length or 0, answer.getheaders()
        if answer.chunked:
            data = answer.read()
            body, length = BytesIO(data), len(data)
            headers = [(name, value) for name, value in headers if name.lower() != "transfer-encoding"]
            headers.append(("Content-Length", str(length)))
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers)]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if fault is Fault.LOST_ANSWER:
            self._reset()
        elif fault is Fault.CUT_ANSWER:
            self.wfile.write(head + body.read(length // 2) if length > 1 else head[: len(head) // 2])
            self._reset()
        else:
            self.wfile.write(head)
            shutil.copyfileobj(body, self.wfile)
            self.close_connection = answer.will_close

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
            "<RequestId>0123456789ABCDEF</RequestId></Error>"
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
        self.close_connection = True
