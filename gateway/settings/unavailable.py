"""What the contract names and this version does not do: refused as not available yet, never as unknown or half done."""

from collections.abc import Mapping

import msgspec

from gateway.settings.service import LimitsSettings

PROBLEM = "is not available yet"

FIELDS: Mapping[type[msgspec.Struct], frozenset[str]] = {
    LimitsSettings: frozenset({"requests_per_minute", "tokens_per_minute"}),
}
"""Fields that may only be null."""
