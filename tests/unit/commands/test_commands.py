"""The command line: what it prints, and how it exits."""

import json
import re

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from gateway import app, commands
from gateway.auth.keys import hash_key
from gateway.backends.backend import BackendLoadError
from gateway.classify.onnx import OnnxClassifier
from gateway.commands import LATER, main
from gateway.core.judgement import Judgement
from gateway.settings.faults import SettingsError
from gateway.settings.load import parse_settings
from gateway.settings.models import BackendKind

CONFIG = """
models:
  small: {backend: simulated, price: {input: 1, output: 2}, context_tokens: 1000}
  large: {backend: simulated, price: {input: 10, output: 20}, capabilities: [tools]}
routes:
  auto: {models: [small, large], policy: {threshold: 0.4}}
  fixed: {models: [small, large], policy: {kind: pinned, model: large}}
"""
EASY = "What is the capital of France?"
HARD = "Prove that every finite group of order p^2 is abelian, then derive its automorphism group."


class StubRouter:
    """A router that knows the score alone."""

    name, version, reference = "stub", "1", None
    judgement = Judgement(0.2)

    def judge(self, _, tenant=None):
        return self.judgement


def run(*arguments, given=None):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=given)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "postern.yaml"
    path.write_text(CONFIG)
    return path


def write(path, text):
    path.write_text(text)
    return path


def test_a_sound_configuration_is_summed_up_with_exit_0(config):
    found = run("check-config", config)
    assert found.exit_code == 0
    assert found.stdout.splitlines() == [
        "auto: small < large  (complexity, threshold 0.4)",
        "fixed: small < large  (pinned, large)",
    ]


def test_every_fault_is_told_by_its_path_with_exit_2(config):
    write(config, CONFIG.replace("context_tokens: 1000", "context_token: 1000").replace("0.4", "7"))
    found = run("check-config", config)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert "models.small.context_token" in found.stderr
    assert "routes.auto.policy.threshold" in found.stderr


@pytest.mark.parametrize("text", ["", "- a list", "models: [", "\x00"])
def test_what_is_no_configuration_exits_2_without_a_traceback(config, text):
    found = run("check-config", write(config, text))
    assert (found.exit_code, found.exception.__class__) == (2, SystemExit)
    assert found.stderr


def test_a_file_that_is_not_there_exits_2(tmp_path):
    assert run("check-config", tmp_path / "nothing.yaml").exit_code == 2


def test_a_router_on_trial_that_cannot_be_loaded_is_a_fault_too(config):
    trial = "threshold: 0.4, routers: {./nowhere: {shadow: true}}"
    found = run("check-config", write(config, CONFIG.replace("threshold: 0.4", trial)))
    assert found.exit_code == 2
    assert "routes.auto.policy.routers: nowhere/manifest.json" in found.stderr


def test_a_router_that_cannot_be_loaded_is_a_fault(config):
    found = run("check-config", write(config, CONFIG.replace("threshold: 0.4", "router: ./nowhere")))
    assert found.exit_code == 2
    assert "routes.auto.policy.router" in found.stderr


def test_an_explanation_tells_the_model_the_reason_and_every_candidate(config):
    found = run("explain", "--config", config, EASY)
    assert found.exit_code == 0
    first, second, third, *candidates = found.stdout.splitlines()
    assert re.fullmatch(r"auto -> (small|large) \((weak|strong)\), because: score", first)
    assert re.fullmatch(r"score 0\.\d{3}, threshold 0\.4, router default(, domain [a-z ]+)?", second)
    assert third.startswith("about 12 prompt tokens")
    assert [line.split()[:2] for line in candidates] == [["weak", "small"], ["strong", "large"]]


def test_an_explanation_names_the_model_that_would_be_asked_of_an_unsure_one(config):
    fleet = "models:\n  a: {backend: simulated, capabilities: [logprobs]}\n  b: {backend: simulated}\n"
    path = write(config, fleet + "routes:\n  auto: {models: [a, b], policy: {kind: cascade, threshold: 1.0}}\n")
    first = run("explain", "--config", path, EASY).stdout.splitlines()[0]
    assert first == "auto -> a (weak), because: score; if it begins unsure: b"


