"""Cross checks of the sections `server`, `redis` and `keys`."""

from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlsplit

from gateway.settings.faults import Fault, under
from gateway.settings.service import ClientKeySettings, KeysSettings, RedisSettings, ServerSettings

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
REDIS_OPTIONS = {"db", "username", "password", "client_name", "protocol"}
"""What the url of one server may ask for after its `?`; rediss:// also what begins with ssl_."""
_SOCKET = "unix:///PATH/OF/redis.sock?db=0"
_EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


def check_server(server: ServerSettings | None, *, has_redis: bool) -> Iterator[Fault]:
    """Yield ports that collide, and workers that would not share their state."""
    if server is None:
        return
    if server.workers > 1 and not has_redis:
        yield Fault("server.workers", "several workers need a shared store", "add `redis: {url: …}`, or set 1")
    hosts = {server.host, server.admin_host}
    if server.port and server.port == server.admin_port and (len(hosts) == 1 or hosts & {*_EVERY_ADDRESS}):
        yield Fault("server.admin_port", "is the data port too", "give the two ports different numbers")


def check_redis(redis: RedisSettings | None) -> Iterator[Fault]:
    """Yield a url that names no Redis. Nothing of the url is told: it may hold a password."""
    if redis is None:
        return
    try:
        parts = urlsplit(redis.url.reveal())
    except ValueError:
        yield Fault("redis.url", "is not a url", "write redis://HOST:PORT/DB")
        return
    if parts.scheme not in REDIS_SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES)
        yield Fault("redis.url", "has a scheme that is not Redis's", f"start it with one of: {schemes}")
    elif parts.scheme == "unix":
        yield from _check_socket(parts)
    elif not parts.netloc.rpartition("@")[2]:
        yield Fault("redis.url", "has no host", f"write {parts.scheme}://HOST:PORT/DB")
    elif not all(map(_has_port, parts.netloc.rpartition("@")[2].split(","))):
        remedy = "write HOST:PORT; in a password write / as %2F, @ as %40, : as %3A, # as %23 and ? as %3F"
        yield Fault("redis.url", "has a port that is not a number up to 65535", remedy)
    elif not _is_database(parts):
        yield Fault("redis.url", "has a database that is not a number", f"write {parts.scheme}://HOST:PORT/0")
    else:
        yield from _check_options(parts, "rediss:// takes ssl_ca_certs and such")


def _check_socket(parts: SplitResult) -> Iterator[Fault]:
    if parts.netloc or not parts.path.strip("/"):
        yield Fault("redis.url", "names no socket", f"write {_SOCKET}")
    elif not _is_number(_option(parts, "db")):
        yield Fault("redis.url", "has a database that is not a number", f"write {_SOCKET}")
    else:
        yield from _check_options(parts, "unix:// takes db, username and password")


def _check_options(parts: SplitResult, remedy: str) -> Iterator[Fault]:
    if not _has_known_options(parts):
        yield Fault("redis.url", "has options that it may not have", remedy)
    elif _option(parts, "protocol", "2") not in ("2", "3"):
        yield Fault("redis.url", "has a protocol that is neither 2 nor 3", "leave it out: 2 is enough")


def _option(parts: SplitResult, name: str, default: str = "") -> str:
    """Return what a url says after its `?`; said twice, the first counts."""
    return parse_qs(parts.query, keep_blank_values=True).get(name, [default])[0]


def _has_port(place: str) -> bool:
    try:
        return urlsplit(f"//{place}").port != 0
    except ValueError:
        return False


def _has_known_options(parts: SplitResult) -> bool:
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.scheme in ("redis+sentinel", "redis+cluster"):
        return not names
    is_tls = parts.scheme == "rediss"
    return all(name in REDIS_OPTIONS or (is_tls and name.startswith("ssl_")) for name in names)


def _is_database(parts: SplitResult) -> bool:
    path = parts.path.strip("/")
    text = path.partition("/")[2] if parts.scheme == "redis+sentinel" else path
    return _is_number(text) and _is_number(_option(parts, "db"))


def _is_number(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit())


def check_keys(keys: KeysSettings | None) -> Iterator[Fault]:
    """Yield keys that let nobody in, that stand twice, or whose bounds contradict each other."""
    if keys is None:
        return
    if keys.required and not keys.clients:
        remedy = "run `postern keys create` and put the hash it prints into `keys.clients`, or set `required: false`"
        yield Fault("keys.clients", "keys are required and there is none", remedy)
    owners: dict[str, str] = {}
    for name, client in keys.clients.items():
        path = under("keys.clients", name)
        if client.sha256 in owners:
            other = under("keys.clients", owners[client.sha256])
            yield Fault(under(path, "sha256"), f"is the same key as {other}'s", "give each client a key of its own")
        owners.setdefault(client.sha256, name)
        yield from _check_bounds(client, path)


def _check_bounds(client: ClientKeySettings, path: str) -> Iterator[Fault]:
    low, high = client.threshold_min, client.threshold_max
    if (low is None) != (high is None):
        yield Fault(
            under(path, "threshold_min"),
            "one of threshold_min and threshold_max is null",
            "set both, or make both null",
        )
    elif low is not None and high is not None and low > high:
        yield Fault(under(path, "threshold_min"), "is above threshold_max", "swap the two")
