"""What the audit log keeps of an operator's action: who, from where, what, on what, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_TEXT_CHARS_MAX = 300
# Contents, which may be long and may hold what nobody should read in a log.
_CONTENTS = ("yaml", "descriptor_set")
_PLAIN_TYPES = frozenset(
    {
        FieldDescriptor.CPPTYPE_STRING,
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_BOOL,
        FieldDescriptor.CPPTYPE_ENUM,
        # Which sagas an order for many was for.
        FieldDescriptor.CPPTYPE_MESSAGE,
    }
)


@dataclass(frozen=True, slots=True)
class Action:
    """One action. `recognized_by` is what identified the caller; `outcome` is OK, or the code of the error."""

    at: datetime
    caller: str
    recognized_by: str
    peer: str
    action: str
    target: dict[str, str]
    outcome: str
    message: str = ""


Record = Callable[[Action], None]


def target_of(request: object) -> dict[str, str]:
    """The fields of a request that say on what it acts, as texts; contents are left out."""
    if not isinstance(request, Message):
        return {}
    return {
        field.name: " ".join(str(value).split())[:_TEXT_CHARS_MAX]
        for field, value in request.ListFields()
        if field.cpp_type in _PLAIN_TYPES
        and not field.is_repeated
        and field.type != FieldDescriptor.TYPE_BYTES
        and field.name not in _CONTENTS
        and not field.name.endswith("_json")
    }


def nowhere(_: Action) -> None:
    """For tests and for what is not audited."""
