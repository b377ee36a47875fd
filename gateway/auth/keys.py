"""Client keys: make them, know them again, and say who calls."""

import hashlib
import hmac
import secrets

from gateway.core.context import Caller, Tier, Wishes
from gateway.core.errors import AuthenticationError, ForbiddenError
from gateway.settings.service import ClientKeySettings, KeysSettings

KEY_PREFIX = "pk-postern-"
ANONYMOUS = "anonymous"

_THRESHOLD_OF: dict[Tier | None, float] = {Tier.STRONG: 0.0, Tier.WEAK: 1.0}


def create_key() -> str:
    """Return a new client key with 192 random bits; that is why a plain SHA-256 may stand for it."""
    return KEY_PREFIX + secrets.token_urlsafe(24)


def hash_key(key: str) -> str:
    """Return what stands for a key in the configuration: its SHA-256 in hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """Know the configured keys by their hashes, in the same time for one key as for 100,000."""

    def __init__(self, settings: KeysSettings) -> None:
        self._required = settings.required
        self._by_hash = {
            client.sha256: (client.sha256, _caller_of(name, client)) for name, client in settings.clients.items()
        }

    def identify(self, wishes: Wishes) -> Caller:
        """Return who calls.

        Raises:
            AuthenticationError: keys are required, and this one is missing or unknown.
            ForbiddenError: the key may not ask for the threshold or the tier it asks for.
        """
        digest = hash_key(wishes.bearer) if wishes.bearer else ""
        found = self._by_hash.get(digest)
        # The lookup compares hashes, whose timing tells nothing of a key; the comparison leaves no doubt about it.
        if found is None or not hmac.compare_digest(found[0], digest):
            return self._stranger(wishes, digest)
        caller = found[1]
        if wishes.threshold is not None or wishes.tier is not None:
            _check_threshold(caller, wishes)
        return caller

    def _stranger(self, wishes: Wishes, digest: str) -> Caller:
        if self._required:
            problem = "is not known" if wishes.bearer else "is missing"
            raise AuthenticationError(
                f"The API key {problem}. Send `Authorization: Bearer KEY` with a key of this gateway."
            )
        # Callers with different credentials never share an answer, known here or not.
        return Caller(ANONYMOUS, tenant=f"stranger:{digest}")


def _caller_of(name: str, client: ClientKeySettings) -> Caller:
    return Caller(name, f"client:{name}", client.threshold_min, client.threshold_max, client.team)


def _check_threshold(caller: Caller, wishes: Wishes) -> None:
    """Hold a caller to its bounds. A forced tier is a threshold too: strong is 0, weak is 1."""
    asked = {"x-postern-threshold": wishes.threshold, "x-postern-tier": _THRESHOLD_OF.get(wishes.tier)}
    for header, threshold in asked.items():
        if threshold is not None and not _is_within(caller, threshold):
            raise ForbiddenError(f"This key may set {header} {_bounds_of(caller)}.", param=header)


def _is_within(caller: Caller, threshold: float) -> bool:
    if caller.threshold_min is None or caller.threshold_max is None:
        return False
    return caller.threshold_min <= threshold <= caller.threshold_max


def _bounds_of(caller: Caller) -> str:
    if caller.threshold_min is None:
        return "to nothing at all"
    return f"to thresholds from {caller.threshold_min} to {caller.threshold_max} only (strong is 0, weak is 1)"
