import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckDefinitionRequest(_message.Message):
    __slots__ = ("yaml", "file_name", "descriptor_set")
    YAML_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_SET_FIELD_NUMBER: _ClassVar[int]
    yaml: str
    file_name: str
    descriptor_set: bytes
    def __init__(self, yaml: _Optional[str] = ..., file_name: _Optional[str] = ..., descriptor_set: _Optional[bytes] = ...) -> None: ...

class CheckDefinitionResponse(_message.Message):
    __slots__ = ("name", "warnings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class DiffDefinitionsRequest(_message.Message):
    __slots__ = ("name", "from_version", "to_version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    from_version: int
    to_version: int
    def __init__(self, name: _Optional[str] = ..., from_version: _Optional[int] = ..., to_version: _Optional[int] = ...) -> None: ...

class DiffDefinitionsResponse(_message.Message):
    __slots__ = ("from_version", "to_version", "changes")
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    from_version: int
    to_version: int
    changes: _containers.RepeatedCompositeFieldContainer[DefinitionChange]
    def __init__(self, from_version: _Optional[int] = ..., to_version: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[DefinitionChange, _Mapping]]] = ...) -> None: ...

class DefinitionChange(_message.Message):
    __slots__ = ("kind", "path", "before", "after")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    kind: str
    path: str
    before: str
    after: str
    def __init__(self, kind: _Optional[str] = ..., path: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class Retirement(_message.Message):
    __slots__ = ("name", "version", "reason", "by", "at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    reason: str
    by: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RetireDefinitionRequest(_message.Message):
    __slots__ = ("name", "version", "reason", "by")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    reason: str
    by: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class RetireDefinitionResponse(_message.Message):
    __slots__ = ("retirement", "existing")
    RETIREMENT_FIELD_NUMBER: _ClassVar[int]
    EXISTING_FIELD_NUMBER: _ClassVar[int]
    retirement: Retirement
    existing: bool
    def __init__(self, retirement: _Optional[_Union[Retirement, _Mapping]] = ..., existing: _Optional[bool] = ...) -> None: ...

class ReinstateDefinitionRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ReinstateDefinitionResponse(_message.Message):
    __slots__ = ("existing",)
    EXISTING_FIELD_NUMBER: _ClassVar[int]
    existing: bool
    def __init__(self, existing: _Optional[bool] = ...) -> None: ...

class ListRetirementsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRetirementsResponse(_message.Message):
    __slots__ = ("retirements",)
    RETIREMENTS_FIELD_NUMBER: _ClassVar[int]
    retirements: _containers.RepeatedCompositeFieldContainer[Retirement]
    def __init__(self, retirements: _Optional[_Iterable[_Union[Retirement, _Mapping]]] = ...) -> None: ...
