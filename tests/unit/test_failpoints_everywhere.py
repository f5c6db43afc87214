"""No effect without a failpoint: the source of every edge is searched for what leaves the process.

An effect is found by the name of the primitive that makes it (a cursor's `execute`, a stream's `write`, a socket's
`send`), or because what is called is a gRPC method that was made in the same module. Whatever function has one must
pass a failpoint before and after it, or be reached through a function that does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.failpoints import effects
from orchestrator.failpoints.effects import EFFECTS, Effect
from orchestrator.sagalog.queries import load

ROOT = Path(__file__).resolve().parents[2] / "orchestrator"
EDGES = sorted(
    path
    for folder in ("sagalog", "leadership", "driving")
    for path in (ROOT / folder).glob("*.py")
    # The models of the stores that tests use: their effects stay in memory.
    if not path.name.startswith("memory")
)

# Methods that reach out, on whatever object: of psycopg, of streams and sockets, of gRPC calls, of asyncio.
PRIMITIVES = {
    *("execute", "executemany", "copy", "stream", "notifies", "pipeline", "commit", "rollback", "transaction"),
    *("write", "read", "initial_metadata", "future"),
    *("send", "sendall", "sendto", "recv", "recv_into", "accept", "readuntil", "readline", "readexactly"),
    *("open_connection", "create_connection", "sock_connect", "getaddrinfo", "urlopen"),
    *("connect", "connect_ex"),
}
CALLABLES = {"unary_unary", "unary_stream", "stream_unary", "stream_stream"}

# Effects whose failpoints stand in the only function that calls them.
WRAPPED = {
    "connection._run": "connection.execute",
    "connection._run_in_halves": "connection._run",
    "grpc_edge._Line._unary": "grpc_edge._Line.call",
    "renewal._Line.send": "renewal.RenewalThread._renew",
    "renewal.RenewalThread._renew": "renewal.RenewalThread._round",
}

# What bears the name of a primitive and is none.
NOT_PRIMITIVE = {
    # A line of this module, whose own `send` is listed above.
    "renewal.RenewalThread._renew": {"send"},
    # The object of a stream is made; what goes over it is written and read by `_exchange`.
    "reflection._Conversation.__init__": {"method"},
    # Functions that turn JSON into messages and back, in memory.
    "codec.MessageCodec.encode": {"write"},
    "codec.MessageCodec.decode": {"read"},
    "codec.MessageCodec._decode_well_known": {"read"},
}

# Parts of a watch that say nothing of their own: a sign of life that is asked for on a stream that is read.
PART_OF_A_READ = {"etcd._read"}


@dataclass(frozen=True)
class Function:
    """One function of a module, by its qualified name."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: str, tree: ast.Module) -> Iterator[Function]:
    def below(prefix: str, nodes: list[ast.stmt]) -> Iterator[Function]:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(f"{prefix}.{node.name}", node)
            elif isinstance(node, ast.ClassDef):
                yield from below(f"{prefix}.{node.name}", node.body)

    yield from below(module, tree.body)


def name_of(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return name_of(value)
        case _:
            return ""


def makes_a_callable(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Call) and (name_of(part.func) in CALLABLES or name_of(part.func).endswith("Stub"))
        for part in ast.walk(node)
    )


