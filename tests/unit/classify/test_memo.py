"""What is remembered of texts: figures under a digest, a tenant's own, in bounded memory."""

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.classify.features import HEAD_CHARS, TAIL_CHARS
from gateway.classify.memo import ENTRY_BYTES, TextMemo
from gateway.classify.onnx import TextJudgement

any_text = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=40)
MEMO = TextMemo()


def test_what_was_kept_is_found_again():
    memo = TextMemo()
    memo.keep(memo.key("a", "text"), "figures")
    assert memo.find(memo.key("a", "text")) == "figures"
    assert memo.find(memo.key("a", "other")) is None


@given(any_text, any_text, any_text, any_text)
def test_other_texts_and_other_tenants_have_other_keys(tenant, text, other_tenant, other):
    assert (MEMO.key(tenant, text) == MEMO.key(other_tenant, other)) == ((tenant, text) == (other_tenant, other))


@pytest.mark.parametrize(
    ("one", "other"),
    [(("ab", "c"), ("xy", "c")), (("ab", "c"), ("a", "bc")), (("", "1 1 a"), ("1", " a")), (("", ""), ("", "\0"))],
)
def test_tenants_of_one_length_and_a_tenant_that_looks_like_a_text_have_other_keys(one, other):
    assert MEMO.key(*one) != MEMO.key(*other)


def test_of_a_long_text_the_key_covers_what_is_measured():
    def text(head="a", middle="b", tail="c", middles=3000):
        return head * HEAD_CHARS + middle * middles + tail * TAIL_CHARS

    key = MEMO.key("", text())
    assert key == MEMO.key("", text(middle="x"))
    assert key not in {MEMO.key("", other) for other in (text(head="x"), text(tail="x"), text(middles=3001))}


def test_a_digest_means_nothing_outside_its_process():
    assert TextMemo().key("a", "text") != TextMemo().key("a", "text")


def test_the_oldest_makes_room():
    memo = TextMemo(max_bytes=2 * ENTRY_BYTES)
    for name in "abc":
        memo.keep(memo.key("", name), name)
    assert [memo.find(memo.key("", name)) for name in "abc"] == [None, "b", "c"]


def test_without_room_nothing_is_kept():
    memo = TextMemo(max_bytes=ENTRY_BYTES - 1)
    memo.keep(b"key", "figures")
    assert memo.find(b"key") is None


def test_memory_stays_within_its_bound_however_many_texts_come():
    max_bytes = 200 * ENTRY_BYTES
    memo = TextMemo(max_bytes)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(2000):
            one = number / 7
            figures = TextJudgement(one, one + 1, one + 2, one + 3, "math", (one + 4, one + 5, one + 6, one + 7))
            memo.keep(memo.key("tenant", f"text {number}"), figures)
        del figures, one
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * max_bytes < held <= max_bytes
