from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.addresses import MAX_URL_LETTERS, WebAddress, find_obstacle, parse_web_address, show_url

v4_numbers = st.integers(0, 2**32 - 1)
v6_numbers = st.one_of(
    st.integers(0, 2**128 - 1),
    # Random numbers rarely fall into the blocks that IPv4 addresses are carried in.
    st.builds(
        lambda block, rest: int(IPv6Address(block)) | rest,
        st.sampled_from(["::", "::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "2001::", "2002::", "2600::", "fe80::"]),
        st.integers(0, 2**64 - 1),
    ),
)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
        *("128.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "198.17.255.255", "198.20.0.0"),
        *("223.255.255.255", "2001:4860:4860::8888", "2606:4700::1111", "2a00:1450:4001::1", "2001:200::1"),
    ],
)
def test_public_addresses_may_be_connected_to(address: str) -> None:
    assert find_obstacle(address) is None


@pytest.mark.parametrize(
    ("address", "obstacle"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),  # noqa: S104
        ("::", "unspecified"),
        ("10.1.2.3", "private"),
        ("fd00:ec2::254", "private"),
        ("100.64.0.1", "shared by a carrier's customers"),
        ("169.254.169.254", "link-local"),
        ("fec0::1", "site-local"),
        ("168.63.129.16", "a cloud's metadata service"),
        ("203.0.113.7", "for documentation"),
        ("198.19.0.1", "for benchmarking"),
        ("255.255.255.255", "reserved"),
        ("ff02::1", "multicast"),
        ("::ffff:8.8.8.8", "an IPv4 address in IPv6"),
        ("64:ff9b::8.8.8.8", "an IPv4 address in IPv6"),
        ("2002:808:808::", "a tunnel"),
        ("2606:4700::200:5efe:808:808", "a tunnel"),
        ("4000::1", "not global unicast"),
        ("fe80::1%eth0", "link-local"),
        ("2606:4700::1%eth0", "bound to one link"),
        ("localhost", "no IP address"),
        ("", "no IP address"),
    ],
)
def test_what_is_not_public_is_said_by_its_kind(address: str, obstacle: str) -> None:
    assert find_obstacle(address) == obstacle


@given(v4_numbers)
@example(int(IPv4Address("192.88.99.1")))
def test_no_ipv4_address_is_let_through_that_the_registries_do_not_call_global(number: int) -> None:
    ip = IPv4Address(number)
    assert find_obstacle(str(ip)) is not None or (ip.is_global and not ip.is_multicast and not ip.is_reserved)


@given(v6_numbers)
def test_no_ipv6_address_is_let_through_that_the_registries_do_not_call_global(number: int) -> None:
    ip = IPv6Address(number)
    let_through = find_obstacle(str(ip)) is None
    carries_v4 = ip.ipv4_mapped or ip.sixtofour or ip.teredo
    assert not let_through or (ip.is_global and not ip.is_multicast and not carries_v4)


@given(v4_numbers)
def test_an_ipv4_address_in_ipv6_is_refused_whatever_it_is(number: int) -> None:
    v4 = IPv4Address(number)
    for carrier in (f"::ffff:{v4}", f"::{v4}", f"64:ff9b::{v4}", f"64:ff9b:1::{v4}", f"2606:4700::5efe:{v4}"):
        assert find_obstacle(carrier) is not None


