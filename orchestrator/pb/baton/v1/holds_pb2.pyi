import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StartHold(_message.Message):
    __slots__ = ("definition", "since", "until", "of_last", "turned_back")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    OF_LAST_FIELD_NUMBER: _ClassVar[int]
    TURNED_BACK_FIELD_NUMBER: _ClassVar[int]
    definition: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    of_last: int
    turned_back: int
    def __init__(self, definition: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., of_last: _Optional[int] = ..., turned_back: _Optional[int] = ...) -> None: ...

class ListStartHoldsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListStartHoldsResponse(_message.Message):
    __slots__ = ("holds",)
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[StartHold]
    def __init__(self, holds: _Optional[_Iterable[_Union[StartHold, _Mapping]]] = ...) -> None: ...

class ReleaseStartsRequest(_message.Message):
    __slots__ = ("definition", "reason", "by")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    definition: str
    reason: str
    by: str
    def __init__(self, definition: _Optional[str] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class ReleaseStartsResponse(_message.Message):
    __slots__ = ("ended",)
    ENDED_FIELD_NUMBER: _ClassVar[int]
    ended: StartHold
    def __init__(self, ended: _Optional[_Union[StartHold, _Mapping]] = ...) -> None: ...
