"""URLs and addresses that nobody may be made to fetch from; `{port}` stands for that of a server on 127.0.0.1."""
# ruff: noqa: RUF001, S104 - hosts that look like others are what this is about, and nothing binds to any

FORBIDDEN_ADDRESSES = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.88.99.1", "224.0.0.1", "239.255.255.250"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:0:127.0.0.1", "::ffff:8.8.8.8"),
    *("64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:808:808::1"),
    *("2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "100::1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1", "4000::1", "2606:4700::5efe:7f00:1"),
]

FORBIDDEN_URLS = [
    # Loopback in every notation that a C library or a browser understands
    *("http://127.0.0.1:{port}/", "http://127.0.0.2:{port}/", "http://localhost:{port}/", "http://LocalHost:{port}/"),
    *("http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0X7F000001:{port}/"),
    *("http://017700000001:{port}/", "http://0177.0.0.1:{port}/", "http://0177.0.0.01:{port}/"),
    *("http://0x7f.0.0.1:{port}/", "http://0x7f.0x0.0x0.0x1:{port}/", "http://127.0.0.0x1:{port}/"),
    *("http://127.1:{port}/", "http://127.0.1:{port}/", "http://0x7f.1:{port}/", "http://0177.1:{port}/"),
    *("http://127.65793:{port}/", "http://0:{port}/", "http://0.0.0.0:{port}/", "http://00000000177.0.0.1:{port}/"),
    *("http://127.0.0.1.:{port}/", "http://localhost.:{port}/", "http://127.1.:{port}/", "http://127.0.0.1..:{port}/"),
    *("http://127.0.0.001:{port}/", "http://127.00.0.1:{port}/", "http://4294967295:{port}/"),
    *("http://18446744071562067969:{port}/", "http://-127.0.0.1:{port}/", "http://127.0.0.256:{port}/"),
    *("http://127%2e0%2e0%2e1:{port}/", "http://%31%32%37.0.0.1:{port}/", "http://127.0.0.1%00.example.org:{port}/"),
    # Letters that look, or are folded, like others
    *("http://１２７.0.0.1:{port}/", "http://①②⑦.⓪.⓪.①:{port}/", "http://127。0。0。1:{port}/"),
    *("http://127．0．0．1:{port}/", "http://127｡0｡0｡1:{port}/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/"),
    *("http://locaLhoſt:{port}/", "http://loc\u00adalhost:{port}/", "http://loc\u200balhost:{port}/"),
    *("http://٠١٢٧.0.0.1:{port}/", "httpſ://127.0.0.1:{port}/", "http://127.0.0.1:{port}０/"),
    # IPv6
    *(
        "http://[::1]:{port}/",
        "http://[0:0:0:0:0:0:0:1]:{port}/",
        "http://[::]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
    ),
    *("http://[::ffff:7f00:1]:{port}/", "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/", "http://[::127.0.0.1]:{port}/"),
    *("http://[64:ff9b::127.0.0.1]:{port}/", "http://[64:ff9b:1::127.0.0.1]:{port}/", "http://[2002:7f00:1::]:{port}/"),
    *("http://[2001:0:7f00:1::]:{port}/", "http://[fe80::1%25lo]:{port}/", "http://[fe80::1%lo]:{port}/"),
    *("http://[::1%25lo]:{port}/", "http://[::1%lo]:{port}/", "http://[2606:4700::1%25lo]:{port}/"),
    *("http://[fd00:ec2::254]/", "http://[::ffff:0x7f.1]:{port}/", "http://[127.0.0.1]:{port}/", "http://[::1:{port}/"),
    *("http://::1:{port}/", "http://[::1]x:{port}/", "http://[v1.127.0.0.1]:{port}/", "http://[]:{port}/"),
    # Where a cloud tells its machines their secrets
    *(
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://0251.0376.0251.0376/",
    ),
    *("http://169.254.43518/", "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/"),
    *("http://100.100.100.200/", "http://168.63.129.16/", "http://192.0.0.192/"),
    # Who is asked, said in two ways
    *("http://user@127.0.0.1:{port}/", "http://example.org@127.0.0.1:{port}/", "http://a:b@localhost:{port}/"),
    *("http://127.0.0.1:{port}@example.org/", "http://127.0.0.1:{port}\\@example.org/", "http://@127.0.0.1:{port}/"),
    *(
        "http://127.0.0.1:{port}#@example.org/",
        "http://127.0.0.1:{port}?@example.org/",
        "http://example.org\\@127.0.0.1:{port}/",
    ),
    *(
        "http:\\\\127.0.0.1:{port}\\",
        "http:/\\127.0.0.1:{port}/",
        "http:/127.0.0.1:{port}/",
        "http:///127.0.0.1:{port}/",
    ),
    *("http:127.0.0.1:{port}/", "//127.0.0.1:{port}/", "127.0.0.1:{port}/", "http://", "http://:{port}/", ""),
    *(
        "http://127.0.0.1:{port}:80/",
        "http://127.0.0.1:+{port}/",
        "http://127.0.0.1:0{port}0000/",
        "http://127.0.0.1:0/",
    ),
    *("http://127.0.0.1:/", "http://127.0.0.1:-1/", "http://127.0.0.1:99999/", "http://127.0.0.1,example.org:{port}/"),
    # Letters that nobody should see
    *("http://127.0.0.1:{port}/\r\nHost: example.org", "http://127.0.0.1\n:{port}/", "http://127.0.0.1\t:{port}/"),
    *(
        "\thttp://127.0.0.1:{port}/",
        " http://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/\0",
        "ht\ntp://127.0.0.1:{port}/",
    ),
    *("http://127.0.0.1:{port}/a b", "http://127.0.0.1:{port}/\u2028", "http://127.0.0.1:{port}/\ud800"),
    # Other schemes
    *("file:///etc/passwd", "file://127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/_GET"),
    *(
        "dict://127.0.0.1:{port}/",
        "ldap://127.0.0.1:{port}/",
        "data:image/png;base64,iVBORw0KGgo=",
        "javascript:alert(1)",
    ),
    *("ws://127.0.0.1:{port}/", "unix:///run/docker.sock", "jar:http://127.0.0.1:{port}/!/", "http+unix://127.0.0.1/"),
    *("url:http://127.0.0.1:{port}/", "HTTP ://127.0.0.1:{port}/", "s3://lake/raw"),
]
