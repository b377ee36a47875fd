"""A key that no header can hold: refused before start, and never more than an upstream's failure after it."""

import pytest

from gateway.backends.http import HttpError, HttpHead, HttpRequest
from gateway.backends.httpx2_client import Httpx2Client
from gateway.core.secret import Secret
from gateway.settings.crosscheck import crosscheck, draft_whole
from gateway.settings.models import BackendKind
from gateway.settings.root import Settings
from gateway.settings.routes import RouteSettings
from tests.builders import model


def faults_of(api_key):
    keyed = model(backend=BackendKind.OPENAI, urls=("http://h/v1",), api_key=Secret(api_key))
    return list(crosscheck(draft_whole(Settings(models={"m": keyed}, routes={"r": RouteSettings(models=("m",))}))))


@pytest.mark.parametrize("api_key", ["sk-schlüssel", "sk-\N{RIGHT SINGLE QUOTATION MARK}", "sk-a\nb", "sk-\x7f"])
def test_a_key_that_no_header_can_hold_is_a_fault_that_does_not_show_it(api_key):
    (fault,) = faults_of(api_key)
    assert fault.path == "models.m.api_key"
    assert "sk-" not in str(fault)


def test_a_key_of_printable_ascii_is_none():
    assert faults_of("sk-Proj_1.2+/=~ !") == []


async def test_a_header_that_cannot_be_written_is_a_failed_exchange():
    client = Httpx2Client(connect_s=1, max_connections=1)
    with pytest.raises(HttpError) as raised:
        await client.send(HttpRequest(HttpHead("http://127.0.0.1:1/v1", {"authorization": "Bearer sk-schlüssel"})))
    assert "sk-" not in str(raised.value)
    await client.close()
