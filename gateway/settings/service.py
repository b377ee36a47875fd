"""The sections `server`, `redis`, `cache`, `keys` and `limits`: how the gateway itself runs."""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.core.secret import Secret

Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Share = Annotated[float, Meta(ge=0, le=1)]


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the gateway listens, and how long it waits for slow clients and for streams at shutdown."""

    host: Annotated[str, Meta(description="Address of the data port. Default loopback: opening up is a decision.")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, Meta(description="Data port. 0: any free one.")] = 8080
    admin_host: Annotated[
        str, Meta(description="Address of the admin port. Default loopback: it answers without a key.")
    ] = "127.0.0.1"
    admin_port: Annotated[Port, Meta(description="Admin port: metrics and `/admin`. 0: any free one.")] = 8081
    workers: Annotated[
        int, Meta(ge=1, le=64, description="Processes. Default 1: more than one share their state in `redis`.")
    ] = 1
    header_timeout_s: Annotated[
        Seconds, Meta(description="Seconds for a client to send its headers. Default 10: past any sane network.")
    ] = 10.0
    body_timeout_s: Annotated[
        Seconds, Meta(description="Seconds for a client to send its body. Default 30: 10 MiB over 3 Mbit/s.")
    ] = 30.0
    keep_alive_s: Annotated[
        Seconds, Meta(description="Seconds an idle connection is kept. Default 75: longer than load balancers' 60.")
    ] = 75.0
    shutdown_grace_s: Annotated[
        Seconds, Meta(description="Seconds running streams get at shutdown. Default 30: Kubernetes' own grace.")
    ] = 30.0


class RedisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shared store. 0.2 s: an answer later than that costs more than the call it would save."""

    url: Annotated[
        Secret,
        Meta(
            description="`redis://HOST:PORT/DB`, or rediss, unix, redis+sentinel, redis+cluster. May hold a password."
        ),
    ]
    timeout_s: Annotated[
        Seconds, Meta(description="Seconds one operation may take. Default 0.2: later costs more than it saves.")
    ] = 0.2


class ExactCacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers to identical requests. `max_entries` bounds the in-process store; Redis bounds itself (maxmemory)."""

    ttl_s: Annotated[
        Count, Meta(description="Seconds an answer is kept. Default 3600: an hour-old answer still holds.")
    ] = 3600
    max_entries: Annotated[
        Count, Meta(description="Answers in the in-process store. Default 10000: some 20 MB of usual ones.")
    ] = 10_000
    max_bytes: Annotated[
        Count,
        Meta(description="Bytes of all answers in the in-process store. Default 256 MiB: a pod's memory is bounded."),
    ] = 268_435_456
    max_entry_bytes: Annotated[
        Count, Meta(description="Bytes of the largest answer kept. Default 1 MiB: larger ones are rarely asked twice.")
    ] = 1_048_576


class CacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`exact: null` means nothing is cached, and identical requests in flight are not shared."""

    exact: Annotated[
        ExactCacheSettings | None,
        Meta(description="Answers to identical requests. `{}`: on, with the defaults. null: nothing is cached."),
    ] = None


class ClientKeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One client key: the SHA-256 of it in hex, who pays, and the thresholds it may ask for (`null`: none at all)."""

    sha256: Annotated[
        str,
        Meta(
            pattern="^[0-9a-f]{64}$",
            description="SHA-256 of the key, 64 lower-case hex digits: see `postern keys create`.",
        ),
    ]
    threshold_min: Annotated[
        Share | None, Meta(description="The lowest threshold it may ask for. null, with `threshold_max`: none at all.")
    ] = 0.0
    threshold_max: Annotated[
        Share | None, Meta(description="The highest threshold it may ask for. null, with `threshold_min`: none at all.")
    ] = 1.0
    team: Annotated[
        str | None, Meta(description="Whose costs its requests are, in the metrics by team. null: told as `none`.")
    ] = None


class KeysSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call. With `required: false` a caller without a known key is anonymous."""

    required: Annotated[
        bool, Meta(description="Refuse callers without a known key. Default false: the data port is on loopback.")
    ] = False
    clients: Annotated[
        dict[str, ClientKeySettings], Meta(description="Client keys by the client's name. Default none.")
    ] = {}


class LimitsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what one gateway process takes in. `null` rates mean no limit."""

    requests_per_minute: Annotated[
        Count | None, Meta(description="Not available yet: leave null. null: no limit on the rate of requests.")
    ] = None
    tokens_per_minute: Annotated[
        Count | None, Meta(description="Not available yet: leave null. null: no limit on the rate of tokens.")
    ] = None
    max_body_bytes: Annotated[
        Count, Meta(description="Bytes of the largest request body. Default 10 MiB: a long prompt with a few images.")
    ] = 10_485_760
    max_in_flight: Annotated[
        Count, Meta(description="Requests served at once; others get 503. Default 512: what one process relays well.")
    ] = 512
