"""Facts about the fleet served where there is no configuration."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.crosscheck import crosscheck, draft_whole
from gateway.settings.discover import discover_settings, is_simulated
from gateway.settings.load import load_settings
from gateway.settings.local import OLLAMA_LISTING, VLLM_LISTING, count_parameters
from gateway.settings.models import Capability, ModelSettings

SIMULATED = Path(__file__).parents[3] / "deploy" / "examples" / "simulated.yaml"
KEY = {"OPENAI_API_KEY": "sk-hush"}


def ollama(*models):
    listed = [{"name": name, "details": {"family": family, "parameter_size": size}} for name, family, size in models]
    return json.dumps({"models": listed, "more": 1}).encode()


def vllm(*models):
    return json.dumps(
        {"object": "list", "data": [{"id": name, "max_model_len": size} for name, size in models]}
    ).encode()


def discover(environ, **bodies):
    pages = {OLLAMA_LISTING: bodies.get("ollama"), VLLM_LISTING: bodies.get("vllm")}
    settings = discover_settings(environ, pages.__getitem__)
    assert list(crosscheck(draft_whole(settings))) == []
    assert tuple(settings.models) == settings.routes["auto"].models
    return settings


THREE = ollama(("llama3.1:8b", "llama", "8.0B"), ("qwen2.5:0.5b", "qwen2", "494.03M"), ("mistral:7b", "llama", "7.2B"))


def test_nothing_at_hand_is_the_simulated_fleet_the_example_spells_out():
    settings = discover({})
    assert settings == load_settings(SIMULATED, {})
    assert is_simulated(settings)
    assert settings.cache.exact is not None


def test_an_openai_key_alone_is_two_openai_models():
    settings = discover(KEY)
    assert list(settings.models) == ["gpt-5-mini", "gpt-5"]
    assert not is_simulated(settings)
    assert settings.cache.exact is None
    assert settings.models["gpt-5"].api_key.reveal() == "sk-hush"
    assert "sk-hush" not in repr(settings)
    assert [model.price.output for model in settings.models.values()] == [2.0, 10.0]
    assert Capability.LOGPROBS not in settings.models["gpt-5"].capabilities


def test_an_empty_openai_key_is_none():
    assert is_simulated(discover({"OPENAI_API_KEY": " "}))


def test_local_models_are_the_smallest_and_the_largest():
    settings = discover({}, ollama=THREE)
    assert list(settings.models) == ["qwen2.5:0.5b", "llama3.1:8b"]
    assert settings.models["llama3.1:8b"].urls == ("http://127.0.0.1:11434/v1",)
    assert settings.models["llama3.1:8b"].local
    assert Capability.TOOLS in settings.models["qwen2.5:0.5b"].capabilities


def test_with_a_key_the_weak_model_is_local_and_leaves_tools_to_the_strong_one():
    settings = discover(KEY, ollama=THREE)
    assert list(settings.models) == ["qwen2.5:0.5b", "gpt-5"]
    assert Capability.TOOLS not in settings.models["qwen2.5:0.5b"].capabilities


def test_one_local_model_makes_a_route_of_one():
    settings = discover({}, vllm=vllm(("meta-llama/Llama-3.1-8B-Instruct", 32768)))
    assert settings.routes["auto"].models == ("meta-llama/Llama-3.1-8B-Instruct",)
    assert settings.models["meta-llama/Llama-3.1-8B-Instruct"].context_tokens == 32768


def test_ollama_and_vllm_together_are_one_fleet():
    settings = discover({}, ollama=THREE, vllm=vllm(("Qwen/Qwen3-32B", None)))
    assert list(settings.models) == ["qwen2.5:0.5b", "Qwen/Qwen3-32B"]


def test_embedding_models_and_taken_names_are_left_out():
    embedders = ollama(("nomic-embed-text", "nomic-bert", "137M"), ("auto", "llama", "1B"), ("a b", "llama", "1B"))
    assert is_simulated(discover({}, ollama=embedders, vllm=vllm(("BAAI/bge-bert", 512), ("gpt-5", 512))))


@pytest.mark.parametrize(
    "body", [b"<html>", b"\xff", b"[]", b"{}", b'{"models": null, "data": null}', b'{"models": [7]}']
)
def test_whatever_else_answers_on_these_ports_is_ignored(body):
    assert is_simulated(discover({}, ollama=body, vllm=body))


@given(st.binary(max_size=60))
def test_no_body_raises(body):
    discover({}, ollama=body, vllm=body)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("3.2B", 3.2e9),
        ("137M", 1.37e8),
        ("Llama-3.1-70B-Instruct", 7e10),
        ("Qwen3-30B-A3B", 3e10),
        ("Mixtral-8x7B", 5.6e10),
        ("phi-4", math.inf),
        ("", math.inf),
    ],
)
def test_sizes_are_read_from_names(text, parameters):
    assert count_parameters(text) == pytest.approx(parameters)


def test_one_real_model_makes_a_fleet_real():
    settings = discover({})
    real = ModelSettings(backend="openai", urls=("http://h",))
    assert not is_simulated(type(settings)(models={**settings.models, "real": real}, routes=settings.routes))
