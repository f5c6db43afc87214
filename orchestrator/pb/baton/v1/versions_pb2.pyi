import datetime

from orchestrator.pb.baton.v1 import saga_pb2 as _saga_pb2
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

class PlanMoveRequest(_message.Message):
    __slots__ = ("saga_id", "to_version")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    to_version: int
    def __init__(self, saga_id: _Optional[str] = ..., to_version: _Optional[int] = ...) -> None: ...

class PlanMoveResponse(_message.Message):
    __slots__ = ("from_version", "to_version", "obstacles", "kept", "changes", "ahead", "deadline_before", "deadline_after", "state")
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    OBSTACLES_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AFTER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    from_version: int
    to_version: int
    obstacles: _containers.RepeatedCompositeFieldContainer[MoveObstacle]
    kept: _containers.RepeatedCompositeFieldContainer[KeptStep]
    changes: _containers.RepeatedCompositeFieldContainer[DefinitionChange]
    ahead: _containers.RepeatedCompositeFieldContainer[StepAhead]
    deadline_before: _timestamp_pb2.Timestamp
    deadline_after: _timestamp_pb2.Timestamp
    state: str
    def __init__(self, from_version: _Optional[int] = ..., to_version: _Optional[int] = ..., obstacles: _Optional[_Iterable[_Union[MoveObstacle, _Mapping]]] = ..., kept: _Optional[_Iterable[_Union[KeptStep, _Mapping]]] = ..., changes: _Optional[_Iterable[_Union[DefinitionChange, _Mapping]]] = ..., ahead: _Optional[_Iterable[_Union[StepAhead, _Mapping]]] = ..., deadline_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deadline_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[str] = ...) -> None: ...

class MoveObstacle(_message.Message):
    __slots__ = ("step", "field", "before", "after", "why")
    STEP_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    step: str
    field: str
    before: str
    after: str
    why: str
    def __init__(self, step: _Optional[str] = ..., field: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class KeptStep(_message.Message):
    __slots__ = ("step", "how")
    STEP_FIELD_NUMBER: _ClassVar[int]
    HOW_FIELD_NUMBER: _ClassVar[int]
    step: str
    how: str
    def __init__(self, step: _Optional[str] = ..., how: _Optional[str] = ...) -> None: ...

class StepAhead(_message.Message):
    __slots__ = ("step", "what", "service", "method", "request_json", "unknown_because", "at_once")
    STEP_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_JSON_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    step: str
    what: str
    service: str
    method: str
    request_json: str
    unknown_because: str
    at_once: bool
    def __init__(self, step: _Optional[str] = ..., what: _Optional[str] = ..., service: _Optional[str] = ..., method: _Optional[str] = ..., request_json: _Optional[str] = ..., unknown_because: _Optional[str] = ..., at_once: _Optional[bool] = ...) -> None: ...

class MoveSagaRequest(_message.Message):
    __slots__ = ("saga_id", "to_version", "reason", "by")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    to_version: int
    reason: str
    by: str
    def __init__(self, saga_id: _Optional[str] = ..., to_version: _Optional[int] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class MoveSagaResponse(_message.Message):
    __slots__ = ("heeded", "from_version", "to_version", "saga")
    HEEDED_FIELD_NUMBER: _ClassVar[int]
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    SAGA_FIELD_NUMBER: _ClassVar[int]
    heeded: bool
    from_version: int
    to_version: int
    saga: _saga_pb2.Saga
    def __init__(self, heeded: _Optional[bool] = ..., from_version: _Optional[int] = ..., to_version: _Optional[int] = ..., saga: _Optional[_Union[_saga_pb2.Saga, _Mapping]] = ...) -> None: ...
