"""Where a Redis is, read from a url: redis-py reads the same."""

import ssl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.asyncio.connection import parse_url

from gateway.core.secret import Secret
from gateway.stores.address import Address, courtesy, introduction, read_address

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)


@st.composite
def urls(draw):
    def quoted(text):
        return "".join(f"%{byte:02X}" for byte in text.encode())

    scheme = draw(st.sampled_from(["redis", "unix"]))
    user, password = quoted(draw(TEXT)), quoted(draw(TEXT))
    credentials = draw(st.sampled_from(["", f"{user}:{password}@", f":{password}@", f"{user}@"]))
    place = (
        "/run/r%20s.sock" if scheme == "unix" else draw(st.sampled_from(["h", "127.0.0.1:7", "[::1]:8", "H.example"]))
    )
    database = draw(st.sampled_from(["", "/", "/0", "/15"])) if scheme == "redis" else ""
    options = draw(
        st.lists(st.sampled_from(["db=2", "db=4", "protocol=3", "client_name=a%20b", "username=x", "password=y"]))
    )
    return f"{scheme}://{credentials}{place}{database}" + ("?" + "&".join(options) if options else "")


@given(urls())
@example("redis://:p%2540@h")
def test_a_url_says_what_it_says_to_redis_py(url):
    ours, theirs = read_address(url), parse_url(url)
    assert ours.path == theirs.get("path", "")
    if not ours.path:
        assert (ours.host, ours.port) == (theirs.get("host", "localhost"), theirs.get("port", 6379))
    assert ours.database == theirs.get("db", 0)
    assert ours.user == theirs.get("username", "")
    assert (ours.password.reveal() if ours.password else "") == theirs.get("password", "")
    assert ours.protocol == theirs.get("protocol", 2)
    assert ours.client_name == theirs.get("client_name", "postern")


def test_tls_is_as_strict_as_asked_and_strict_unless_asked():
    strict = read_address("rediss://h").tls
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    loose = read_address("rediss://h?ssl_cert_reqs=none").tls
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_NONE, False)
    nameless = read_address("rediss://h?ssl_check_hostname=no&ssl_min_version=772&ssl_ciphers=ECDHE+AESGCM").tls
    assert (nameless.verify_mode, nameless.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert nameless.minimum_version is ssl.TLSVersion.TLSv1_3
    assert read_address("redis://h").tls is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (Address(), []),
        (Address(password=Secret("p"), database=2), [b"AUTH p", b"SELECT 2"]),
        (Address(user="u", password=Secret("p")), [b"AUTH u p"]),
        (Address(user="u"), []),
        (Address(protocol=3, password=Secret("p")), [b"HELLO 3 AUTH default p"]),
        (Address(protocol=3), [b"HELLO 3"]),
    ],
)
def test_an_introduction_says_no_more_than_it_must(address, said):
    words = [
        b" ".join(line for line in command.split(b"\r\n")[1:] if line[:1] != b"$") for command in introduction(address)
    ]
    assert [one.strip() for one in words] == said
    assert b"postern" in courtesy(address)


def test_a_password_is_not_shown():
    assert "hunter2" not in repr(read_address("redis://:hunter2@h"))


def test_who_has_nothing_on_rediss_needs_certificates_that_are_there():
    with pytest.raises(OSError):
        read_address("rediss://h?ssl_ca_certs=/no/such/file")
