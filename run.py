#!/usr/bin/env python3
"""Runs Baton from a fresh clone: makes `.venv` from the lock file, then hands over to the command. Linux.

    python3 run.py demo             the main job: a cluster, real orders, a leader that is killed, an audit
    python3 run.py dev              the same cluster, kept up to play with
    python3 run.py test [ARGS...]   the tests; ARGS go to pytest, with paths below this folder
    python3 run.py check            ruff, mypy and import-linter
    python3 run.py setup            only the environment
    python3 run.py lock [ARGS...]   renew the lock files from pyproject.toml; `--upgrade` takes the newest versions
    python3 run.py COMMAND ...      any other command of `baton` (`python3 run.py --help` lists them)

It needs Python 3.11 with its venv module and, the first time, a network. `uv` is taken from PATH, or brought into
`.tools/`. Nothing is written outside this folder but uv's download cache. A proxy (HTTPS_PROXY) and a mirror
(UV_DEFAULT_INDEX or PIP_INDEX_URL) are respected.
"""

# The standard library alone, and nothing that an older Python (3.6) would refuse to read: so it can say that it is too
# old. That is why annotations are quoted.

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PYTHON_MIN = (3, 11)
UV_VERSION = "0.9.18"
# From this version on, uv has every option that is used here.
UV_MIN = (0, 8, 0)

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
PYTHON = VENV / "bin" / "python"
# Says from what the environment was made; it is absent while the environment is being made.
STAMP = VENV / "baton-stamp"
LOCK = ROOT / "requirements-dev.lock"

# The build of the project's own (editable) package runs in the environment, so that it needs no network.
BUILD_REQUIREMENTS = "hatchling\neditables\n"

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)

# What a user may have told pip, in the words of uv.
PIP_TO_UV = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_CERT": "SSL_CERT_FILE"}
# A registry that is slow, or fails now and then, is asked again more often than uv and pip do of their own accord.
UV_PATIENCE = {"UV_HTTP_TIMEOUT": "120", "UV_HTTP_RETRIES": "8"}
PIP_PATIENCE = {"PIP_DEFAULT_TIMEOUT": "60", "PIP_RETRIES": "8"}


class SetupFailed(Exception):
    """The environment cannot be made; says why, and what to do."""


def main(arguments: "list[str]") -> int:
    """Make the environment unless it is up to date, then become the command. Returns an exit status, or not at all."""
    if not arguments or arguments[0] == "help":
        print(__doc__)
        return 0 if arguments else 2
    try:
        require_python()
        command, rest = arguments[0], arguments[1:]
        if command == "lock":
            return renew_lock(rest)
        make_environment()
    except SetupFailed as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    sys.stdout.flush()
    if command == "setup":
        return 0
    if command == "check":
        return check()
    if command == "test":
        os.chdir(ROOT)
        argv = [str(PYTHON), "-m", "pytest", *rest]
    else:
        argv = [str(PYTHON), str(VENV / "bin" / "baton"), *arguments]
    # Signals, the terminal and the exit status are the command's own from here on.
    return os.execv(argv[0], argv)


def check() -> int:
    """Run every check, also after one has failed. Returns the worst exit status."""
    os.chdir(ROOT)
    worst = 0
    for name, *arguments in CHECKS:
        print("$ {}".format(" ".join([name, *arguments])), flush=True)
        worst = max(worst, abs(subprocess.call([str(VENV / "bin" / name), *arguments])))
    return worst


def require_python() -> None:
    """Raises SetupFailed when the Python that runs this is too old."""
    if sys.version_info < PYTHON_MIN:
        have = "{}.{}.{}".format(*sys.version_info[:3])
        found = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
        advice = f"`{found[0]} run.py ...` is here" if found else "install one, for instance python3.11"
        raise SetupFailed(
            "Baton needs Python {}.{} or newer, and {} is {}: {}".format(*PYTHON_MIN, sys.executable, have, advice)
        )


def make_environment() -> None:
    """Bring `.venv` to what the lock file says. Does nothing, and needs no right to write, when it is there already."""
    if is_current():
        return
    with Exclusive():
        if is_current():  # another run.py has just made it
            return
        uv = find_uv()
        print(f"run.py: making {VENV} from {LOCK.name}", file=sys.stderr, flush=True)
        remove(STAMP)
        if venv_version() is None:
            remove(VENV)
            base = getattr(sys, "_base_executable", sys.executable)
            run_uv(uv, "venv", "--no-project", "--python", base, str(VENV))
        target = ("--python", str(PYTHON), "-r", str(LOCK))
        run_uv(uv, "pip", "install", *target)
        # Exact: what the lock no longer holds goes. Offline: all that it holds is installed by now.
        editable = ("--offline", "--no-build-isolation", "--reinstall-package", "baton", "-e", str(ROOT))
        run_uv(uv, "pip", "install", "--exact", *target, *editable)
        STAMP.write_text(fingerprint())


def is_current() -> bool:
    """Whether `.venv` was made from this lock file, for this folder, with the Python that it still has."""
    try:
        return STAMP.read_text() == fingerprint()
    except OSError:
        return False


