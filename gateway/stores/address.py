"""Where a Redis is and how one introduces oneself to it, read from a url as redis-py reads it. Connects to nothing."""

import ssl
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec

from gateway.core.secret import Secret
from gateway.stores.line import Part, pack

PORT: Final = 6379
CLIENT_NAME: Final = "postern"
REQUIREMENTS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
FALSEHOODS: Final = ("0", "F", "FALSE", "N", "NO")
"""What redis-py takes for false, whatever the case."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One server: a host and a port, or a socket's `path`. `tls` as far as the url asks for it."""

    host: str = "localhost"
    port: int = PORT
    path: str = ""
    database: int = 0
    user: str = ""
    password: Secret | None = None
    client_name: str = CLIENT_NAME
    protocol: int = 2
    """RESP2 says all that is said here, and every proxy speaks it."""
    tls: ssl.SSLContext | None = None


def read_address(url: str) -> Address:
    """Return the server that a redis://, rediss:// or unix:// url names.

    Raises ValueError for what can't be read, OSError for certificates' files that can't.
    """
    parts = urlsplit(url)
    options = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    given_user, given_password = options.pop("username", ""), options.pop("password", "")
    user, password = unquote(parts.username or "") or given_user, unquote(parts.password or "") or given_password
    database = options.pop("db", "") or ("" if parts.scheme == "unix" else unquote(parts.path).replace("/", ""))
    host, port, path = _place(parts)
    address = Address(
        host=host,
        port=port,
        path=path,
        database=int(database or 0),
        user=user,
        password=Secret(password) if password else None,
        client_name=options.pop("client_name", CLIENT_NAME),
        protocol=int(options.pop("protocol", "2")),
    )
    if address.protocol not in (2, 3):
        raise ValueError("protocol is 2 or 3")
    return msgspec.structs.replace(address, tls=_tls(parts.scheme, options))


def _place(parts: SplitResult) -> tuple[str, int, str]:
    """Return host, port and a socket's path."""
    if parts.scheme == "unix":
        return "", 0, unquote(parts.path)
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError("not a url of one server")
    return unquote(parts.hostname or "localhost"), parts.port or PORT, ""


def _tls(scheme: str, options: dict[str, str]) -> ssl.SSLContext | None:
    """Return what TLS must hold to, from options by redis-py's names; all must be used up."""
    if scheme != "rediss":
        if options:
            raise ValueError("an option that is not known")
        return None
    context = ssl.create_default_context()
    needed = options.pop("ssl_cert_reqs", "required")
    if needed not in REQUIREMENTS:
        raise ValueError("an ssl_cert_reqs that is not known")
    wants_name = options.pop("ssl_check_hostname", "true").upper() not in FALSEHOODS
    context.check_hostname = wants_name and needed != "none"
    context.verify_mode = REQUIREMENTS[needed]
    certificate, key = options.pop("ssl_certfile", None), options.pop("ssl_keyfile", None)
    password = options.pop("ssl_password", None)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password)
    trusted = [options.pop(name, None) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")]
    if any(trusted):
        context.load_verify_locations(*trusted)
    if "ssl_min_version" in options:
        context.minimum_version = ssl.TLSVersion(int(options.pop("ssl_min_version")))
    if "ssl_ciphers" in options:
        context.set_ciphers(options.pop("ssl_ciphers"))
    if options:
        raise ValueError("an option that is not known")
    return context


def introduction(address: Address) -> list[bytes]:
    """Return the commands that a connection begins with; each must be answered without an error."""
    password = address.password.reveal() if address.password else ""
    credentials = (address.user or "default", password) if password else ()
    first: list[tuple[Part, ...]] = []
    if address.protocol == 3:
        first.append(("HELLO", 3, "AUTH", *credentials) if credentials else ("HELLO", 3))
    elif credentials:
        # Before Redis 6 there were no users, and AUTH took a password only.
        first.append(("AUTH", *credentials) if address.user else ("AUTH", password))
    if address.database:
        first.append(("SELECT", address.database))
    return [pack(command) for command in first]


def courtesy(address: Address) -> bytes:
    """Return the command by which a server's operator sees whose connection it is; it may be refused."""
    return pack(("CLIENT", "SETNAME", address.client_name))
