"""The extra `postern[otel]`: told where it is asked for and missing, and not loaded where it is not asked for."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway import tracing
from gateway.backends.http1_pool import Commons
from gateway.commands import main
from gateway.settings.tracing import TracingSettings
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.traces import pass_on
from gateway.tracing import Tracing

CONFIG = "models: {m: {backend: simulated}}\nroutes: {auto: {models: [m], policy: {kind: pinned, model: m}}}\n"


@pytest.fixture
def _missing(monkeypatch):
    monkeypatch.setattr(tracing, "has_extra", lambda: False)


@pytest.mark.usefixtures("_missing")
def test_a_configuration_that_asks_for_it_is_refused_with_what_installs_it(tmp_path):
    file = tmp_path / "postern.yaml"
    file.write_text(CONFIG + "tracing: {endpoint: 'http://c:4318'}\n")
    done = CliRunner().invoke(main, ["check-config", str(file)])
    assert done.exit_code == 2
    assert "tracing.endpoint: needs the package opentelemetry-proto" in done.output
    assert "pip install '.[otel]'" in done.output


@pytest.mark.usefixtures("_missing")
def test_an_environment_that_asks_for_it_is_only_warned_of(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
    file = tmp_path / "postern.yaml"
    file.write_text(CONFIG)
    assert CliRunner().invoke(main, ["check-config", str(file)]).exit_code == 0
    events = []
    monkeypatch.setattr(tracing, "log", lambda event, **_: events.append(event))
    off = Tracing(Commons(), Metrics())
    assert off.renew(TracingSettings(endpoint="http://c:4318"), {}) is None
    assert events == ["tracing_unavailable"]
    assert off._begin is pass_on


def test_it_is_there_and_loaded_only_where_it_is_asked_for():
    assert tracing.has_extra()
    asked = (
        "import sys, gateway.process, gateway.commands; print(any(m.startswith('opentelemetry') for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
