"""The sections `server`, `redis`, `cache`, `keys` and `limits`: how the gateway itself runs."""

from typing import Annotated

import msgspec

from gateway.core.secret import Secret

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the gateway listens, and how long it waits for slow clients and for streams at shutdown."""

    host: str = "127.0.0.1"
    port: Port = 8080
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8081
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    keep_alive_s: Seconds = 75.0
    shutdown_grace_s: Seconds = 30.0


class RedisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shared store. 0.2 s: an answer later than that costs more than the call it would save."""

    url: Secret
    timeout_s: Seconds = 0.2


class ExactCacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers to identical requests. `max_entries` bounds the in-process store; Redis bounds itself (maxmemory)."""

    ttl_s: Count = 3600
    max_entries: Count = 10_000
    max_entry_bytes: Count = 1_048_576


class CacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`exact: null` means nothing is cached, and identical requests in flight are not shared."""

    exact: ExactCacheSettings | None = None


class ClientKeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One client key: the SHA-256 of it in hex, and the thresholds it may ask for (`null`: none at all)."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    threshold_min: Share | None = 0.0
    threshold_max: Share | None = 1.0


class KeysSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call. With `required: false` a caller without a known key is anonymous."""

    required: bool = False
    clients: dict[str, ClientKeySettings] = {}


class LimitsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what one gateway process takes in. `null` rates mean no limit."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_body_bytes: Count = 10_485_760
    max_in_flight: Count = 512
