"""The wheel in a fresh environment, far from the source tree: it contains all that it needs."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.embedded.loopback import free_ports, http_get, release_ports
from orchestrator.embedded.processes import Process, inherited_environment

ROOT = Path(__file__).resolve().parents[2]
_WITHIN_S = 120.0

DEFINITION = """
name: echo-once
steps:
  - name: one
    service: {address}
    action: {{method: shop.v1.EchoService/Do, request: {{text: input.text}}}}
    compensation: none
"""


# Writes the descriptors of the sample shop as `protoc --include_imports -o` does: each file behind those it imports.
DESCRIBE = """
import sys
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from participants.pb.shop.v1 import echo_pb2, inventory_pb2, payment_pb2, shipping_pb2

found, seen = FileDescriptorSet(), set()

def add(file):
    if file.name not in seen:
        seen.add(file.name)
        for imported in file.dependencies:
            add(imported)
        file.CopyToProto(found.file.add())

for module in (echo_pb2, inventory_pb2, payment_pb2, shipping_pb2):
    add(module.DESCRIPTOR)
open(sys.argv[1], "wb").write(found.SerializeToString())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=_WITHIN_S)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a fresh environment. What the wheel depends on is borrowed from ours."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=True, symlinks=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True, env=environment(), timeout=_WITHIN_S)
    # A .pth in a folder that a .pth has added is not read: our own, editable Baton stays out.
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def environment(**more: str) -> dict[str, str]:
    clean = inherited_environment("BATON_", "PARTICIPANT_", "PYTHON", "PIP_", "VIRTUAL_ENV")
    return {**clean, "no_grpc_proxy": "127.0.0.1", **more}


def run(command: Path, *arguments: str, folder: Path, status: int = 0, **variables: str) -> str:
    argv = [str(command), *arguments]
    done = subprocess.run(
        argv, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=_WITHIN_S
    )
    assert done.returncode == status, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout + (done.stderr if status else "")


@contextmanager
def running(name: str, argv: list[str], folder: Path, **variables: str) -> Iterator[Process]:
    process = Process(name, argv, environment(**variables), folder / f"{name}.log")
    process.start()
    try:
        yield process
    finally:
        process.stop()


def test_the_wheel_has_every_file_of_the_packages_and_the_sample_definitions(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    paths = [path for package in ("orchestrator", "participants") for path in (ROOT / package).rglob("*.*")]
    wanted = {str(path.relative_to(ROOT)) for path in paths if path.is_file() and path.suffix != ".pyc"}
    assert {".sql", ".csv", ".py"} <= {Path(name).suffix for name in wanted}
    assert wanted <= names
    samples = {f"orchestrator/demo/definitions/{path.name}" for path in (ROOT / "deploy" / "definitions").iterdir()}
    assert samples <= names
    # Nothing of the source tree beside the packages gets into everybody's site-packages.
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"orchestrator", "participants"}


def test_an_installed_wheel_validates_definitions_against_descriptors_without_a_cluster(
    installed: Path, tmp_path: Path
) -> None:
    baton = installed / "baton"
    run(installed / "python", "-c", DESCRIBE, "shop.binpb", folder=tmp_path)
    where = "import orchestrator.embedded.cluster as c; print(c.SAMPLE_DEFINITIONS)"
    (samples,) = run(installed / "python", "-c", where, folder=tmp_path).splitlines()
    names = ("one.yaml", "misspelt.yaml", "wrong.yaml")
    one, misspelt, wrong = (tmp_path / name for name in names)
    one.write_text(DEFINITION.format(address="127.0.0.1:1"))
    # Nothing but the descriptors knows that there is no such field, and no such method.
    misspelt.write_text(one.read_text().replace("{text: input", "{txet: input"))
    wrong.write_text(one.read_text().replace("EchoService/Do", "EchoService/Dont"))
    validate = ("definition", "validate", "--descriptors", "shop.binpb")
    good = f"{samples}/order-reserve-pay-ship.yaml"
    assert "order-reserve-pay-ship" in run(baton, *validate, "one.yaml", good, folder=tmp_path)
    told = run(baton, *validate, *names, folder=tmp_path, status=1)
    assert "txet" in told
    assert "Dont" in told
    # By their text alone they are all right.
    run(baton, "definition", "validate", *names, folder=tmp_path)


def test_an_installed_wheel_migrates_serves_and_drives_a_saga(
    installed: Path, etcd_single: EtcdCluster, database: str, tmp_path: Path
) -> None:
    baton = installed / "baton"
    where = "import orchestrator.embedded.cluster as c; print(c.__file__); print(*c.SAMPLE_DEFINITIONS.glob('*.yaml'))"
    module, samples = run(installed / "python", "-c", where, folder=tmp_path).splitlines()
    assert module.startswith(str(installed.parent))
    assert len(samples.split()) == len(list((ROOT / "deploy" / "definitions").glob("*.yaml")))

    assert "migration 0001" in run(baton, "migrate", "--dsn", database, folder=tmp_path)
    ports = free_ports(4)
    api, http, peer, echo = (f"127.0.0.1:{port}" for port in ports)
    settings = {
        "BATON_CLUSTER": "wheel",
        "BATON_REPLICA": "one",
        "BATON_DSN": database,
        "BATON_ETCD_ENDPOINTS": ",".join(etcd_single.endpoints),
        "BATON_API_LISTEN": api,
        "BATON_HTTP_LISTEN": http,
        "BATON_PEER_LISTEN": peer,
    }
    (tmp_path / "echo.yaml").write_text(DEFINITION.format(address=echo))
    participant = [str(installed / "baton-participant"), "echo"]
    try:
        with (
            running("echo", participant, tmp_path, PARTICIPANT_LISTEN=echo),
            running("replica", [str(baton), "replica"], tmp_path, **settings) as replica,
        ):
            give_up_at = time.monotonic() + _WITHIN_S
            while http_get(f"http://{http}/readyz") is None:
                assert replica.alive, replica.log_tail()
                assert time.monotonic() < give_up_at, replica.log_tail()
                time.sleep(0.05)
            run(baton, "definition", "validate", "--online", "echo.yaml", folder=tmp_path, BATON_ENDPOINTS=api)
            run(baton, "definition", "apply", "echo.yaml", folder=tmp_path, BATON_ENDPOINTS=api)
            start = ("saga", "start", "echo-once", "--input", '{"text": "hello"}', "--wait", "--json")
            saga = json.loads(run(baton, *start, folder=tmp_path, BATON_ENDPOINTS=api))
            assert saga["state"] == "COMPLETED"
            assert "hello" in json.dumps(saga["result"])
            replica.terminate()
            assert replica.wait(_WITHIN_S) == 0
    finally:
        release_ports(ports)