def fingerprint() -> str:
    """All that the environment depends on. Empty, which no stamp is, without a Python that works."""
    version = venv_version()
    if version is None:
        return ""
    digest = hashlib.sha256()
    for part in (LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), os.fsencode(str(ROOT)), version.encode()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def venv_version() -> "str | None":
    """The version of the Python in `.venv`; None if there is none that works and is new enough.

    It is asked, not read from a file: an upgrade of the system replaces the program that `.venv` points to.
    """
    code = "import sys; print(sys.prefix, *sys.version_info[:3], sep='|')"
    try:
        answer = subprocess.run([str(PYTHON), "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    prefix, _, version = answer.stdout.decode().strip().partition("|")
    if answer.returncode != 0 or Path(prefix) != VENV:
        return None
    numbers = tuple(int(number) for number in version.split("|"))
    packages = VENV / "lib" / "python{}.{}".format(*numbers) / "site-packages"
    return version if numbers >= PYTHON_MIN and packages.is_dir() else None


def find_uv() -> str:
    """The uv of PATH if it is new enough, else one in `.tools/`, brought there if need be. Raises SetupFailed."""
    own = TOOLS / "uv" / "bin" / "uv"
    for candidate in (shutil.which("uv"), str(own)):
        if candidate is not None and uv_version(candidate) >= UV_MIN:
            return candidate
    print(f"run.py: bringing uv {UV_VERSION} into {TOOLS}", file=sys.stderr, flush=True)
    remove(TOOLS / "uv")
    base = getattr(sys, "_base_executable", sys.executable)
    made = subprocess.run([base, "-m", "venv", str(TOOLS / "uv")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if made.returncode != 0:
        raise SetupFailed(
            "the venv module of {} does not work: install it (on Debian and Ubuntu: `apt install python3-venv`), "
            "or put uv on PATH. It said:\n{}".format(base, made.stdout.decode(errors="replace").strip())
        )
    pip = [str(TOOLS / "uv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir"]
    environment = {**PIP_PATIENCE, **os.environ}
    if subprocess.call([*pip, "--disable-pip-version-check", "uv==" + UV_VERSION], env=environment) != 0:
        raise SetupFailed(
            "uv could not be downloaded (see above). Without a network, put uv on PATH; "
            "behind a proxy, set HTTPS_PROXY; for a mirror, PIP_INDEX_URL"
        )
    return str(own)


def uv_version(uv: str) -> "tuple[int, ...]":
    """The version of a uv as numbers; empty if it does not run."""
    try:
        answer = subprocess.run([uv, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ()
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", answer.stdout.decode(errors="replace"))
    return tuple(int(number) for number in match.groups()) if match else ()


def run_uv(uv: str, *arguments: str, stdin: str = "") -> None:
    """Run uv. Raises SetupFailed if it fails; what it printed stands above."""
    quiet = () if sys.stderr.isatty() else ("--quiet",)
    # Away from the caller's folder, which may hold a project, and settings for uv, of its own.
    done = subprocess.run([uv, *quiet, *arguments], env=uv_environment(), cwd=str(ROOT), input=stdin.encode())
    if done.returncode != 0:
        raise SetupFailed(
            "`uv {}` failed (see above). Is there a network? Behind a proxy, set HTTPS_PROXY; for a mirror, "
            "UV_DEFAULT_INDEX. Then run the same command again".format(" ".join(arguments[:2]))
        )


def uv_environment() -> "dict[str, str]":
    """The caller's environment, with what pip was told told to uv, patience, and a cache that can be written."""
    environment = dict(os.environ)
    for pip_name, uv_name in PIP_TO_UV.items():
        if pip_name in environment:
            environment.setdefault(uv_name, environment[pip_name])
    for name, value in UV_PATIENCE.items():
        environment.setdefault(name, value)
    folder = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
    while not folder.exists():
        folder = folder.parent
    if not os.access(str(folder), os.W_OK):
        environment.setdefault("UV_CACHE_DIR", str(TOOLS / "cache"))
    return environment


def renew_lock(arguments: "list[str]") -> int:
    """Write both lock files: what production needs, and what tests and checks need besides."""
    with Exclusive():
        uv = find_uv()
        production = ("--extra", "nats", "--extra", "tracing")
        for name, extra in (("requirements.lock", production), (LOCK.name, ("--extra", "dev", "-"))):
            # Neither the folder of whoever ran this nor the address of a registry belongs in the files.
            options = ["--universal", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
            options += ["--python-version", "{}.{}".format(*PYTHON_MIN)]
            options += ["--custom-compile-command", "python3 run.py lock", "-o", name, *arguments]
            run_uv(uv, "pip", "compile", "pyproject.toml", *extra, *options, stdin=BUILD_REQUIREMENTS)
    return 0


def remove(path: Path) -> None:
    """Remove a folder, or a link to one, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(str(path), ignore_errors=True)


class Exclusive:
    """Keeps other run.py of this folder out while it changes `.venv` and `.tools`. Raises SetupFailed."""

    def __enter__(self) -> None:
        try:
            TOOLS.mkdir(exist_ok=True)
            # The kernel drops the lock with the process, however that ends.
            self.file = open(str(TOOLS / "lock"), "w")
            if not os.access(str(ROOT), os.W_OK) or (VENV.exists() and not os.access(str(VENV), os.W_OK)):
                raise PermissionError(f"{ROOT} and {VENV} must be writable")
        except OSError as error:
            raise SetupFailed(
                f"the environment must be made, and this user cannot write below {ROOT} ({error}): "
                "run `python3 run.py setup` as the folder's owner first, or copy the folder"
            ) from None
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("run.py: waiting for another run.py to make the environment", file=sys.stderr, flush=True)
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
