"""What the composition root does with kinds of backends that are loaded late."""

import sys

import pytest

from gateway.app import BACKENDS, load_late
from gateway.backends.backend import BackendLoadError
from gateway.backends.http1_pool import Commons
from gateway.settings.models import BackendKind
from tests.builders import model


def test_every_kind_of_backend_has_a_factory():
    assert set(BACKENDS) == set(BackendKind)


def test_a_factory_is_imported_when_it_is_first_needed(tmp_path, monkeypatch):
    (tmp_path / "late_module_of_a_test.py").write_text("def make(name, settings, commons):\n    return [name]\n")
    monkeypatch.syspath_prepend(tmp_path)
    make = load_late("late_module_of_a_test", "make", ".[x]")
    assert "late_module_of_a_test" not in sys.modules
    assert make("m", model(), Commons()) == ["m"]
    sys.modules.pop("late_module_of_a_test")


def test_a_missing_package_is_told_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    (tmp_path / "needy_module_of_a_test.py").write_text("import no_such_package.inner\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendLoadError) as caught:
        load_late("needy_module_of_a_test", "make", ".[onnx]")("m", model(), Commons())
    assert caught.value.key == "backend"
    assert "no_such_package" in caught.value.problem
    assert caught.value.remedy == "in Postern's folder: pip install '.[onnx]'"


def test_a_missing_module_of_ours_is_a_fault_of_ours():
    with pytest.raises(ModuleNotFoundError):
        load_late("gateway.no_such_module", "make", "postern")("m", model(), Commons())
