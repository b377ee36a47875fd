"""Cache keys: two requests share one exactly when nothing about them differs."""

import re

import msgspec
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.cache.keys import cache_key

NAMES = st.text(max_size=8)
VALUES = st.binary(max_size=12)
PARTS = ("route", "tenant", "operation", "router", "fleet")
requests = st.fixed_dictionaries({**dict.fromkeys(PARTS, NAMES), "fields": st.dictionaries(NAMES, VALUES, max_size=4)})


def key(asked: dict) -> str:
    fields = {name: msgspec.Raw(value) for name, value in asked["fields"].items()}
    return cache_key(**{part: asked[part] for part in PARTS}, fields=fields)


@given(requests, requests)
@example(
    {"route": "a", "tenant": "", "operation": "", "router": "", "fleet": "", "fields": {}},
    {"route": "", "tenant": "a", "operation": "", "router": "", "fleet": "", "fields": {}},
)
@example(
    {"route": "", "tenant": "", "operation": "", "router": "", "fleet": "", "fields": {"a": b"bc"}},
    {"route": "", "tenant": "", "operation": "", "router": "", "fleet": "", "fields": {"ab": b"c"}},
)
@example(
    {"route": "", "tenant": "", "operation": "", "router": "", "fleet": "", "fields": {"a": b"1", "b": b"2"}},
    {"route": "", "tenant": "", "operation": "", "router": "", "fleet": "", "fields": {"a": b"2", "b": b"1"}},
)
def test_keys_are_equal_exactly_when_the_requests_are(one, other):
    assert (key(one) == key(other)) == (one == other)


@given(requests)
def test_the_order_of_the_fields_does_not_matter(asked):
    turned = {**asked, "fields": dict(reversed(asked["fields"].items()))}
    assert key(turned) == key(asked)


@given(requests, st.sampled_from(PARTS), NAMES)
def test_a_change_of_any_one_part_changes_the_key(asked, part, value):
    assume(asked[part] != value)
    assert key({**asked, part: value}) != key(asked)


@given(requests, NAMES, VALUES)
def test_a_change_of_any_one_field_changes_the_key(asked, name, value):
    assume(asked["fields"].get(name) != value)
    assert key({**asked, "fields": {**asked["fields"], name: value}}) != key(asked)


PART_LISTS = st.lists(NAMES, min_size=len(PARTS), max_size=len(PARTS))


@given(PART_LISTS, PART_LISTS)
def test_parts_never_run_into_one_another(one, other):
    assume(one != other)
    keys = [key({**dict(zip(PARTS, parts, strict=True)), "fields": {}}) for parts in (one, other)]
    assert keys[0] != keys[1]


@given(requests)
def test_a_key_is_a_whole_sha256_in_hex(asked):
    assert re.fullmatch(r"[0-9a-f]{64}", key(asked))
