"""What the repository must not hold: paths of one machine, hosts of packages, requirements without hashes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = {".py", ".toml", ".txt", ".md", ".yaml", ".yml", ".json", ".jsonl", ".sh", ".cfg", "", ".jinja", ".tpl", ".ts"}
HERE = re.escape(str(ROOT))
HOMES = r"/home/\w+|/roo[t]|/Users/\w+|/(opt|srv|mnt)/[\w.-]*(pypi|npm|mirror)"
MACHINE_PATH = re.compile(rf"(?<![\w.~$}}/-])({HERE}|{HOMES})\b")
PACKAGE_HOST = re.compile(
    r"(--(extra-)?index-url|--trusted-host|--find-links|--registry|\bindex[_-]url|\bregistry)[ =:\"']+https?:"
)
REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9][\w.\[\]-]*)==(?P<version>\S+)", re.MULTILINE)


def tracked():
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("this is no git checkout")
    return [path for name in run.stdout.split("\0") if (path := ROOT / name).is_file() and path.suffix in TEXT]


@pytest.mark.parametrize("pattern", [MACHINE_PATH, PACKAGE_HOST], ids=["path of one machine", "package host"])
def test_no_tracked_file_names_one(pattern):
    found = {path.relative_to(ROOT).as_posix(): pattern.search(path.read_text(errors="replace")) for path in tracked()}
    assert {name: match.group() for name, match in found.items() if match} == {}


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (f"cd {ROOT}", MACHINE_PATH),
        ("see /{}/someone".format("home"), MACHINE_PATH),
        ("pip install --index-{} http://mirror/simple".format("url"), PACKAGE_HOST),
        ("{}=https://mirror".format("registry"), PACKAGE_HOST),
    ],
)
def test_what_must_not_be_there_would_be_found(text, pattern):
    assert pattern.search(text)
    assert not pattern.search(f"docs{ROOT}/x /var/home/x ./home/x https://example.com/registry the registry = one")


@pytest.mark.parametrize(
    "lock",
    [*sorted((ROOT / "locks").glob("*.txt")), *sorted((ROOT / "loadtests" / "locks").glob("*.txt"))],
    ids=lambda path: path.name,
)
def test_every_requirement_of_a_lock_is_pinned_and_hashed(lock):
    joined = re.sub(r"\\\n\s*", " ", lock.read_text())
    lines = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert REQUIREMENT.match(line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), line


def test_what_serves_is_locked_to_the_same_versions_as_what_tests():
    locks = {path.stem: dict(REQUIREMENT.findall(path.read_text())) for path in (ROOT / "locks").glob("*.txt")}
    for name, version in locks["serve"].items():
        assert locks["dev"].get(name, version) == version
        assert locks["train"].get(name, version) == version


@pytest.mark.parametrize("lock", sorted((ROOT / "locks").glob("*.txt")), ids=lambda path: path.name)
def test_what_a_lock_is_for_is_told(lock):
    assert f"| `{lock.name}` |" in (ROOT / "locks" / "README.md").read_text()


@pytest.mark.parametrize("name", ["README.md", "deploy/onnx/README.md"])
def test_no_guide_installs_the_package_of_our_name_which_is_another_projects(name):
    assert not re.search(r"pip install ['\"]?postern\b", (ROOT / name).read_text())


def test_make_finds_commands_of_debian_that_only_roots_path_has():
    command = ["make", "--silent", "--eval=told:; @echo $$PATH", "told"]
    run = subprocess.run(command, cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "/usr/bin:/bin:/usr/sbin:/sbin"


def test_make_mends_an_environment_that_has_no_pip(tmp_path):
    """As Debian leaves one where python3-venv is missing: who then installs that and tries again should get on."""
    made = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    command = ["make", f"{made}/.serve", f"VENV={made}", f"PYTHON={sys.executable}", "PIP=true"]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    subprocess.run([made / "bin" / "python", "-m", "pip", "--version"], capture_output=True, check=True)
