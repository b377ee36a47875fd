"""Build deploy/Dockerfile as it stands, without a container engine or a registry: buildah, and bases made of packages.

The builder's base is a minimal Debian; the one that runs is what distroless' own build rules name for Python on
Debian 13 (https://github.com/GoogleContainerTools/distroless: base, cc, python3), which holds no shell. Wheels are
fetched beforehand, against the same hashes, so that the build itself needs no index.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SUITE, PYTHON = "trixie", "3.13"
RUNTIME_PACKAGES = (
    *("base-files", "netbase", "tzdata", "media-types", "libc6", "libssl3t64", "libzstd1", "zlib1g"),
    *("libgomp1", "libstdc++6", "libgcc-s1", "gcc-14-base", "libbz2-1.0", "libdb5.3t64", "libexpat1", "liblzma5"),
    *("libsqlite3-0", "libuuid1", "libncursesw6", "libtinfo6", "libcom-err2", "libcrypt1", "libgssapi-krb5-2"),
    *("libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "libnsl2", "libreadline8t64"),
    *("libtirpc3t64", "libffi8", "libpython3.13-minimal", "libpython3.13-stdlib", "python3.13-minimal"),
)
USERS = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
WHEELS = ("2_17", "2_24", "2_27", "2_28", "2_34")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    keyword: str
    value: str


def parse_dockerfile(path: Path) -> list[Instruction]:
    """Return the instructions, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        Instruction(keyword.upper(), value.strip())
        for keyword, _, value in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def last_stage(instructions: list[Instruction]) -> list[Instruction]:
    """Return what follows the last FROM."""
    last = max(number for number, one in enumerate(instructions) if one.keyword == "FROM")
    return instructions[last:]


def run(*command: str | Path, **more: Any) -> str:
    """Run a command. Raises AssertionError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def make_debian(folder: Path) -> Path:
    """Make a minimal Debian, as debian:trixie-slim is one."""
    run("debootstrap", "--variant=minbase", SUITE, folder)
    return folder


def make_runtime(folder: Path, debian: Path) -> Path:
    """Make the root that the gateway runs on, of packages that `debian` fetches."""
    (debian / "debs").mkdir()
    fetch = f"cd /debs && apt-get -qq update && apt-get -qq download ca-certificates {' '.join(RUNTIME_PACKAGES)}"
    run("chroot", debian, "sh", "-c", fetch)
    for package in sorted((debian / "debs").glob("*.deb")):
        # Distroless takes the certificates of this one, not its commands.
        target = folder.with_name("authorities") if package.name.startswith("ca-certificates") else folder
        run("dpkg-deb", "-x", package, target)
        package.unlink()
    found = sorted((folder.with_name("authorities") / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = folder / AUTHORITIES.lstrip("/")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(one.read_text() for one in found))
    (folder / "etc" / "passwd").write_text(USERS)
    (folder / "usr" / "bin" / "python3").symlink_to(f"python{PYTHON}")
    return folder


def fetch_wheels(folder: Path, locks: list[Path]) -> None:
    """Fetch what the locks name for the image's Python, checked against their hashes, by this machine's own pip."""
    found: dict[str, str] = {}
    target = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    for lock in locks:
        for line in re.sub(r"\\\n\s*", " ", lock.read_text()).splitlines():
            named, _, hashes = line.partition(" --hash=")
            if not hashes:
                continue
            wanted = Requirement(named)
            if wanted.marker is None or wanted.marker.evaluate(target):
                found[wanted.name] = f"{wanted.name}{wanted.specifier} --hash={hashes}"
    listed = folder.with_suffix(".txt")
    listed.write_text("\n".join(found.values()))
    abi = "cp" + PYTHON.replace(".", "")
    platforms = [f"--platform=manylinux_{glibc}_x86_64" for glibc in WHEELS] + ["--platform=manylinux2014_x86_64"]
    asked = [f"--python-version={PYTHON}", "--implementation=cp", *platforms]
    asked += [f"--abi={one}" for one in (abi, "abi3", "none")]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    run(*pip, *asked, "-r", listed, "-d", folder)


class Buildah:
    """Buildah with a store of its own; plain copies for layers, as overlays don't stack everywhere."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._do = ["buildah", "--storage-driver=vfs", f"--root={folder}/store", f"--runroot={folder}/run"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self("rm", "--all")
        self("rmi", "--all", "--force")

    def __call__(self, *arguments: str | Path) -> str:
        """Run it. Raises AssertionError with what it said."""
        return run(*self._do, *arguments).strip()

    def commit(self, root: Path, name: str, *config: str) -> str:
        """Make an image of a folder; return its name."""
        container = self("from", "scratch")
        self("copy", "--quiet", container, root, "/")
        self("config", *config, container)
        self("commit", "--quiet", "--rm", container, name)
        return name

    def build(self, dockerfile: Path, wheels: Path, **build_args: str) -> str:
        """Build an image from the repository; return its name."""
        offline = self._folder / "pip.conf"
        offline.write_text("[global]\nno-index = true\nfind-links = /wheelhouse\n")
        name = "localhost/built"
        self(
            *("build", "--quiet", "--isolation=chroot", "--format=docker", f"--tag={name}", f"--file={dockerfile}"),
            *(f"--secret=id=pip,src={offline}", f"--volume={wheels}:/wheelhouse:ro"),
            *(f"--build-arg={key}={value}" for key, value in build_args.items()),
            ROOT,
        )
        return name

    def mount(self, image: str) -> Path:
        """Return the folder that shows an image's whole root."""
        return Path(self("mount", self("from", "--pull-never", image)))

    def config(self, image: str) -> dict[str, Any]:
        """Return how the image wants to be run."""
        found: dict[str, Any] = json.loads(self("inspect", "--type=image", image))["Docker"]["config"]
        return found
