"""The whole configuration, as one frozen value."""

import msgspec

from gateway.settings.models import ModelSettings
from gateway.settings.routes import RouteSettings
from gateway.settings.service import (
    CacheSettings,
    KeysSettings,
    LimitsSettings,
    RedisSettings,
    ServerSettings,
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything an operator can set. One section a field."""

    models: dict[str, ModelSettings]
    routes: dict[str, RouteSettings]
    server: ServerSettings = ServerSettings()
    redis: RedisSettings | None = None
    cache: CacheSettings = CacheSettings()
    keys: KeysSettings = KeysSettings()
    limits: LimitsSettings = LimitsSettings()
