"""How a request is made from a saga: a tree of fields whose leaves are JMESPath expressions.

An expression sees `{"input": ..., "results": {step: ...}, "saga": {...}}`. One that gives null points nowhere and
is an error that names its field; an optional one says so itself (`input.note || ''`).

Pure. JMESPath: https://jmespath.org/specification.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError
from jmespath.parser import ParsedResult

from orchestrator.errors import BatonError, FieldViolation
from orchestrator.saga import growth, syntax_tree

EXPRESSION_CHARS_MAX = 2_000
NESTING_MAX = 20
# How much a request may have, in characters of texts and eight for every value: to make one that has more would keep
# the main loop from its other sagas. Requests that are nothing but some parts of the input need not be measured.
REQUEST_SIZE_MAX = 2_000_000
_PLAIN_MAX = 50
_SHOWN_CHARS = 60
_REASON_CHARS = 200

# What jmespath raises, beside its own errors, for what it was not made for: numbers of thousands of digits, infinity,
# values that cannot be ordered, more nesting than the stack has.
_NOT_EVALUATED = (JMESPathError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)

ROOTS = frozenset({"input", "results", "saga"})
_SAGA_FIELDS = frozenset({"id", "definition", "version", "labels"})


class PointsNowhere(BatonError):
    """An expression of a mapping gave null, or could not be evaluated, for this saga."""

    def __init__(self, violations: tuple[FieldViolation, ...]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


@dataclass(frozen=True, slots=True)
class Leaf:
    """One expression. `path` is set when it is a plain path such as `input.order_id`."""

    field: str
    expression: str
    search: Callable[[Any], Any]
    path: tuple[str, ...] | None
    roots: frozenset[str]
    results: frozenset[str]
    optional_without: str | None
    # The results that may be missing, since the expression gives a value all the same; and those without which it
    # cannot even be evaluated.
    tolerates: frozenset[str] = frozenset()
    breaks: frozenset[str] = frozenset()
    # Every path that it reads, as far as it is plain.
    reads: tuple[tuple[str, ...], ...] = ()

    @property
    def shown(self) -> str:
        """The expression for a message, or the beginning of it."""
        return f"{self.expression!r:.{_SHOWN_CHARS}}"

    @property
    def reads_input_alone(self) -> bool:
        """Whether the value is known as soon as the saga is started."""
        return "results" not in self.roots


Tree = dict[str, "Tree | Leaf"]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A compiled request mapping. `measured` are those whose requests may be larger than what they are made from."""

    tree: Tree
    measured: bool = False

    def evaluate(self, context: dict[str, Any], *, input_alone: bool = False) -> dict[str, Any]:
        """The request as JSON values. With `input_alone`, only the fields that need no results.

        Raises PointsNowhere, naming every field whose expression gave null.
        """
        violations: list[FieldViolation] = []
        request = _evaluate(self.tree, context, violations, input_alone)
        if self.measured and not violations and _larger(request, REQUEST_SIZE_MAX):
            violations.append(FieldViolation("request", f"would have a size of more than {REQUEST_SIZE_MAX}"))
        if violations:
            raise PointsNowhere(tuple(violations))
        return request

    def leaves(self) -> Iterator[Leaf]:
        """Every expression of the mapping."""
        pending: list[Tree | Leaf] = [self.tree]
        while pending:
            node = pending.pop()
            if isinstance(node, Leaf):
                yield node
            else:
                pending.extend(node.values())


def compile_mapping(
    source: Any, field: str, results: frozenset[str], own: str | None = None
) -> tuple[Mapping, list[FieldViolation]]:
    """Compile `source`, the `request` of a definition; `field` names it in violations.

    `results` are the steps whose results may be read. `own` is among them for a compensation: the result of its own
    step is missing when the action's outcome is unknown, and then a field that reads it is left out.
    """
    violations: list[FieldViolation] = []
    if not isinstance(source, dict):
        return Mapping({}), [FieldViolation(field, "must map the fields of the request to expressions")]
    mapping = Mapping(_compile(source, field, results, own, violations))
    leaves = list(mapping.leaves())
    measured = any(leaf.path is None for leaf in leaves) or len(leaves) > _PLAIN_MAX
    return Mapping(mapping.tree, measured), violations


def value_of(leaf: Leaf, context: dict[str, Any]) -> Any:
    """The value of an expression, None where it points nowhere. Raises PointsNowhere when it cannot be evaluated."""
    try:
        return leaf.search(context)
    except _NOT_EVALUATED as error:
        reason = f"{leaf.shown} cannot be evaluated: {_reason(error)}"
        raise PointsNowhere((FieldViolation(leaf.field, reason),)) from None


def holds(leaf: Leaf, context: dict[str, Any]) -> bool:
    """Whether a condition holds, by the truth of JMESPath: null, false, and what is empty, is false; 0 is true.

    Raises PointsNowhere when it cannot be evaluated.
    """
    value = value_of(leaf, context)
    return not (value is None or value is False or value in ("", [], {}))


def compile_expression(source: Any, field: str, results: frozenset[str]) -> tuple[Leaf | None, list[FieldViolation]]:
    """Compile one expression, such as a condition; `field` names it, and `results` are the steps that it may read."""
    violations: list[FieldViolation] = []
    if isinstance(source, str):
        return _leaf(source, field, results, None, violations), violations
    return None, [_no_expression(source, field)]


