"""What Baton is made of, as an SBOM, and whether anybody has published a hole in it: `.ci/supply-chain` runs this.

    python3 scripts/supply_chain.py [OUTPUT]      default: build/sbom.cdx.json

Both come from requirements.lock, which is all that a release installs. The SBOM is CycloneDX, validated. The audit says
SKIPPED where no service of advisories answers: then nothing is known, which is not the same as nothing being wrong.
Exit status 1: there is no SBOM, or there is an advisory that nobody has accepted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
DEFAULT_OUTPUT = ROOT / "build" / "sbom.cdx.json"

SBOM_TOOL = "cyclonedx-bom==7.5.0"
AUDIT_TOOL = "pip-audit==2.10.1"
# In this order; the first one that knows anything counts.
ADVISORY_SERVICES = ("pypi", "osv")
# For each program, which is downloaded the first time.
TIMEOUT_S = 240

# Advisories that do not concern Baton, by id, with the reason. Look at each again when the lock file is renewed.
ACCEPTED: dict[str, str] = {}


@dataclass(frozen=True)
class Audit:
    """What a service of advisories knows: about how many packages, and what is wrong with them."""

    asked: int
    known: int
    holes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """In one line."""
        if self.holes:
            return f"FAILED: {len(self.holes)} advisories"
        if not self.known:
            return "SKIPPED: no service of advisories answered, so nothing is known"
        some = "" if self.known == self.asked else f"; nothing is known about {self.asked - self.known} others"
        return f"PASSED: no advisory for {self.known} of {self.asked} packages{some}"


def audit_of(report: dict[str, Any], accepted: dict[str, str]) -> Audit:
    """What pip-audit's report says. A package that its service could not look up counts as unknown, not as sound."""
    packages = report["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none'}"
        for package in known
        for hole in package["vulns"]
        if not {hole["id"], *hole.get("aliases", ())} & accepted.keys()
    ]
    return Audit(len(packages), len(known), tuple(holes))


def make_sbom(uv: Uv, output: Path) -> str | None:
    """Write the SBOM; None, or why that cannot be done."""
    output.parent.mkdir(parents=True, exist_ok=True)
    argv = ["--from", SBOM_TOOL, "cyclonedx-py", "requirements", "--validate"]
    argv += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "-o", str(output), str(LOCK)]
    done = uv.run(argv)
    if isinstance(done, str):
        return done
    if done.returncode != 0:
        return done.stderr[-1000:]
    parts = {part["name"] for part in json.loads(output.read_text())["components"]}
    locked = {line.partition("==")[0] for line in LOCK.read_text().splitlines() if "==" in line and line[0].isalnum()}
    missing = locked - parts
    return f"the SBOM lacks {', '.join(sorted(missing))}" if missing else None


def audit(uv: Uv) -> Audit:
    """Ask the services one after the other."""
    for service in ADVISORY_SERVICES:
        argv = ["--from", AUDIT_TOOL, "pip-audit", "--requirement", str(LOCK), "--disable-pip"]
        argv += ["--require-hashes", "--vulnerability-service", service, "--timeout", "10"]
        done = uv.run([*argv, "--progress-spinner", "off", "--format", "json"])
        if isinstance(done, str):
            continue
        try:
            found = audit_of(json.loads(done.stdout), ACCEPTED)
        except (ValueError, KeyError):
            continue
        if found.known:
            return found
    return Audit(0, 0)


@dataclass(frozen=True)
class Uv:
    """The uv that brings the programs, and what it is told of proxies, mirrors and patience."""

    path: str
    environment: dict[str, str]

    def run(self, arguments: list[str]) -> subprocess.CompletedProcess[str] | str:
        """Run a program of a package; why it could not be, if it could not."""
        argv = [self.path, "tool", "run", *arguments]
        try:
            return subprocess.run(
                argv, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, env=self.environment, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)


def main(arguments: list[str]) -> int:
    """Do both, also after one has failed."""
    sys.path.insert(0, str(ROOT))
    from run import SetupFailed, find_uv, uv_environment

    try:
        uv = Uv(find_uv(), uv_environment())
    except SetupFailed as error:
        print(f"supply chain: SKIPPED: {error}")
        return 0
    output = Path(arguments[0]) if arguments else DEFAULT_OUTPUT
    trouble = make_sbom(uv, output)
    print(f"SBOM: {f'FAILED: {trouble}' if trouble else f'PASSED: {output}'}", flush=True)
    found = audit(uv)
    for hole in found.holes:
        print(f"  {hole}")
    print(f"dependency audit: {found.verdict}")
    return 1 if trouble or found.holes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
