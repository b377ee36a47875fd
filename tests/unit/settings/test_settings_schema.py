"""Facts about the published JSON schema."""

from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from gateway.settings.schema import _describe_secret, json_schema

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def small(**sections):
    return {"models": {"m": {"backend": "simulated"}}, "routes": {"auto": {"models": ["m"]}}, **sections}


def test_the_schema_is_itself_valid_and_plain_json():
    VALIDATOR.check_schema(json_schema())
    assert msgspec.json.decode(msgspec.json.encode(json_schema())) == json_schema()
    assert json_schema()["title"] == "Postern configuration"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_example_is_valid(path):
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


def test_the_contracts_example_is_valid():
    tree = small(
        server={"host": "127.0.0.1", "port": 8080, "admin_port": 8081, "workers": 1},
        redis={"url": "redis://127.0.0.1:6379/0"},
        cache={"exact": {"ttl_s": 3600, "max_entries": 10000}},
        keys={"required": False},
        limits={"requests_per_minute": None, "tokens_per_minute": None, "max_body_bytes": 10485760},
    )
    tree["models"]["m"] = {"backend": "openai", "urls": ["http://h/v1"], "api_key": "${K}", "energy": {"input": 0.02}}
    tree["models"]["llama"] = {
        "backend": "triton",
        "urls": ["grpc://127.0.0.1:8001"],
        "triton": {"dialect": "vllm", "model": "llama-70b"},
        "chat_template": "./templates/llama3.jinja",
    }
    VALIDATOR.validate(tree)


@pytest.mark.parametrize(
    "tree",
    [
        small(serverr={}),
        small(models={"m": {"backend": "trition"}}),
        small(models={"m": {"backend": "triton", "triton": {}}}),
        small(models={"m": {"backend": "onnx", "onnx": {"path": ""}}}),
        small(models={"m": {"backend": "simulated", "price": {"inputt": 1}}}),
        small(server={"port": 70000}),
        small(keys={"clients": {"a": {"sha256": "x"}}}),
        {"models": {}},
    ],
)
def test_what_the_loader_refuses_for_its_shape_the_schema_refuses(tree):
    assert not VALIDATOR.is_valid(tree)


def test_every_struct_is_closed_and_every_key_is_described():
    for name, definition in json_schema()["$defs"].items():
        assert definition["title"] == name
        if definition.get("type") == "object":
            assert definition["additionalProperties"] is False
            for key, described in definition["properties"].items():
                assert described.get("description"), f"{name}.{key}"


def test_only_secrets_are_foreign_types():
    with pytest.raises(NotImplementedError):
        _describe_secret(bytes)
