"""Makes the password of the databases of docker-compose.yml in a folder, unless there is one.

    python3 -IS make_password.py FOLDER

`password` holds it, for Postgres to begin with, and `pgpass` is the same for libpq. Whoever wants a password of his own
writes it into `password` before the first start. The standard library alone.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

_BYTES = 32


def main(arguments: list[str]) -> str | None:
    """Return what is wrong, or None."""
    match arguments:
        case [folder]:
            return make(Path(folder))
    return __doc__


def make(folder: Path) -> str | None:
    """Leave both files in `folder`. Raises OSError when it cannot be written."""
    given = folder / "password"
    if not given.exists():
        write(given, secrets.token_urlsafe(_BYTES))
    password = given.read_text().removesuffix("\n")
    if not password or "\n" in password:
        return f"{given} must hold a password in one line"
    # libpq takes both characters for its own.
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    write(folder / "pgpass", f"*:*:*:*:{escaped}\n")
    return None


def write(path: Path, text: str) -> None:
    """Write a file that its owner alone may read; whoever looks sees all of it or none, also after a crash."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as problem:
        sys.exit(f"cannot make the password: {problem}")
