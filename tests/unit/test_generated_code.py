"""The committed gRPC code is what proto/ says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def sources(folder: Path) -> dict[str, str]:
    files = (path for pattern in ("*.py", "*.pyi") for path in folder.rglob(pattern))
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_generated_code_has_not_drifted_from_proto(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "generate.py"
    subprocess.run([sys.executable, str(script), "--check", str(tmp_path)], check=True, timeout=120)
    for package in ("orchestrator/pb", "participants/pb"):
        committed, generated = sources(ROOT / package), sources(tmp_path / package)
        assert sorted(committed) == sorted(generated), f"run `python scripts/generate.py`: {package}"
        for name, text in generated.items():
            assert committed[name] == text, f"run `python scripts/generate.py`: {package}/{name} is out of date"