def grpc_names(tree: ast.Module) -> set[str]:
    """Names to which a gRPC method, or a stub, is assigned anywhere in the module."""
    return {
        name_of(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and makes_a_callable(node.value)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    } - {""}


def effects_in(function: Function, grpc_methods: set[str]) -> set[str]:
    """The primitives that a function calls."""
    found = set()
    for node in ast.walk(function.node):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Attribute(attr=name, value=value) if name in PRIMITIVES or name_of(value) in grpc_methods:
                found.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in grpc_methods:
                found.add(name)
            case ast.Call() as made if makes_a_callable(made):
                found.add("a gRPC method")
    return found - NOT_PRIMITIVE.get(function.name, set())


def strikes_in(function: Function) -> set[str]:
    """Which points a function passes: before, inside, after."""
    found = set()
    for node in ast.walk(function.node):
        match node:
            case ast.Call(func=ast.Name(id="strike" | "strike_in_thread"), args=[ast.Attribute(attr=point)]):
                found.add(point)
    return found


def complaints(module: str, source: str) -> list[str]:
    """The functions of a module that have an effect without failpoints around it."""
    tree = ast.parse(source)
    methods = grpc_names(tree)
    found = {function.name: function for function in functions(module, tree)}
    wrong = []
    for function in found.values():
        primitives = effects_in(function, methods)
        if not primitives:
            continue
        guard = function
        while guard.name in WRAPPED:
            wrapper = found[WRAPPED[guard.name]]
            callers = callers_of(guard, found)
            if callers != {wrapper.name}:
                wrong.append(f"{guard.name} is called by {sorted(callers)}, not by {wrapper.name} alone")
            guard = wrapper
        missing = {"before", "after"} - strikes_in(guard)
        if missing and not ("before" not in missing and function.name in PART_OF_A_READ):
            wrong.append(f"{function.name} has {sorted(primitives)} and no failpoint {sorted(missing)}")
    return wrong


def callers_of(wanted: Function, found: dict[str, Function]) -> set[str]:
    return {
        function.name
        for function in found.values()
        for node in ast.walk(function.node)
        if isinstance(node, ast.Call) and name_of(node.func) == wanted.node.name and function.name != wanted.name
    }


@pytest.mark.parametrize("path", EDGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_effect_of_an_edge_lacks_a_failpoint(path: Path) -> None:
    assert complaints(path.stem, path.read_text()) == []


def test_the_search_finds_effects_at_every_edge_that_has_some() -> None:
    found = {
        f"{path.parent.name}/{path.stem}"
        for path in EDGES
        if any(effects_in(f, grpc_names(tree)) for tree in [ast.parse(path.read_text())] for f in functions("m", tree))
    }
    assert found >= {
        *("sagalog/connection", "sagalog/term", "sagalog/migrate"),
        *("leadership/etcd", "leadership/etcd_transport", "leadership/renewal"),
        *("leadership/beacon", "leadership/peer"),
        *("driving/grpc_edge", "driving/exchange", "driving/reflection"),
    }


NEW_EFFECTS = {
    "a statement": "async def f(connection):\n    await connection.execute(b'DELETE FROM baton.saga')",
    "a copy": "async def f(cursor):\n    async with cursor.copy(b'COPY t TO STDOUT') as rows:\n        pass",
    "a method that was made here": "async def f(channel):\n    ask = channel.unary_unary('/a/b')\n    await ask(b'')",
    "a method of an object": (
        "class C:\n    def __init__(self, channel):\n        self._ask = channel.unary_unary('/a/b')\n"
        "    def f(self):\n        return self._ask.future(b'')"
    ),
    "a method out of a mapping": (
        "async def f(self, path):\n    method = self._m[path] = self._channel.unary_unary(path)\n    await method(b'')"
    ),
    "a method of a stub": "async def f(channel):\n    stub = FooStub(channel)\n    await stub.Bar(b'')",
    "a method called where it is made": "async def f(channel):\n    await channel.unary_unary('/a/b')(b'')",
    "a stream that is written": "async def f(stream):\n    await stream.write(b'')",
    "a socket": "def f(client):\n    client.send(b'')",
    "a connection": "async def f():\n    await asyncio.open_connection('h', 1)",
    "only one of two points": (
        "async def f(connection):\n    await strike(effects.TXN.before)\n    await connection.execute(b'')"
    ),
}


@pytest.mark.parametrize("source", NEW_EFFECTS.values(), ids=NEW_EFFECTS)
def test_a_new_effect_without_failpoints_is_found(source: str) -> None:
    assert complaints("new", source)


def test_an_effect_between_its_failpoints_is_fine() -> None:
    source = (
        "async def f(connection):\n    await strike(E.before)\n    await connection.execute(b'')\n"
        "    await strike(E.after)"
    )
    assert complaints("new", source) == []


def test_a_wrapped_effect_may_not_be_reached_past_its_wrapper() -> None:
    source = (ROOT / "sagalog" / "connection.py").read_text()
    assert complaints("connection", source) == []
    bypass = "\n\nasync def bypass(connection, statement):\n    return await _run(connection, statement, None)\n"
    assert complaints("connection", source + bypass)


def test_every_statement_of_the_saga_log_is_an_effect_and_is_run() -> None:
    sources = "\n".join(path.read_text() for path in EDGES if path.parent.name == "sagalog")
    for file in (ROOT / "sagalog").glob("*.sql"):
        for name, statement in load(file.name).items():
            assert statement.effect.name == f"{file.stem}.{name}"
            assert re.search(rf'"{name}"', sources), f"{statement.effect.name} is never run"


def test_every_other_effect_is_passed_by_name_somewhere() -> None:
    sources = "\n".join(path.read_text() for path in EDGES)
    constants = {name: value for name, value in vars(effects).items() if isinstance(value, Effect)}
    assert {value.name for value in constants.values()} | {
        statement.effect.name for file in (ROOT / "sagalog").glob("*.sql") for statement in load(file.name).values()
    } == set(EFFECTS)
    for name, effect in constants.items():
        assert re.search(rf"effects\.{name}\b", sources), f"{effect.name} is in no edge"


def test_every_effect_says_what_it_does() -> None:
    for effect in EFFECTS.values():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", effect.name)
        assert re.fullmatch(r"[A-Za-z].{10,100}\.", effect.about), effect.name