def test_an_explanation_names_the_kinds_of_personal_data_on_a_private_route(config):
    fleet = "models:\n  a: {backend: simulated, local: true}\n  b: {backend: simulated}\n"
    path = write(config, fleet + "routes:\n  auto: {models: [a, b], policy: {kind: private, threshold: 0}}\n")
    first = run("explain", "--config", path, "Write to jane@example.org or 541-714-1388").stdout.splitlines()[0]
    assert first == "auto -> a (weak), because: private; personal data: email, phone"


def test_an_explanation_as_json_holds_the_same_and_its_costs_add_up(config):
    told = json.loads(run("explain", "--config", config, "--json", EASY).stdout)
    assert (told["route"], told["threshold"], told["router"]) == ("auto", 0.4, "default")
    assert 0 <= told["score"] <= 1
    assert told["model"] == ("large" if told["score"] >= 0.4 else "small")
    tokens = told["prompt_tokens"], told["completion_tokens"]
    costs = [tokens[0] * 1e-6 + tokens[1] * 2e-6, tokens[0] * 1e-5 + tokens[1] * 2e-5]
    assert [one["estimated_cost_usd"] for one in told["candidates"]] == pytest.approx(costs)


def test_a_prompt_may_come_from_standard_input(config):
    arguments = ("explain", "--config", config, "--json")
    assert run(*arguments, "-", given=HARD).stdout == run(*arguments, HARD).stdout != run(*arguments, EASY).stdout


def test_another_route_may_be_explained_and_an_unknown_one_exits_2(config):
    found = run("explain", "--config", config, "--route", "fixed", "x")
    assert "fixed -> large (strong), because: pinned" in found.stdout
    found = run("explain", "--config", config, "--route", "nowhere", "x")
    assert (found.exit_code, found.exception.__class__) == (2, SystemExit)


@pytest.mark.parametrize("prompt", ["", "\udcff\udc80", "é 証明 😀", "x" * 100_000])
def test_any_prompt_is_explained_or_refused_without_a_traceback(config, prompt):
    found = run("explain", "--config", config, prompt)
    assert found.exit_code in {0, 2}
    assert found.exception is None or isinstance(found.exception, SystemExit)


