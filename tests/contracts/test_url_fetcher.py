"""Fetching from a real server on loopback: what is allowed arrives, and what is forbidden is never even asked for."""

import io
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest
import trustme
from PIL import Image

from adapters.url_fetcher import MAX_REDIRECTS, MAX_SECONDS, FetchedImage, UrlFetcher
from benchmarks.loop import find_free_ports
from lakehouse.errors import FetchFailedError, FetchRefusedError
from lakehouse.submissions import MAX_IMAGE_BYTES
from tests.contracts.forbidden_urls import FORBIDDEN_ADDRESSES, FORBIDDEN_URLS
from tests.contracts.loopback_server import (
    LoopbackServer,
    answer_with,
    drip,
    redirect_to,
    send,
    start_loopback_server,
    wait_then,
)

LOOPBACK = (ip_network("127.0.0.0/8"),)
OPEN_HOST = "127.0.0.2"
"""Stands for the public internet: the tests open this address alone."""
OPENED = (ip_network(f"{OPEN_HOST}/32"),)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def make_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (40, 160, 60)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = make_png()


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """An image, and nothing else, where nobody may fetch from."""
    with start_loopback_server({"*": answer_with(PNG)}) as running:
        yield running


@dataclass
class Names:
    """A resolver that answers from a list, one answer after the other; the last one stays."""

    answers: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, f"nobody knows {host} at {port}")
        turns = self.answers[host]
        return turns.pop(0) if len(turns) > 1 else turns[0]


def fetch_failing(fetcher: UrlFetcher, url: str, error: type[Exception] = FetchRefusedError) -> str:
    with pytest.raises(error) as caught:
        fetcher.fetch(url)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


# What is allowed


def test_an_image_arrives_with_its_format_and_where_it_came_from(server: LoopbackServer) -> None:
    url = server.url("/a%20b.png?size=large#top")
    assert UrlFetcher(LOOPBACK).fetch(url) == FetchedImage(PNG, url.removesuffix("#top"), "png")


def test_the_request_names_the_host_asks_for_bytes_as_they_are_and_carries_nothing_else(server: LoopbackServer) -> None:
    names = Names({"pictures.test": [["127.0.0.1"]]})
    UrlFetcher(LOOPBACK, resolver=names).fetch(server.url("/Äpfel.png?v=1", host="Pictures.test"))
    (request,) = server.requests
    line, *headers = request.strip().split("\r\n")
    assert line == "GET /%C3%84pfel.png?v=1 HTTP/1.1"
    assert headers == [
        f"Host: pictures.test:{server.port}",
        "Accept: image/*",
        "Accept-Encoding: identity",
        "Connection: close",
        "User-Agent: farmy",
    ]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_followed(status: str) -> None:
    answers = {"/old": redirect_to("/new.png?v=2", status), "*": answer_with(PNG)}
    with start_loopback_server(answers) as running:
        fetched = UrlFetcher(LOOPBACK).fetch(running.url("/old"))
    assert fetched.url == running.url("/new.png?v=2")


def test_three_redirects_are_followed_and_a_fourth_is_not() -> None:
    answers = {f"/{number}": redirect_to(f"/{number - 1}") for number in range(1, 6)} | {"*": answer_with(PNG)}
    with start_loopback_server(answers) as running:
        assert UrlFetcher(LOOPBACK).fetch(running.url(f"/{MAX_REDIRECTS}")).data == PNG
        running.requests.clear()
        message = fetch_failing(UrlFetcher(LOOPBACK), running.url("/5"))
        assert "redirected more than 3 times" in message
        assert [request.split()[1] for request in running.requests] == ["/5", "/4", "/3", "/2"]


def test_an_address_that_does_not_answer_gives_way_to_the_next(server: LoopbackServer) -> None:
    names = Names({"pictures.test": [["127.0.0.3", "127.0.0.1"]]})
    assert UrlFetcher(LOOPBACK, resolver=names).fetch(server.url(host="pictures.test")).data == PNG


def test_the_limits_are_those_that_are_promised() -> None:
    assert (MAX_IMAGE_BYTES, MAX_SECONDS, MAX_REDIRECTS) == (50_000_000, 20, 3)


# What is forbidden


@pytest.mark.parametrize("url", FORBIDDEN_URLS, ids=ascii)
def test_a_forbidden_url_is_refused_and_nobody_is_asked(server: LoopbackServer, url: str) -> None:
    fetch_failing(UrlFetcher(), url.replace("{port}", str(server.port)))
    assert server.requests == []


