"""Request ids: the client's own where it is sane, else one that no other request has."""

import os

import pytest

from gateway.api.headers import RequestIds


def test_ids_are_made_for_many_at_once_and_none_twice(monkeypatch):
    draws = []
    monkeypatch.setattr(
        "gateway.api.headers.os.urandom", lambda size, draw=os.urandom: draws.append(size) or draw(size)
    )
    ids = RequestIds(4)
    made = {ids.id_of({}) for _ in range(9)}
    assert len(made) == 9
    assert all(one.startswith("req-") and len(one) == 28 for one in made)
    assert draws == [48, 48, 48]


@pytest.mark.parametrize(
    ("given", "is_kept"), [("mine-1", True), ("", False), ("two words", False), ("x" * 129, False)]
)
def test_a_clients_own_id_is_kept_if_it_is_sane(given, is_kept):
    assert (RequestIds().id_of({"x-request-id": given}) == given) is is_kept
