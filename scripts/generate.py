"""Generates the committed gRPC code of both packages from proto/.

Run `python scripts/generate.py` after any change in proto/. With `--check DIR` it writes below DIR instead,
for the test that compares what is committed with what proto/ says.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent

# The packages share proto/ alone: each has its own generated copy of what it speaks, by folder or by file.
PACKAGES = {
    "orchestrator/pb": ["baton/v1", "baton/participant/v1", "baton/etcd/v1"],
    # Of the API, participants call what takes answers that come later, and listen to events.
    "participants/pb": ["baton/participant/v1", "baton/v1/events.proto", "baton/v1/steps.proto", "shop/v1"],
}


def generate(target: Path) -> None:
    """Write the generated code of every package below `target`, replacing what is there."""
    for package, names in PACKAGES.items():
        with tempfile.TemporaryDirectory() as scratch:
            _compile(Path(scratch), names)
            for source in sorted(Path(scratch).rglob("*.py*")):
                _absolute_imports(source, package.replace("/", "."))
            destination = target / package
            shutil.rmtree(destination, ignore_errors=True)
            shutil.copytree(scratch, destination)
            for folder in [destination, *(p for p in destination.rglob("*") if p.is_dir())]:
                (folder / "__init__.py").write_text("")


def _compile(output: Path, names: list[str]) -> None:
    paths = [ROOT / "proto" / name for name in names]
    sources = [str(p) for path in paths for p in ([path] if path.is_file() else sorted(path.glob("*.proto")))]
    include = files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{include}"]
    arguments += [f"--{kind}_out={output}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(arguments + sources) != 0:
        sys.exit("protoc failed: see its message above")


def _absolute_imports(source: Path, package: str) -> None:
    text = source.read_text()
    source.write_text(re.sub(r"^from (baton|shop)\.", rf"from {package}.\1.", text, flags=re.MULTILINE))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, default=ROOT, metavar="DIR", help="write below DIR instead")
    generate(parser.parse_args().check)