@pytest.mark.parametrize("url", FORBIDDEN_URLS, ids=ascii)
def test_a_redirect_to_a_forbidden_url_is_refused_and_nobody_is_asked(server: LoopbackServer, url: str) -> None:
    location = url.replace("{port}", str(server.port)).encode("utf-8", "surrogatepass")
    answer = send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n")
    # Some lead, relative to the one who redirects, back to him, again and again.
    with (
        start_loopback_server({"*": answer}, OPEN_HOST) as redirecting,
        pytest.raises((FetchRefusedError, FetchFailedError)),
    ):
        UrlFetcher(OPENED).fetch(redirecting.url())
    assert redirecting.requests
    assert server.requests == []


def test_there_are_more_forbidden_urls_than_were_asked_for() -> None:
    assert len(set(FORBIDDEN_URLS)) == len(FORBIDDEN_URLS) > 60


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "127.1", "0x7f.1"),
        *("0", "127.0.0.001", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021"),
    ],
)
def test_whoever_does_not_judge_reaches_the_forbidden_server(server: LoopbackServer, host: str) -> None:
    # As browsers and curl do before they look a name up.
    plain = host.encode("idna").decode() if not host.isascii() else host
    with socket.create_connection((plain, server.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.recv(100)
    assert len(server.requests) == 1


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
def test_a_forbidden_address_is_refused_as_such_as_a_name_and_behind_a_redirect(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    names = Names({"pictures.test": [[address]], "redirecting.test": [[OPEN_HOST]]})
    fetcher = UrlFetcher(OPENED, resolver=names)
    answers = {"/as-address": redirect_to(f"http://{host}/"), "/as-name": redirect_to("https://pictures.test/a.png")}
    with start_loopback_server(answers | {"*": answer_with(PNG)}, OPEN_HOST) as redirecting:
        hop = redirecting.url("", host="redirecting.test")
        for url in (f"http://{host}/", "http://pictures.test/", f"{hop}/as-address", f"{hop}/as-name"):
            assert "Only public addresses" in fetch_failing(fetcher, url)


@pytest.mark.parametrize("turns", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::1"]])
def test_a_name_with_one_forbidden_address_among_others_is_refused(server: LoopbackServer, turns: list[str]) -> None:
    fetch_failing(UrlFetcher(resolver=Names({"pictures.test": [turns]})), server.url(host="pictures.test"))
    assert server.requests == []


def test_the_address_that_was_judged_is_the_one_that_is_connected_to(server: LoopbackServer) -> None:
    names = Names({"pictures.test": [[OPEN_HOST], ["127.0.0.1"]]})
    with start_loopback_server({"*": answer_with(PNG)}, OPEN_HOST, server.port) as opened:
        UrlFetcher(OPENED, resolver=names).fetch(opened.url(host="pictures.test"))
    assert names.asked == ["pictures.test"]
    assert (len(opened.requests), server.requests) == (1, [])


def test_a_name_that_leads_elsewhere_at_the_next_look_is_judged_anew_after_a_redirect(server: LoopbackServer) -> None:
    names = Names({"pictures.test": [[OPEN_HOST], ["127.0.0.1"]]})
    answers = {"/first": redirect_to("/second"), "*": answer_with(PNG)}
    with start_loopback_server(answers, OPEN_HOST, server.port) as opened:
        message = fetch_failing(UrlFetcher(OPENED, resolver=names), opened.url("/first", host="pictures.test"))
    assert "pictures.test is at 127.0.0.1, which is loopback" in message
    assert names.asked == ["pictures.test"] * 2
    assert (len(opened.requests), server.requests) == (1, [])


def test_the_last_of_a_chain_of_redirects_is_judged_like_the_first(server: LoopbackServer) -> None:
    answers = {
        "/1": redirect_to("/2", "308 Permanent Redirect"),
        "/2": redirect_to("//127.0.0.2:{port}/3", "307 Temporary Redirect"),
        "*": redirect_to(server.url()),
    }
    with start_loopback_server({"*": redirect_to(server.url())}, OPEN_HOST) as last:
        answers["/2"] = redirect_to(last.url("/3"))
        with start_loopback_server(answers, OPEN_HOST) as first:
            assert "loopback" in fetch_failing(UrlFetcher(OPENED), first.url("/1"))
    assert (len(first.requests), len(last.requests), server.requests) == (2, 1, [])


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch, server: LoopbackServer) -> None:
    with start_loopback_server({"*": answer_with(PNG)}) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
            monkeypatch.setenv(name.lower(), proxy.url(""))
        monkeypatch.delenv("NO_PROXY", raising=False)
        UrlFetcher(LOOPBACK).fetch(server.url())
        fetch_failing(UrlFetcher(), server.url())
    assert (proxy.requests, len(server.requests)) == ([], 1)


# What servers get wrong


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *[(status, FetchRefusedError) for status in ("404 No", "403 No", "401 No", "410 No", "204 Empty", "206 Part")],
        *[(status, FetchFailedError) for status in ("500 Oh", "503 Later", "429 Slow", "408 Late")],
        ("304 Same", FetchRefusedError),
    ],
)
def test_an_answer_that_is_no_image_tells_whether_trying_again_can_help(status: str, error: type[Exception]) -> None:
    with start_loopback_server({"*": answer_with(b"", status)}) as running:
        assert status.split(maxsplit=1)[0] in fetch_failing(UrlFetcher(LOOPBACK), running.url(), error)


@pytest.mark.parametrize("body", [b"", b"<html><img src='a.png'></html>", b'{"a": 1}', PNG[1:], b"MZ" + PNG])
def test_what_does_not_begin_as_an_image_is_not_taken(body: bytes) -> None:
    with start_loopback_server({"*": answer_with(body, "200 OK", "Content-Type: image/png")}) as running:
        assert "do not begin as an image does" in fetch_failing(UrlFetcher(LOOPBACK), running.url())


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "deflate"])
def test_what_is_encoded_is_not_taken(encoding: str) -> None:
    with start_loopback_server({"*": answer_with(PNG, "200 OK", f"Content-Encoding: {encoding}")}) as running:
        assert "is encoded as" in fetch_failing(UrlFetcher(LOOPBACK), running.url())


