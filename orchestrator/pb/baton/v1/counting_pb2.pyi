from orchestrator.pb.baton.v1 import saga_pb2 as _saga_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CountSagasRequest(_message.Message):
    __slots__ = ("definition", "states")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    definition: str
    states: _containers.RepeatedScalarFieldContainer[_saga_pb2.SagaState]
    def __init__(self, definition: _Optional[str] = ..., states: _Optional[_Iterable[_Union[_saga_pb2.SagaState, str]]] = ...) -> None: ...

class CountSagasResponse(_message.Message):
    __slots__ = ("counts", "total")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedCompositeFieldContainer[SagaCount]
    total: int
    def __init__(self, counts: _Optional[_Iterable[_Union[SagaCount, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class SagaCount(_message.Message):
    __slots__ = ("definition", "state", "count")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    definition: str
    state: _saga_pb2.SagaState
    count: int
    def __init__(self, definition: _Optional[str] = ..., state: _Optional[_Union[_saga_pb2.SagaState, str]] = ..., count: _Optional[int] = ...) -> None: ...
