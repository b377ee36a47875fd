"""The section `tracing`, and the environment that fills in what it leaves open."""

import pytest

from gateway.core.secret import Secret
from gateway.settings.faults import SettingsError
from gateway.settings.load import parse_settings
from gateway.settings.tracing import TracingSettings, with_environ

LEAST = "models: {m: {backend: simulated}}\nroutes: {auto: {models: [m]}}\n"
BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}


def parsed(section):
    return parse_settings(f"{LEAST}tracing: {section}\n", {"KEY": "hush"}).tracing


def faults(section):
    with pytest.raises(SettingsError) as caught:
        parsed(section)
    return {fault.path: fault.remedy for fault in caught.value.faults}


def test_left_out_tracing_is_off():
    assert parse_settings(LEAST, {}).tracing == TracingSettings()
    assert TracingSettings().url is None


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ],
)
def test_an_address_without_a_path_is_a_collectors(endpoint, url):
    assert parsed(f"{{endpoint: '{endpoint}'}}").url == url


def test_headers_are_secrets():
    section = parsed("{endpoint: 'http://c', headers: {authorization: 'Bearer ${KEY}'}}")
    assert section.headers["authorization"].reveal() == "Bearer hush"
    assert "hush" not in repr(section)


@pytest.mark.parametrize("endpoint", ["c:4318", "grpc://c:4317", "http://", "http://u:p@c", "http://c:port"])
def test_what_is_no_address_is_refused(endpoint):
    assert "http://HOST:4318/v1/traces" in faults(f"{{endpoint: '{endpoint}'}}")["tracing.endpoint"]


def test_what_could_be_no_header_is_refused_and_not_told():
    told = faults('{endpoint: "http://c", headers: {"a b": x, c: "sécret", d: "e\\r\\nf: g"}}')
    assert set(told) == {"tracing.headers.a b", "tracing.headers.c", "tracing.headers.d"}
    assert "sécret" not in str(told)


@pytest.mark.parametrize(
    "section", ["{sample_ratio: 1.5}", "{max_queued_spans: 5}", "{service_name: ''}", "{endpont: x}"]
)
def test_what_is_out_of_bounds_is_refused(section):
    assert faults(section)


def test_the_environment_fills_in_what_is_open():
    environ = {
        **BASE,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b, broken, b\u00e9d=1",
        "OTEL_SERVICE_NAME": "front",
        "OTEL_RESOURCE_ATTRIBUTES": "team=a,region=eu",
    }
    found = with_environ(TracingSettings(resource={"team": "b"}), environ)
    assert (found.url, found.service_name) == ("http://c:4318/v1/traces", "front")
    assert found.headers == {"x-key": Secret("a b")}
    assert found.resource == {"team": "b", "region": "eu"}


def test_the_configuration_wins():
    given = TracingSettings(endpoint="http://mine", service_name="mine")
    found = with_environ(given, {**BASE, "OTEL_SERVICE_NAME": "front", "OTEL_EXPORTER_OTLP_HEADERS": "x=1"})
    assert (found.endpoint, found.service_name, found.headers) == ("http://mine", "mine", {})


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x", **BASE}, "http://t/x"),
        ({**BASE, "OTEL_SDK_DISABLED": "true"}, None),
        ({**BASE, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({**BASE, "OTEL_TRACES_EXPORTER": "otlp,console"}, "http://c:4318/v1/traces"),
        ({**BASE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, None),
        (
            {**BASE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            "http://c:4318/v1/traces",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"}, None),
    ],
)
def test_the_environments_collector(environ, endpoint):
    assert with_environ(TracingSettings(), environ).endpoint == endpoint


def test_a_service_is_named_by_its_resource_where_nothing_else_names_it():
    assert with_environ(TracingSettings(), {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a"}).service_name == "a"
    assert with_environ(TracingSettings(), {}).service_name == "postern"


def test_variables_that_are_no_text_count_as_unsaid():
    """Python hands bytes that are not UTF-8 on as lone surrogates, at which the encoder would stop the gateway."""
    environ = {**BASE, "OTEL_SERVICE_NAME": "po\udcff", "OTEL_RESOURCE_ATTRIBUTES": "a=\udcff"}
    found = with_environ(TracingSettings(), environ)
    assert (found.service_name, found.resource) == ("postern", {})
    assert found.url == "http://c:4318/v1/traces"
