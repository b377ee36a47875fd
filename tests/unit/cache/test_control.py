"""Cache-Control of requests, as HTTP defines it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.control import CacheControl, parse_cache_control

DIRECTIVES = st.lists(st.sampled_from(["no-cache", "no-store", "max-age", "=", ",", '"', "5", " ", "-1", "²", "x"]))


@pytest.mark.parametrize(
    ("header", "control"),
    [
        ("", CacheControl()),
        ("no-cache", CacheControl(may_read=False)),
        ("no-store", CacheControl(may_read=False, may_store=False)),
        ("NO-Store , max-age=5", CacheControl(may_read=False, may_store=False, max_age_s=5)),
        ("max-age=60", CacheControl(max_age_s=60)),
        ('max-age="60"', CacheControl(max_age_s=60)),
        ("max-age=0", CacheControl(max_age_s=0)),
        ("max-age", CacheControl(max_age_s=0)),
        ("max-age=-1", CacheControl(max_age_s=0)),
        ("max-age=1.5", CacheControl(max_age_s=0)),
        ("max-age=²", CacheControl(max_age_s=0)),
        ("max-age=99999999999", CacheControl(max_age_s=2**31)),
        ("max-age=" + "9" * 5000, CacheControl(max_age_s=0)),
        ("only-if-cached, max-stale=5, private", CacheControl()),
    ],
)
def test_directives_are_read_as_http_defines_them(header, control):
    assert parse_cache_control(header) == control


@given(st.text() | DIRECTIVES.map("".join))
def test_no_header_whatsoever_raises_and_ages_are_sane(header):
    control = parse_cache_control(header)
    assert control.max_age_s is None or 0 <= control.max_age_s <= 2**31
    assert control.may_store or not control.may_read
