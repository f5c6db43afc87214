"""Makes the image in which the Dockerfile's builder stage runs, for a machine whose containers reach no package index.

The wheels are downloaded here, with whatever settings this machine's pip has, checked against the hashes of the lock
files, and put into an image that installs from them alone. Neither the settings nor the wheels reach the final image.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compose.base_images import Unable, exists

ROOT = Path(__file__).resolve().parents[2]
PYTHON_IMAGE = "python:3.11-slim-bookworm"

_RECIPE = f"""\
FROM {PYTHON_IMAGE}
COPY wheels /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_DISABLE_PIP_VERSION_CHECK=1
"""


def make_builder() -> str:
    """Make the builder's image unless it is there for these lock files, and return its name. Raises Unable."""
    wanted = "".join(production_requirements().values()) + "".join(build_requirements().values())
    name = f"baton-trial/builder:{hashlib.sha256((wanted + _RECIPE).encode()).hexdigest()[:12]}"
    if exists(name):
        return name
    print(f"making {name}: the wheels of the lock files", flush=True)
    with tempfile.TemporaryDirectory(prefix="baton-wheels-") as folder:
        context = Path(folder)
        (context / "wanted.txt").write_text(wanted)
        (context / "Dockerfile").write_text(_RECIPE)
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", *_platform()]
        target = ["--dest", str(context / "wheels"), "--requirement", str(context / "wanted.txt")]
        subprocess.run([*_pip(), "download", *options, *target], check=True)
        environment = os.environ | {"DOCKER_BUILDKIT": "0"}
        subprocess.run(["docker", "build", "--quiet", "--tag", name, folder], check=True, env=environment)
    return name


def production_requirements() -> dict[str, str]:
    """What the image installs, as name and text, by the rule of the Dockerfile."""
    left_out = _names("LEFT_OUT")
    return {name: text for name, text in lock("requirements.lock").items() if name not in left_out}


def build_requirements() -> dict[str, str]:
    """What builds Baton's own wheel, as name and text, by the rule of the Dockerfile."""
    tools = _names("BUILD_TOOLS")
    return {name: text for name, text in lock("requirements-dev.lock").items() if name in tools}


def lock(file: str) -> dict[str, str]:
    """The requirements of a lock file by name, each with its hashes and its reasons."""
    parts = re.split(r"(?m)^(?=[A-Za-z0-9])", (ROOT / file).read_text())
    return {part.partition("==")[0]: part for part in parts if "==" in part.partition("\n")[0]}


def _names(argument: str) -> set[str]:
    found = re.search(rf'(?m)^ARG {argument}="([^"]+)"$', (ROOT / "Dockerfile").read_text())
    if found is None:
        raise Unable(f"the Dockerfile has no line `ARG {argument}=...`")
    return set(found[1].split("|"))


def _platform() -> list[str]:
    """The options that make pip download for the container, whatever Python runs this."""
    machine = os.uname().machine
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)] + [f"manylinux2014_{machine}"]
    versions = ["--implementation", "cp", "--python-version", "3.11"]
    return [*versions, *(f"--platform={platform}" for platform in platforms)]


def _pip() -> list[str]:
    for candidate in ([sys.executable, "-m", "pip"], [shutil.which("python3") or "python3", "-m", "pip"], ["pip3"]):
        if subprocess.run([*candidate, "--version"], capture_output=True, cwd="/").returncode == 0:
            return candidate
    raise Unable("the wheels cannot be downloaded: no Python here has pip")


if __name__ == "__main__":
    print(make_builder())
