"""The command that certifies the method pair of a step: with requests made from the definition's own mappings.

What a mapping reads of a saga is not known here: a value of the field's type stands in its place, which the participant
may not take (an article that it does not have): whoever runs the command puts another one there. Pure: no I/O.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from orchestrator.certify.template import ID, RESULT
from orchestrator.driving.codec import Descriptors
from orchestrator.errors import InvariantError
from orchestrator.saga.definition import Method, Step
from orchestrator.saga.mapping import Leaf, PointsNowhere, Tree, value_of

# So long may a request be: the advice is a part of a message, and has to be whole.
_REQUEST_CHARS_MAX = 200
_DEPTH_MAX = 3

_F = FieldDescriptor
_PREFIX = "google.protobuf."
_WELL_KNOWN: dict[str, Any] = {
    "Timestamp": "2027-01-02T03:04:05Z",
    "Duration": "1s",
    "FieldMask": "",
    "Struct": {},
    "Empty": {},
    "Value": True,
    "ListValue": [],
}
_NUMBERS = {
    **dict.fromkeys((_F.CPPTYPE_INT32, _F.CPPTYPE_INT64, _F.CPPTYPE_UINT32, _F.CPPTYPE_UINT64), 1),
    **dict.fromkeys((_F.CPPTYPE_FLOAT, _F.CPPTYPE_DOUBLE), 1.0),
    _F.CPPTYPE_BOOL: True,
}
# Texts are ids more often than not, but for these.
_MONEY = ("amount", "price", "total", "cost", "fee")


def certify_command(step: Step, descriptors: Descriptors) -> str:
    """`baton certify ... --record` for a step that has an action and a compensation, both in the descriptors."""
    if step.action is None or step.compensation is None:
        raise InvariantError(f"step {step.name} has no pair of methods")
    undo = step.compensation.method
    words = ["baton", "certify", step.service, "--action", step.action.path[1:], "--compensation", undo.path[1:]]
    words += ["--request", _request(step.action, step.name, descriptors)]
    words += ["--compensation-request", _request(undo, step.name, descriptors)]
    return shlex.join([*words, "--record"])


def _request(method: Method, own: str, descriptors: Descriptors) -> str:
    """A request as JSON: as many of the fields that the mapping fills as there is room for."""
    message = descriptors.method(method.service_name, method.method_name).request.descriptor
    filled = _filled(method.request.tree, message, own)
    while len(text := orjson.dumps(filled).decode()) > _REQUEST_CHARS_MAX and filled:
        filled.pop(max(filled, key=lambda name: len(orjson.dumps(filled[name]))))
    return text


def _filled(tree: Tree, message: Descriptor, own: str) -> dict[str, Any]:
    request = {}
    for name, node in tree.items():
        field = message.fields_by_name.get(name)
        value = None if field is None else _value(node, field, own)
        if value is not None:
            request[name] = value
    return request


def _value(node: Tree | Leaf, field: FieldDescriptor, own: str) -> Any:
    if isinstance(node, Leaf):
        if not node.roots:
            return _literal(node)
        if node.path is not None and node.path[:2] == ("results", own) and len(node.path) > 2:
            return RESULT + ".".join(node.path[2:])
        return _sample(field, _DEPTH_MAX)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return {key: _one(entry.fields_by_name["value"], _DEPTH_MAX) for key in node}
    if entry is None or field.is_repeated or entry.full_name.startswith(_PREFIX):
        return _sample(field, _DEPTH_MAX)
    return _filled(node, entry, own)


def _literal(leaf: Leaf) -> Any:
    with suppress(PointsNowhere):
        return value_of(leaf, {})
    return None


def _sample(field: FieldDescriptor, depth: int) -> Any:
    """A value that a field takes; None where nobody can think of one."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key = entry.fields_by_name["key"]
        name = ID if key.cpp_type == _F.CPPTYPE_STRING else orjson.dumps(_NUMBERS[key.cpp_type]).decode()
        return {name: _one(entry.fields_by_name["value"], depth)}
    one = _one(field, depth)
    return [one] if field.is_repeated and one is not None else one


def _one(field: FieldDescriptor, depth: int) -> Any:
    if field.message_type is not None:
        return _of_message(field.message_type, depth)
    if field.enum_type is not None:
        # The first one stands for none in most enums.
        return field.enum_type.values[min(1, len(field.enum_type.values) - 1)].name
    if field.type == _F.TYPE_BYTES:
        return "AA=="
    if field.cpp_type == _F.CPPTYPE_STRING:
        return "1.00" if any(word in field.name.lower() for word in _MONEY) else ID
    return _NUMBERS[field.cpp_type]


def _of_message(message: Descriptor, depth: int) -> Any:
    if message.full_name.startswith(_PREFIX):
        wrapped = message.fields_by_name.get("value") if message.full_name.endswith("Value") else None
        name = message.full_name.removeprefix(_PREFIX)
        return _WELL_KNOWN.get(name) if name in _WELL_KNOWN or wrapped is None else _one(wrapped, depth)
    value = {}
    for field in message.fields:
        choice = field.containing_oneof
        if depth == 0 or (choice is not None and choice.fields[0].name != field.name):
            continue  # Of a oneof, the first.
        if (sample := _sample(field, depth - 1)) is not None:
            value[field.name] = sample
    return value