def test_the_schema_is_one_and_takes_the_configuration():
    schema = json.loads(run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(yaml.safe_load(CONFIG))
    assert not validator.is_valid({**yaml.safe_load(CONFIG), "modles": {}})


@pytest.mark.parametrize("name", ["team-a", "123", "yes", "a:b", "#a", "null", "{x}", "é", "a'b\"c"])
def test_a_created_key_loads_as_configuration_under_its_name(name):
    found = run("keys", "create", name)
    assert found.exit_code == 0
    key = re.search(r"^# (pk-postern-\S+)$", found.stdout, re.MULTILINE)[1]
    settings = parse_settings(CONFIG + found.stdout, {})
    assert {name: client.sha256 for name, client in settings.keys.clients.items()} == {name: hash_key(key)}
    assert run("keys", "create", name).stdout != found.stdout


@pytest.mark.parametrize("name", ["", "two words", "line\nbreak", "x" * 200])
def test_a_client_name_the_configuration_would_refuse_is_refused_at_once(name):
    found = run("keys", "create", name)
    assert (found.exit_code, found.stdout) == (2, "")
    with pytest.raises(SettingsError):
        parse_settings(f"{CONFIG}keys: {{clients: {{{json.dumps(name)}: {{sha256: {'a' * 64}}}}}}}", {})


def test_clients_are_listed_without_what_could_be_used(config):
    text = run("keys", "create", "team-a").stdout
    write(config, CONFIG + text)
    found = run("keys", "list", "--config", config)
    sha256 = hash_key(re.search(r"pk-postern-\S+", text)[0])
    assert found.stdout == f"team-a  sha256:{sha256[:12]}...\n"


@pytest.mark.parametrize("arguments", [*([name] for name in LATER), [LATER[0], "--rows", "5"], ["keys", "revoke", "a"]])
def test_what_is_not_there_yet_says_so_with_exit_2(arguments):
    found = run(*arguments)
    assert found.exit_code == 2
    assert "not available yet" in found.stderr


@pytest.mark.parametrize("command", [["--help"], ["serve", "--help"], ["score", "--help"], ["--version"]])
def test_help_and_version_exit_0(command):
    assert run(*command).exit_code == 0


class DomainRouter(StubRouter):
    """A router with every head."""

    judgement = Judgement(0.2, weak_chance=0.2, strong_chance=0.8, domain="law", output_tokens=50)


def by_domain(config):
    text = CONFIG.replace("small: {backend: simulated,", "small: {backend: simulated, domains: [legal],")
    return write(config, text.replace("{threshold: 0.4}", "{kind: domain, threshold: 0.4}"))


def test_a_route_by_domain_is_warned_of_where_its_router_tells_none(config, monkeypatch):
    monkeypatch.setattr(OnnxClassifier, "load", lambda _: StubRouter())
    found = run("check-config", by_domain(config))
    assert (found.exit_code, found.stdout.splitlines()[0]) == (0, "auto: small < large  (domain, threshold 0.4)")
    assert found.stderr.startswith("warning: routes.auto.policy.kind: the router default tells no domain")
    monkeypatch.setattr(OnnxClassifier, "load", lambda _: DomainRouter())
    assert run("check-config", config).stderr == ""


def test_explain_tells_the_domain_each_candidates_chance_and_the_expected_length(config, monkeypatch):
    monkeypatch.setattr(OnnxClassifier, "load", lambda _: DomainRouter())
    found = run("explain", "--config", by_domain(config), EASY).stdout
    assert "auto -> small (weak), because: domain" in found
    assert "router default, domain law" in found
    assert "costs assume 50 in the answer" in found
    assert [line.split()[3:5] for line in found.splitlines()[3:]] == [["20%", "good"], ["80%", "good"]]
    told = json.loads(run("explain", "--json", "--config", config, EASY).stdout)
    assert (told["domain"], told["completion_tokens"]) == ("law", 50)
    assert [one["chance"] for one in told["candidates"]] == [0.2, 0.8]


def test_explain_leaves_out_what_the_router_has_no_head_for(config, monkeypatch):
    monkeypatch.setattr(OnnxClassifier, "load", lambda _: StubRouter())
    found = run("explain", "--config", config, EASY).stdout
    assert "good" not in found
    assert "domain" not in found
    assert "costs assume 256" in found
    told = json.loads(run("explain", "--json", "--config", config, EASY).stdout)
    assert (told["domain"], [one["chance"] for one in told["candidates"]]) == (None, [None, None])


def test_a_held_share_is_told_by_check_config_and_by_explain(config, monkeypatch):
    monkeypatch.setattr(OnnxClassifier, "load", lambda _: StubRouter())
    write(config, CONFIG.replace("threshold: 0.4", "strong_share: 0.3"))
    assert run("check-config", config).stdout.splitlines()[0] == "auto: small < large  (complexity, strong share 0.3)"
    assert (
        "threshold 0.7 (moves, to hold a share of 0.3), router default"
        in run("explain", "--config", config, EASY).stdout
    )
    told = json.loads(run("explain", "--json", "--config", config, EASY).stdout)
    assert (told["strong_share"], told["threshold"]) == (0.3, 0.7)
    assert "(moves" not in run("explain", "--config", config, "--route", "fixed", EASY).stdout


WITH_TRITON = """
models:
  small: {backend: simulated}
  llama: {backend: triton, urls: ["grpc://127.0.0.1:1"], triton: {dialect: vllm}, chat_template: llama3.jinja}
routes:
  auto: {models: [small, llama], policy: {threshold: 0}}
"""


def refuse(name, settings, commons):
    raise BackendLoadError("chat_template", f"is not there: {settings.chat_template}", "name a template")


def test_a_file_of_a_model_that_cannot_be_loaded_is_a_fault_at_its_key(config, monkeypatch):
    monkeypatch.setitem(app.BACKENDS, BackendKind.TRITON, refuse)
    found = run("check-config", write(config, WITH_TRITON))
    assert found.exit_code == 2
    told = f"models.llama.chat_template: is not there: {config.parent}/llama3.jinja; name a template"
    assert found.stderr.splitlines() == [told]


@pytest.mark.usefixtures("untouched_logs")
@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_a_gateway_whose_models_cannot_be_loaded_does_not_start(config, monkeypatch, workers):
    monkeypatch.setitem(app.BACKENDS, BackendKind.TRITON, refuse)
    write(config, WITH_TRITON + "redis: {url: redis://127.0.0.1:1}\n")
    found = run("serve", "--config", config, "--port", "0", "--admin-port", "0", *workers)
    assert (found.exit_code, found.exception.__class__) == (2, SystemExit)
    assert found.stderr.splitlines()[-1].startswith("models.llama.chat_template: is not there")


def test_what_check_config_has_loaded_it_closes(config, monkeypatch):
    closed = []

    class Loaded:
        url = "u"

        async def close(self):
            closed.append(self)

    monkeypatch.setitem(app.BACKENDS, BackendKind.TRITON, lambda *_: [Loaded(), Loaded()])
    found = run("check-config", write(config, WITH_TRITON))
    assert (found.exit_code, len(closed)) == (0, 2)
    assert found.stdout == "auto: small < llama  (complexity, threshold 0)\n"


def test_what_serves_but_perhaps_not_as_meant_is_warned_of(config, monkeypatch):
    for kind in (BackendKind.TRITON, BackendKind.ONNX):
        monkeypatch.setitem(app.BACKENDS, kind, lambda *_: [])
    text = WITH_TRITON.replace(", chat_template: llama3.jinja", "").replace(
        "backend: simulated", "backend: onnx, onnx: {path: x}"
    )
    text += "redis: {url: redis://127.0.0.1:1}\nserver: {workers: 2}\n"
    found = run("check-config", write(config, text))
    assert found.exit_code == 0
    first, second = found.stderr.splitlines()
    assert first.startswith("warning: models.small.onnx: each of the 2 workers runs a copy")
    assert second.startswith("warning: models.llama.chat_template: without one the model takes completions only")
    assert run("check-config", write(config, WITH_TRITON)).stderr == ""


def test_an_explanation_loads_no_model_and_tells_the_field_that_one_cannot_carry(config, monkeypatch):
    monkeypatch.setitem(app.BACKENDS, BackendKind.TRITON, refuse)
    write(config, WITH_TRITON)
    assert "auto -> llama (strong)" in run("explain", "--config", config, HARD).stdout
    write(config, WITH_TRITON.replace(", chat_template: llama3.jinja", ""))
    told = run("explain", "--config", config, HARD).stdout
    assert "auto -> small (weak), because: capability" in told
    assert re.search(r"strong +llama .* capability \(lacks messages\)$", told, re.MULTILINE)
    as_json = json.loads(run("explain", "--config", config, "--json", HARD).stdout)
    assert [one["lacks"] for one in as_json["candidates"]] == [None, "messages"]


@pytest.mark.usefixtures("untouched_logs")
def test_what_kubernetes_sets_for_a_service_named_postern_is_no_option(monkeypatch):
    """It sets NAME_PORT, NAME_SERVICE_HOST and the like in every pod."""
    monkeypatch.setenv("POSTERN_PORT", "tcp://10.96.0.17:8080")
    monkeypatch.setenv("POSTERN_SERVICE_HOST", "10.96.0.17")
    monkeypatch.setenv("POSTERN_SERVICE_PORT", "8080")
    monkeypatch.setenv("POSTERN_ADMIN_PORT", "tcp://10.96.0.18:8081")
    monkeypatch.setenv("POSTERN_CONFIG", "/nowhere/postern.yaml")
    found = run("serve")
    assert found.exit_code == 2
    assert found.output.splitlines() == [
        "/nowhere/postern.yaml: cannot be read: No such file or directory; name a file that exists"
    ]


def test_without_a_named_configuration_the_usual_one_is_read_where_there_is_one(config, monkeypatch):
    monkeypatch.delenv("POSTERN_CONFIG", raising=False)
    monkeypatch.setattr(commands, "USUAL_CONFIG", config)
    assert "small" in run("explain", EASY).stdout


def test_a_named_configuration_goes_before_the_usual_one_and_must_be_there(config, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "USUAL_CONFIG", config)
    monkeypatch.setenv("POSTERN_CONFIG", str(tmp_path / "missing.yaml"))
    found = run("explain", EASY)
    assert found.exit_code == 2
    assert "missing.yaml" in found.stderr


def test_a_usual_configuration_that_may_not_be_read_is_told_not_passed_by(monkeypatch):
    """A service that runs as the wrong user must not serve made-up answers instead."""

    class Closed(type(commands.USUAL_CONFIG)):
        def is_file(self):
            raise PermissionError

    monkeypatch.setattr(commands, "USUAL_CONFIG", Closed("/etc/postern/postern.yaml"))
    assert commands.find_config(None) == commands.USUAL_CONFIG