def test_a_network_that_was_opened_may_be_connected_to_and_its_neighbours_may_not() -> None:
    opened = (ip_network("10.20.0.0/16"), ip_network("fd00:1::/32"))
    assert find_obstacle("10.20.255.255", opened) is None
    assert find_obstacle("fd00:1::1", opened) is None
    assert find_obstacle("10.21.0.0", opened) == "private"
    assert find_obstacle("::ffff:10.20.0.1", opened) == "an IPv4 address in IPv6"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://example.org", WebAddress("http", "example.org", 80, "/")),
        ("HTTPS://Example.ORG/A.jpg", WebAddress("https", "example.org", 443, "/A.jpg")),
        ("https://example.org:8443/a?b=c&d#e", WebAddress("https", "example.org", 8443, "/a?b=c&d")),
        ("http://example.org?b", WebAddress("http", "example.org", 80, "/?b")),
        ("http://example.org#b/c?d", WebAddress("http", "example.org", 80, "/")),
        ("http://1.2.3.4:80/", WebAddress("http", "1.2.3.4", 80, "/")),
        ("http://[2606:4700:0::1111]:81/", WebAddress("http", "2606:4700::1111", 81, "/")),
        (
            "http://xn--pfel-koa.example/Ä b".replace(" ", "%20"),
            WebAddress("http", "xn--pfel-koa.example", 80, "/%C3%84%20b"),
        ),
        ("http://a_b-c.d1/x//y/../z", WebAddress("http", "a_b-c.d1", 80, "/x//y/../z")),
        ("http://intranet/@me/a@b?c@d", WebAddress("http", "intranet", 80, "/@me/a@b?c@d")),
        ("http://1.2.3.4.example/", WebAddress("http", "1.2.3.4.example", 80, "/")),
        ("http://0x7f.example/", WebAddress("http", "0x7f.example", 80, "/")),
    ],
)
def test_a_plain_url_means_what_it_says(url: str, address: WebAddress) -> None:
    assert parse_web_address(url) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/", "does not begin with http"),
        ("example.org/a.jpg", "does not begin with http"),
        ("http:/example.org", "does not begin with http"),
        ("http://user@example.org/", "names a user"),
        ("http://@example.org/", "names a user"),
        ("http://example.org/a b", "has a space"),
        ("http://example.org\\a", "a backslash"),
        ("http://example.org/\x7f", "cannot be printed"),
        ("http://Äpfel.example/", "not written in ASCII"),
        ("http://\u212aelvin.example/", "not written in ASCII"),
        ("http://127.1/", "not an IP address in its plain notation"),
        ("http://a.0x/", "not an IP address in its plain notation"),
        ("http://[::1%25lo]/", "bound to one link"),
        ("http://[::1/", "not written plainly"),
        ("http://example.org./", "is not a plain name"),
        ("http://exa%6dple.org/", "is not a plain name"),
        ("http://-a.example/", "is not a plain name"),
        ("http://a..example/", "is not a plain name"),
        (f"http://{'a' * 64}.example/", "is not a plain name"),
        (f"http://{'a.' * 127}example/", "is not a plain name"),
        ("http:///a.jpg", "is not a plain name"),
        ("http://example.org:0/", "port is not a number from 1"),
        ("http://example.org:65536/", "port is not a number from 1"),
        ("http://example.org:8_0/", "port is not a number from 1"),
        ("http://example.org:/", "port is not a number from 1"),
        ("http://[::1]x/", "not written plainly"),
        (f"http://example.org/{'a' * MAX_URL_LETTERS}", "longer than 4096 letters"),
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_web_address(url)


@given(
    st.text(max_size=60).map("http://".__add__)
    | st.from_regex(r"https?://[a-z0-9.:\[\]@%-]{1,20}(/.*)?", fullmatch=True)
)
@example("http://[::]/")
def test_what_is_accepted_is_accepted_again_as_the_same_and_is_ascii(url: str) -> None:
    try:
        address = parse_web_address(url)
    except ValueError:
        return
    assert str(address).isascii()
    assert str(address).isprintable()
    assert " " not in str(address)
    assert parse_web_address(str(address)) == address
    if ":" in address.host or address.host.rpartition(".")[2].isdecimal():
        assert str(ip_address(address.host)) == address.host


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a.jpg?token=secret#top", "https://example.org/a.jpg"),
        ("https://example.org/a.jpg#secret?x", "https://example.org/a.jpg"),
        ("https://me:secret@example.org/@her/a.jpg", "https://example.org/@her/a.jpg"),
        ("https://example.org/a\r\nb\x1b[31m", "https://example.org/a__b_[31m"),
        ("", ""),
        ("https://example.org/" + "a" * 200, "https://example.org/" + "a" * 180 + "…"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert show_url(url) == shown