def test_a_body_that_is_declared_too_large_is_not_begun() -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_IMAGE_BYTES + 1}\r\n\r\n".encode()
    with start_loopback_server({"*": drip(head, b"")}) as running:
        started = time.monotonic()
        assert "more than 50 MB" in fetch_failing(UrlFetcher(LOOPBACK), running.url())
        assert time.monotonic() - started < 5


def test_a_body_that_turns_out_too_large_is_given_up() -> None:
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    with start_loopback_server({"*": drip(CHUNKED, chunk, pause_seconds=0)}) as running:
        assert "more than 1 MB" in fetch_failing(UrlFetcher(LOOPBACK, max_bytes=1_000_000), running.url())


def test_a_body_of_just_the_largest_size_is_taken() -> None:
    with start_loopback_server({"*": answer_with(PNG)}) as running:
        assert UrlFetcher(LOOPBACK, max_bytes=len(PNG)).fetch(running.url()).data == PNG
        fetch_failing(UrlFetcher(LOOPBACK, max_bytes=len(PNG) - 1), running.url())


BROKEN_ANSWERS = {
    "nothing": send(b""),
    "no HTTP": send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "half a head": send(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a body": send(f"HTTP/1.1 200 OK\r\nContent-Length: {2 * len(PNG)}\r\n\r\n".encode() + PNG),
    "two lengths": send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + PNG),
    "a head without end": drip(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536, pause_seconds=0),
    "a chunk without length": send(CHUNKED + b"zz\r\n" + PNG),
    "a reset": lambda connection: connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
}


@pytest.mark.parametrize("answer", BROKEN_ANSWERS)
def test_a_broken_answer_is_a_failure_of_the_server(answer: str) -> None:
    with start_loopback_server({"*": BROKEN_ANSWERS[answer]}) as running:
        fetch_failing(UrlFetcher(LOOPBACK), running.url(), FetchFailedError)


def test_a_redirect_to_nowhere_in_particular_is_refused_once_it_goes_in_circles() -> None:
    with start_loopback_server({"*": answer_with(b"", "302 Found")}) as running:
        fetch_failing(UrlFetcher(LOOPBACK), running.url())


def test_nobody_at_an_address_is_a_failure_that_names_it() -> None:
    (port,) = find_free_ports(1)
    assert "Could not reach 127.0.0.1" in fetch_failing(
        UrlFetcher(LOOPBACK), f"http://127.0.0.1:{port}/", FetchFailedError
    )


def test_a_name_that_nobody_knows_is_a_failure_that_says_so() -> None:
    message = fetch_failing(UrlFetcher(resolver=Names({})), "http://nobody.test/a.png", FetchFailedError)
    assert "Could not look up nobody.test" in message


def test_a_name_without_addresses_is_a_failure_that_says_so() -> None:
    names = Names({"empty.test": [[]]})
    assert "has no address" in fetch_failing(UrlFetcher(resolver=names), "http://empty.test/", FetchFailedError)


# Who plays for time

