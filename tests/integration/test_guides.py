"""The guides to deploying it: every block of values renders, commands name what is there, links lead somewhere."""

import functools
import re
import shlex
import subprocess

import pytest
import yaml

from gateway.commands import main
from gateway.quick import QUICK
from gateway.settings.load import parse_settings
from tests import helm
from tests.chart_pods import pods_of, restricted_faults
from tests.chart_schemas import faults_in
from tests.chart_wiring import Rendered, wiring_faults

ROOT = helm.ROOT
GUIDES = [ROOT / "docs" / "deploy.md", ROOT / "helm" / "postern" / "README.md"]
NAMED = re.compile(r"# ([\w-]+\.yaml)\n")
"""How a block says which file it is."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMESPACE = "postern"
ENVIRON = {"OPENAI_API_KEY": "any", "PROVIDER_KEY": "any", "REDIS_URL": "redis://any:6379", "REDIS_PASSWORD": "any"}
each_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(guide, language):
    """Return the guide's blocks in this language."""
    return [text for found, text in FENCE.findall(guide.read_text()) if found == language]


def files_of(guide):
    """Return the files that the guide has its reader write, by name."""
    parts = [part for block in blocks(guide, "yaml") for part in block.split("---\n")]
    return {found[1]: part for part in parts if (found := NAMED.match(part))}


def commands(guide):
    """Return every command line of the guide, as words: comments are left out, continued lines are joined."""
    inline = re.findall(r"`((?:docker|kubectl|helm|make|postern) [^`]+)`", FENCE.sub("", guide.read_text()))
    lines = re.sub(r"\\\n\s*", " ", "\n".join([*blocks(guide, "sh"), *inline])).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@functools.cache
def laid_out(guide, folder):
    """Write the guide's files where its commands look for them; return the folder."""
    for name, text in files_of(guide).items():
        (folder / name).write_text(text)
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (folder / "helm").symlink_to(ROOT / "helm")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return where each guide's files are."""
    return {guide: laid_out(guide, tmp_path_factory.mktemp("guide")) for guide in GUIDES}


def installations(guide):
    """Return the command lines that install or upgrade the release, as `helm template` takes them."""
    found = [words for words in commands(guide) if words[0] == "helm" and "helm/postern" in words]
    return [
        ["template", *(one for one in words[1:] if one not in {"install", "upgrade", "--install"})] for words in found
    ]


def made_by(guide):
    """Return the names of what the guide has its reader make by hand."""
    made = re.findall(r"create (?:secret (?:generic|tls)|configmap) ([\w-]+)", guide.read_text())
    return {"there": made}


def rendered(command, folder):
    """Return what a command line of `helm template` renders."""
    helm.install()
    more = ["--kube-version", f"v{helm.NEWEST}.0", "--api-versions", ",".join(helm.API_VERSIONS)]
    done = subprocess.run([helm.HELM_3, *command, *more], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return [one for one in yaml.load_all(done.stdout, helm.UniqueKeyLoader) if one]


def config_in(resources):
    """Return the gateway's configuration, as it is mounted."""
    return next(one["data"]["postern.yaml"] for one in resources if "postern.yaml" in one.get("data", {}))


def merged(under, over):
    """Return one mapping over another, as Helm lays files of values over one another."""
    both = {name: merged(under[name], over[name]) for name in under if isinstance(over.get(name), dict) and under[name]}
    return under | over | both


@each_guide
def test_every_block_of_values_has_a_name_or_is_part_of_another_file(guide):
    unnamed = [text for text in blocks(guide, "yaml") if not NAMED.match(text)]
    assert all(re.match(r"rules:|redis:", text) for text in unnamed), unnamed


@each_guide
def test_every_installation_renders_what_a_cluster_takes(guide, folders):
    found = installations(guide)
    assert len(found) >= 2
    for command in found:
        resources = rendered(command, folders[guide])
        assert faults_in(resources) == [], command
        assert wiring_faults(Rendered(resources, made_by(guide), NAMESPACE)) == [], command
        assert [fault for pod in pods_of(resources) for fault in restricted_faults(pod)] == [], command
        assert parse_settings(config_in(resources), ENVIRON | dict.fromkeys(asked_for(resources), "any"))


def asked_for(resources):
    """Return the variables that the configuration asks for."""
    return re.findall(r"(?<!\$)\$\{(\w+)\}", config_in(resources))


@pytest.mark.parametrize("by_helm", [3, 4])
def test_every_file_renders_over_those_that_stand_before_it(by_helm):
    values, rendered_to = {}, {}
    for name, text in files_of(GUIDES[0]).items():
        values = merged(values, yaml.safe_load(text))
        rendered_to[name] = helm.render(values | {"configFiles": {"llama.json": "{}"}}, helm=by_helm)
        assert faults_in(rendered_to[name]) == [], name
    kinds = {one["kind"] for one in rendered_to["queues.yaml"]}
    assert {"ScaledObject", "HTTPRoute", "PrometheusRule", "ServiceMonitor", "StatefulSet", "NetworkPolicy"} <= kinds


@each_guide
def test_commands_name_what_is_there(guide, folders):
    last = rendered(installations(guide)[-1], folders[guide])
    for command in installations(guide):
        last += rendered(command, folders[guide])
    names = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in last}
    for words in commands(guide):
        asked = {word for word in words if re.fullmatch(r"(deployment|service|statefulset|job)/[\w-]+", word)}
        assert asked <= names, words


@each_guide
def test_commands_of_make_compose_and_postern_exist(guide):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = [words for words in commands(guide) if words[0] in {"make", "postern"}]
    assert {words[1] for words in told if words[0] == "make" and "=" not in words[1]} <= targets
    assert {words[1] for words in told if words[0] == "postern"} <= main.commands.keys() | QUICK.keys()
    composed = [words for words in commands(guide) if words[:2] == ["docker", "compose"] and "-f" in words]
    assert all((ROOT / words[words.index("-f") + 1]).is_file() for words in composed)
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    chosen = {word for words in composed if "--no-deps" in words for word in words[words.index("--no-deps") + 1 :]}
    assert chosen <= services.keys()


def anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages():
    """Return the pages that are in the repository."""
    run = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("this is no git checkout")
    return [path for name in run.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_every_link_between_pages_leads_somewhere():
    broken = []
    for page in pages():
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
            place, _, anchor = target.partition("#")
            if re.match(r"\w+:", target):
                continue
            path = (page.parent / place).resolve() if place else page
            if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path.read_text())):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_walk_is_short():
    assert len((ROOT / "docs" / "deploy.md").read_text().splitlines()) <= 300