def _evaluate(
    tree: Tree, context: dict[str, Any], violations: list[FieldViolation], input_alone: bool
) -> dict[str, Any]:
    request: dict[str, Any] = {}
    for name, node in tree.items():
        if not isinstance(node, Leaf):
            request[name] = _evaluate(node, context, violations, input_alone)
            continue
        if input_alone and not node.reads_input_alone:
            continue
        try:
            value = node.search(context)
        except _NOT_EVALUATED as error:
            violations.append(FieldViolation(node.field, f"{node.shown} cannot be evaluated: {_reason(error)}"))
            continue
        if value is not None:
            request[name] = value
        elif node.optional_without is None or node.optional_without in context["results"]:
            violations.append(FieldViolation(_blame(node), f"{node.shown} of {node.field} gives nothing"))
    return request


def _blame(leaf: Leaf) -> str:
    """The field to name: the caller's own field if the expression is a plain path into the input."""
    if leaf.path is not None and leaf.path[0] == "input":
        return ".".join(leaf.path)
    return leaf.field


def _compile(
    source: dict[Any, Any], field: str, results: frozenset[str], own: str | None, violations: list[FieldViolation]
) -> Tree:
    tree: Tree = {}
    for name, value in source.items():
        where = f"{field}.{name!s:.{_SHOWN_CHARS}}"
        if isinstance(value, dict) and where.count(".") > NESTING_MAX:
            violations.append(FieldViolation(where, f"is nested deeper than {NESTING_MAX} levels"))
        elif isinstance(value, dict):
            tree[str(name)] = _compile(value, where, results, own, violations)
        elif not isinstance(value, str):
            violations.append(_no_expression(value, where))
        else:
            leaf = _leaf(value, where, results, own, violations)
            if leaf is not None:
                tree[str(name)] = leaf
    return tree


def _no_expression(value: Any, field: str) -> FieldViolation:
    shown = f"{value!r:.{_SHOWN_CHARS}}"
    hint = f"write a literal as JMESPath, `'text'` or `` `{shown}` ``"
    return FieldViolation(field, f"must be an expression, not {shown}; {hint}")


def _leaf(
    expression: str, field: str, results: frozenset[str], own: str | None, violations: list[FieldViolation]
) -> Leaf | None:
    shown = f"{expression!r:.{_SHOWN_CHARS}}"
    try:
        compiled = _parsed(expression)
    except growth.Unbounded as error:
        violations.append(FieldViolation(field, f"{shown} {error}"))
        return None
    except _NOT_EVALUATED as error:
        violations.append(FieldViolation(field, f"{shown} is not JMESPath: {_reason(error)}"))
        return None
    syntax: dict[str, Any] = dict(compiled.parsed)
    paths = list(syntax_tree.root_paths(syntax))
    for path in paths:
        problem = _problem(path, results)
        if problem:
            violations.append(FieldViolation(field, f"{shown} {problem}"))
    read = frozenset(path[1] for path in paths if path[0] == "results" and len(path) > 1)
    plain = syntax_tree.plain_path(syntax)
    search = compiled.search if plain is None else syntax_tree.getter(plain)
    roots = frozenset(path[0] for path in paths)
    breaks = frozenset(step for step in read if syntax_tree.fails(syntax, step))
    return Leaf(
        field=field,
        expression=expression,
        search=search,
        path=plain,
        roots=roots,
        results=read,
        optional_without=own if own in read else None,
        tolerates=frozenset(step for step in read - breaks if not syntax_tree.lacks(syntax, step)),
        breaks=breaks,
        reads=tuple(paths),
    )


def _parsed(expression: str) -> ParsedResult:
    """The compiled expression. Raises Unbounded, and jmespath's errors."""
    if len(expression) > EXPRESSION_CHARS_MAX:
        raise growth.Unbounded(f"has {len(expression)} characters; {EXPRESSION_CHARS_MAX} are allowed")
    compiled = jmespath.compile(expression)
    growth.check(dict(compiled.parsed))
    return compiled


def _reason(error: Exception) -> str:
    """What jmespath says, on one line and without the values that it quotes: they may be secrets."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, JMESPathTypeError):
        wanted = ", ".join(error.expected_types)
        return f"{error.function_name}() takes {wanted}, not {error.actual_type}"
    if not isinstance(error, JMESPathError):
        return "it goes beyond what JMESPath can do"
    return " ".join(str(error).split())[:_REASON_CHARS]


def _larger(value: Any, size_max: int) -> bool:
    """Whether a value, written out, has more characters and values than that; no more of it is looked at."""
    size, pending = 0, [value]
    while pending:
        item = pending.pop()
        size += 8 + (len(item) if isinstance(item, str) else 0)
        if size > size_max:
            return True
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return False


def _problem(path: tuple[str, ...], results: frozenset[str]) -> str | None:
    match path:
        case ("input", *_) | ("saga", ("id" | "definition" | "version" | "labels"), *_):
            return None
        case ("results", step, *_) if step in results:
            return None
        case ("results", step, *_):
            known = ", ".join(sorted(results)) or "none: this is the first step"
            return f"reads the result of {step!r}; results that exist by then: {known}"
        case ("results",):
            return "reads all results; name the step, as in results.reserve.id"
        case ("saga", *_):
            return f"reads an unknown field of saga; known are {', '.join(sorted(_SAGA_FIELDS))}"
        case _:
            return f"starts at {path[0]!r}; an expression starts at {', '.join(sorted(ROOTS))}"