SLOW_ANSWERS = {
    "silence": wait_then(5, send(b"")),
    "a status line by the letter": drip(b"", b"H"),
    "headers without end": drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "a header by the letter": drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "a body by the byte": drip(f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_IMAGE_BYTES}\r\n\r\n".encode(), b"x"),
    "chunks by the byte": drip(CHUNKED, b"1\r\nx\r\n"),
    "be patient": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "slow redirects": wait_then(0.3, redirect_to("/image.png")),
}


@pytest.mark.parametrize("answer", SLOW_ANSWERS)
def test_a_server_that_plays_for_time_is_left_when_the_time_is_over(answer: str) -> None:
    with start_loopback_server({"*": SLOW_ANSWERS[answer]}) as running:
        assert_is_given_up_in_time(lambda: UrlFetcher(LOOPBACK, max_seconds=0.8).fetch(running.url()))


def test_a_handshake_that_never_ends_is_left_when_the_time_is_over() -> None:
    with start_loopback_server({"*": wait_then(5, send(b""))}) as running:
        url = running.url(scheme="https")
        assert_is_given_up_in_time(lambda: UrlFetcher(LOOPBACK, max_seconds=0.8).fetch(url))


def test_a_look_up_that_hangs_is_left_when_the_time_is_over() -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        release.wait(10)
        raise OSError(f"no answer for {host}:{port}")

    assert_is_given_up_in_time(lambda: UrlFetcher(resolver=hang, max_seconds=0.8).fetch("http://hanging.test/"))
    release.set()


def assert_is_given_up_in_time(fetch: Callable[[], FetchedImage]) -> None:
    started = time.monotonic()
    with pytest.raises(FetchFailedError, match=r"in 0\.8 s"):
        fetch()
    assert 0.7 < time.monotonic() - started < 4


# Who a server is


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_server(authority: trustme.CA) -> Iterator[LoopbackServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("pictures.test").configure_cert(context)
    with start_loopback_server({"*": answer_with(PNG)}, tls=context) as running:
        yield running


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_server_proves_to_have_the_name_though_its_address_is_connected_to(
    secure_server: LoopbackServer, trust: ssl.SSLContext
) -> None:
    names = Names({"pictures.test": [["127.0.0.1"]]})
    url = secure_server.url(host="pictures.test", scheme="https")
    assert UrlFetcher(LOOPBACK, resolver=names, tls=trust).fetch(url).data == PNG
    assert secure_server.names == ["pictures.test"]


def test_a_server_that_proves_to_be_another_is_refused(secure_server: LoopbackServer, trust: ssl.SSLContext) -> None:
    names = Names({"photos.test": [["127.0.0.1"]]})
    url = secure_server.url(host="photos.test", scheme="https")
    assert "cannot prove who it is" in fetch_failing(UrlFetcher(LOOPBACK, resolver=names, tls=trust), url)
    assert "cannot prove who it is" in fetch_failing(UrlFetcher(LOOPBACK, tls=trust), secure_server.url(scheme="https"))
    assert secure_server.requests == []


def test_a_server_that_nobody_vouches_for_is_refused(secure_server: LoopbackServer) -> None:
    names = Names({"pictures.test": [["127.0.0.1"]]})
    url = secure_server.url(host="pictures.test", scheme="https")
    assert "cannot prove who it is" in fetch_failing(UrlFetcher(LOOPBACK, resolver=names), url)


# Secrets


def test_no_message_shows_what_a_url_holds_in_its_query_or_as_its_user(server: LoopbackServer) -> None:
    (free,) = find_free_ports(1)
    with start_loopback_server(
        {
            "/missing.png": answer_with(b"", "404 Not Found"),
            "/moved.png": redirect_to(f"http://10.0.0.1/{'x' * 10}?token=s3cret"),
            "*": answer_with(b"no image"),
        }
    ) as running:
        urls = [
            *(running.url(f"{path}?token=s3cret#s3cret") for path in ("/missing.png", "/moved.png", "/page.html")),
            *(f"http://{user}127.0.0.1:{free}/a.png?token=s3cret" for user in ("", "s3cret@", "me:s3cret@")),
            *("http://10.0.0.1?s3cret", "http://unknown.test/?s3cret", "ftp://s3cret@x/?s3cret", "http://a b/?s3cret"),
            *("http://x:s3cret@[::1", "http://x:1#s3cret", "http://s3cret:s3cret@①/"),
        ]
        for url in urls:
            with pytest.raises((FetchRefusedError, FetchFailedError)) as caught:
                UrlFetcher(LOOPBACK, resolver=Names({})).fetch(url)
            assert "s3cret" not in str(caught.value), url
    assert server.requests == []
