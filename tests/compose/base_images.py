"""Makes stand-ins for the public base images out of Debian's own packages, for a machine that cannot pull them.

    python3 -m tests.compose.base_images

Each gets the name that the Dockerfile and docker-compose.yml use, unless an image of that name is there already. It
needs root, debootstrap, a container engine, and a Debian mirror (DEBIAN_MIRROR, default deb.debian.org).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEBIAN = "baton-trial/debian:bookworm"
# The image as the project names it, and the recipe of its stand-in: of Debian's versions, which are older (Postgres 15,
# etcd 3.4, Prometheus 2.42). Debian has no Grafana: there is no stand-in for it.
STAND_INS = {
    "python:3.11-slim-bookworm": "python",
    "postgres:17-bookworm": "postgres",
    "quay.io/coreos/etcd:v3.6.16": "etcd",
    "prom/prometheus:v3.5.0": "prometheus",
}


class Unable(Exception):
    """This machine lacks something; says what."""


def make_missing() -> list[str]:
    """Make the stand-ins of the images that are not here; return their names. Raises Unable."""
    missing = {name: recipe for name, recipe in STAND_INS.items() if not exists(name)}
    if missing and not exists(DEBIAN):
        make_debian()
    for name, recipe in missing.items():
        print(f"making {name} from Debian's packages", flush=True)
        build = ["docker", "build", "--quiet", "--tag", name, "--file", f"{recipe}.Dockerfile", "."]
        subprocess.run(build, check=True, cwd=HERE / "images", env=os.environ | {"DOCKER_BUILDKIT": "0"})
    return list(missing)


def exists(image: str) -> bool:
    """Whether the engine has an image of this name."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


def make_debian() -> None:
    """Make the image of a minimal Debian that the others start from."""
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise Unable("base images can neither be found nor made: pull them, or run this as root with debootstrap")
    mirror = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
    with tempfile.TemporaryDirectory(prefix="baton-debian-") as folder:
        print(f"making {DEBIAN} from {mirror}", flush=True)
        command = ["debootstrap", "--variant=minbase", "bookworm", folder, mirror]
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode != 0:
            raise Unable(f"debootstrap failed:\n{made.stdout[-2000:]}")
        archive = ["tar", "-C", folder, "-c", "--exclude=./var/cache/apt/archives/*.deb"]
        archive += ["--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*", "."]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as tar:
            subprocess.run(["docker", "import", "-", DEBIAN], stdin=tar.stdout, check=True, stdout=subprocess.DEVNULL)
        if tar.returncode != 0:
            raise Unable(f"tar ended with {tar.returncode}")


if __name__ == "__main__":
    make_missing()
