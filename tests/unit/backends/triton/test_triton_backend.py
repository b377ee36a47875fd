"""From settings to engines: transports by the url's scheme, dialects, adapters, trust, metrics pages."""

import pytest

from gateway.backends.backend import BackendLoadError
from gateway.backends.triton.backend import dialect_of, triton_backends, triton_engines
from gateway.backends.triton.grpc_transport import GrpcTransport
from gateway.backends.triton.http_transport import HttpTransport
from gateway.backends.triton.tensorrt import LlmapiDialect, TrtllmDialect
from gateway.backends.triton.vllm import VllmDialect
from gateway.core.secret import Secret
from gateway.settings.engines import Dialect, TritonSettings, WatchSettings
from gateway.settings.models import BackendKind
from tests.builders import model

VLLM = TritonSettings(dialect=Dialect.VLLM)


def engines(*urls, triton=VLLM, **settings):
    return triton_engines("m", model(backend=BackendKind.TRITON, urls=urls, triton=triton, **settings))


async def test_each_replica_has_an_engine_of_its_urls_transport():
    found = engines("grpc://h:8001", "grpcs://h:8001", "http://h:8000", "https://h:8000")
    assert [type(one._transport) for one in found] == [GrpcTransport, GrpcTransport, HttpTransport, HttpTransport]
    assert [one.url for one in found] == ["grpc://h:8001", "grpcs://h:8001", "http://h:8000", "https://h:8000"]
    routes = [one._transport._route for one in found[:2]]
    assert [(route.target, route.is_tls, route.roots is not None) for route in routes] == [
        ("h:8001", False, False),
        ("h:8001", True, True),
    ]
    for one in found:
        await one.close()


async def test_backends_are_made_of_engines():
    (backend,) = triton_backends("m", model(backend=BackendKind.TRITON, urls=("grpc://h:1",), triton=VLLM))
    assert backend.url == "grpc://h:1"
    await backend.close()


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (VLLM, VllmDialect),
        (TritonSettings(dialect=Dialect.VLLM, lora="poet"), VllmDialect),
        (TritonSettings(dialect=Dialect.TRTLLM, lora="7"), TrtllmDialect),
        (TritonSettings(dialect=Dialect.TRTLLM), TrtllmDialect),
        (TritonSettings(dialect=Dialect.LLMAPI), LlmapiDialect),
    ],
)
def test_the_dialect_is_the_declared_one(settings, kind):
    assert type(dialect_of(settings)) is kind


@pytest.mark.parametrize(
    ("dialect", "lora"),
    [(Dialect.TRTLLM, "poet"), (Dialect.TRTLLM, "-1"), (Dialect.TRTLLM, str(2**64)), (Dialect.LLMAPI, "poet")],
)
def test_an_adapter_that_the_dialect_cannot_name_is_a_fault(dialect, lora):
    with pytest.raises(BackendLoadError) as raised:
        dialect_of(TritonSettings(dialect=dialect, lora=lora))
    assert raised.value.key == "triton.lora"


def test_a_model_without_its_dialect_is_a_fault():
    with pytest.raises(BackendLoadError):
        engines("grpc://h:1", triton=None)


@pytest.mark.parametrize("url", ["grpcs://h:1", "https://h:1"])
def test_a_file_of_no_certificates_is_a_fault(url, tmp_path):
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "none.pem"):
        with pytest.raises(BackendLoadError) as raised:
            engines(url, triton=TritonSettings(dialect=Dialect.VLLM, ca_file=str(tmp_path / name)))
        assert raised.value.key == "triton.ca_file"


@pytest.mark.parametrize(
    ("url", "pages", "page"),
    [
        ("grpc://h:8001", None, "http://h:8002/metrics"),
        ("https://[::1]:8000", None, "http://[::1]:8002/metrics"),
        ("grpc://h:8001", ("http://h:9/metrics",), "http://h:9/metrics"),
        ("grpc://h:8001", (), None),
    ],
)
async def test_the_metrics_page_is_tritons_own_unless_told(url, pages, page):
    (engine,) = engines(url, watch=WatchSettings(metrics_urls=pages))
    assert engine._watch.page == page
    await engine.close()


async def test_the_key_and_the_models_name_reach_the_transport():
    named = TritonSettings(dialect=Dialect.VLLM, model="other", version="2")
    grpc, http = engines("grpc://h:1", "http://h:1", triton=named, api_key=Secret("sk-hush"))
    assert (grpc._transport._route.model, grpc._transport._route.version) == ("other", "2")
    assert grpc._transport._headers == {"authorization": "Bearer sk-hush"}
    assert (http._transport._models, http._transport._model) == ("http://h:1/v2/models/", "other/versions/2")
    assert "sk-hush" not in repr((grpc._transport._route, grpc._transport))
    for one in (grpc, http):
        await one.close()
