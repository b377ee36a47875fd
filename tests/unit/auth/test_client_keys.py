"""Client keys: known by their hashes, bounded in what they may ask for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys import KEY_PREFIX, KeyRing, create_key, hash_key
from gateway.core.context import Tier, Wishes
from gateway.core.errors import AuthenticationError, ForbiddenError
from gateway.settings.service import ClientKeySettings, KeysSettings

KEY, BOUNDED, BARRED = "pk-postern-one", "pk-postern-two", "pk-postern-three"
CLIENTS = {
    "team-a": ClientKeySettings(sha256=hash_key(KEY), team="search"),
    "team-b": ClientKeySettings(sha256=hash_key(BOUNDED), threshold_min=0.2, threshold_max=0.4),
    "team-c": ClientKeySettings(sha256=hash_key(BARRED), threshold_min=None, threshold_max=None),
}
OPEN = KeyRing(KeysSettings(clients=CLIENTS))
CLOSED = KeyRing(KeysSettings(required=True, clients=CLIENTS))


def test_a_new_key_is_long_random_and_known_by_its_sha256():
    keys = {create_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(rf"{KEY_PREFIX}[\w-]{{32}}", key) for key in keys)
    assert hash_key("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("ring", [OPEN, CLOSED])
def test_a_known_key_says_who_calls(ring):
    caller = ring.identify(Wishes(bearer=KEY))
    assert (caller.name, caller.tenant, caller.team) == ("team-a", "client:team-a", "search")
    assert ring.identify(Wishes(bearer=BOUNDED)).team is None


@pytest.mark.parametrize(
    ("bearer", "told"), [(None, "missing"), ("", "missing"), ("pk-postern-zzz", "not known"), (KEY + " ", "not known")]
)
def test_where_keys_are_required_nobody_else_comes_in_and_the_key_is_not_repeated(bearer, told):
    with pytest.raises(AuthenticationError, match=told) as caught:
        CLOSED.identify(Wishes(bearer=bearer))
    assert caught.value.status == 401
    assert not bearer or bearer not in caught.value.message


def test_a_hash_in_place_of_its_key_opens_nothing():
    with pytest.raises(AuthenticationError):
        CLOSED.identify(Wishes(bearer=hash_key(KEY)))


@given(st.text(), st.text())
def test_strangers_share_a_tenant_exactly_when_they_show_the_same_credential(one, other):
    callers = [OPEN.identify(Wishes(bearer=bearer)) for bearer in (one, other)]
    assert (callers[0].tenant == callers[1].tenant) == (one == other)
    assert all(caller.name == "anonymous" for caller in callers)
    assert not one or one not in callers[0].tenant or len(one) < 20


def test_no_stranger_ever_shares_a_tenant_with_a_client():
    tenants = {OPEN.identify(Wishes(bearer=bearer)).tenant for bearer in (None, "x", KEY, BOUNDED)}
    assert len(tenants) == 4


@pytest.mark.parametrize(
    ("key", "threshold", "is_allowed"),
    [
        (KEY, 0.0, True),
        (KEY, 1.0, True),
        (BOUNDED, None, True),
        (BOUNDED, 0.19, False),
        (BOUNDED, 0.2, True),
        (BOUNDED, 0.4, True),
        (BOUNDED, 0.41, False),
        (BARRED, None, True),
        (BARRED, 0.5, False),
        (None, 0.5, True),
    ],
)
def test_a_key_bounds_the_threshold_that_may_be_asked_for(key, threshold, is_allowed):
    wishes = Wishes(bearer=key, threshold=threshold)
    if is_allowed:
        assert OPEN.identify(wishes).name
        return
    with pytest.raises(ForbiddenError) as caught:
        OPEN.identify(wishes)
    assert (caught.value.status, caught.value.param) == (403, "x-postern-threshold")


@pytest.mark.parametrize(("tier", "bounds"), [(Tier.STRONG, (0.2, 1.0)), (Tier.WEAK, (0.0, 0.8)), (Tier.WEAK, None)])
def test_a_forced_tier_is_a_threshold_that_a_key_may_forbid(tier: Tier, bounds: tuple[float, float] | None) -> None:
    low, high = bounds or (None, None)
    client = ClientKeySettings(sha256=hash_key("secret"), threshold_min=low, threshold_max=high)
    ring = KeyRing(KeysSettings(clients={"team": client}))

    with pytest.raises(ForbiddenError) as raised:
        ring.identify(Wishes(bearer="secret", tier=tier))

    assert raised.value.param == "x-postern-tier"
    assert ring.identify(Wishes(bearer="secret")).name == "team"
