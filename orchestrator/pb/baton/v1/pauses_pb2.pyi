import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PauseKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAUSE_KIND_UNSPECIFIED: _ClassVar[PauseKind]
    PAUSE_KIND_DEFINITION: _ClassVar[PauseKind]
    PAUSE_KIND_PARTICIPANT: _ClassVar[PauseKind]
PAUSE_KIND_UNSPECIFIED: PauseKind
PAUSE_KIND_DEFINITION: PauseKind
PAUSE_KIND_PARTICIPANT: PauseKind

class Pause(_message.Message):
    __slots__ = ("kind", "name", "paused_by", "reason", "paused_at", "heeded_at", "resumed_by", "resumed_reason", "resumed_at", "released_at")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAUSED_AT_FIELD_NUMBER: _ClassVar[int]
    HEEDED_AT_FIELD_NUMBER: _ClassVar[int]
    RESUMED_BY_FIELD_NUMBER: _ClassVar[int]
    RESUMED_REASON_FIELD_NUMBER: _ClassVar[int]
    RESUMED_AT_FIELD_NUMBER: _ClassVar[int]
    RELEASED_AT_FIELD_NUMBER: _ClassVar[int]
    kind: PauseKind
    name: str
    paused_by: str
    reason: str
    paused_at: _timestamp_pb2.Timestamp
    heeded_at: _timestamp_pb2.Timestamp
    resumed_by: str
    resumed_reason: str
    resumed_at: _timestamp_pb2.Timestamp
    released_at: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[_Union[PauseKind, str]] = ..., name: _Optional[str] = ..., paused_by: _Optional[str] = ..., reason: _Optional[str] = ..., paused_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., heeded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., resumed_by: _Optional[str] = ..., resumed_reason: _Optional[str] = ..., resumed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., released_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PauseDefinitionRequest(_message.Message):
    __slots__ = ("definition", "reason", "by")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    definition: str
    reason: str
    by: str
    def __init__(self, definition: _Optional[str] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class PauseParticipantRequest(_message.Message):
    __slots__ = ("participant", "reason", "by")
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    participant: str
    reason: str
    by: str
    def __init__(self, participant: _Optional[str] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class PauseAnswer(_message.Message):
    __slots__ = ("pause", "heeded")
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    HEEDED_FIELD_NUMBER: _ClassVar[int]
    pause: Pause
    heeded: bool
    def __init__(self, pause: _Optional[_Union[Pause, _Mapping]] = ..., heeded: _Optional[bool] = ...) -> None: ...

class ResumeDefinitionRequest(_message.Message):
    __slots__ = ("definition", "reason", "by")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    definition: str
    reason: str
    by: str
    def __init__(self, definition: _Optional[str] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class ResumeParticipantRequest(_message.Message):
    __slots__ = ("participant", "reason", "by")
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    participant: str
    reason: str
    by: str
    def __init__(self, participant: _Optional[str] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class ResumeAnswer(_message.Message):
    __slots__ = ("pause", "released")
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    pause: Pause
    released: bool
    def __init__(self, pause: _Optional[_Union[Pause, _Mapping]] = ..., released: _Optional[bool] = ...) -> None: ...

class ListPausesRequest(_message.Message):
    __slots__ = ("ended",)
    ENDED_FIELD_NUMBER: _ClassVar[int]
    ended: bool
    def __init__(self, ended: _Optional[bool] = ...) -> None: ...

class ListPausesResponse(_message.Message):
    __slots__ = ("pauses",)
    PAUSES_FIELD_NUMBER: _ClassVar[int]
    pauses: _containers.RepeatedCompositeFieldContainer[Pause]
    def __init__(self, pauses: _Optional[_Iterable[_Union[Pause, _Mapping]]] = ...) -> None: ...
