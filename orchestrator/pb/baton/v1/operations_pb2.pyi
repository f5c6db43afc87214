import datetime

from orchestrator.pb.baton.v1 import saga_pb2 as _saga_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SagaOrder(_message.Message):
    __slots__ = ("saga_id", "by", "reason")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    by: str
    reason: str
    def __init__(self, saga_id: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StepOrder(_message.Message):
    __slots__ = ("saga_id", "step", "by", "reason", "evidence")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    step: str
    by: str
    reason: str
    evidence: str
    def __init__(self, saga_id: _Optional[str] = ..., step: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., evidence: _Optional[str] = ...) -> None: ...

class ForceOrder(_message.Message):
    __slots__ = ("saga_id", "step", "by", "reason", "evidence", "result_json")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    step: str
    by: str
    reason: str
    evidence: str
    result_json: str
    def __init__(self, saga_id: _Optional[str] = ..., step: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., evidence: _Optional[str] = ..., result_json: _Optional[str] = ...) -> None: ...

class OrderAnswer(_message.Message):
    __slots__ = ("heeded", "saga")
    HEEDED_FIELD_NUMBER: _ClassVar[int]
    SAGA_FIELD_NUMBER: _ClassVar[int]
    heeded: bool
    saga: _saga_pb2.Saga
    def __init__(self, heeded: _Optional[bool] = ..., saga: _Optional[_Union[_saga_pb2.Saga, _Mapping]] = ...) -> None: ...

class ListParkedRequest(_message.Message):
    __slots__ = ("definition", "page_size")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    definition: str
    page_size: int
    def __init__(self, definition: _Optional[str] = ..., page_size: _Optional[int] = ...) -> None: ...

class ListParkedResponse(_message.Message):
    __slots__ = ("sagas", "count", "oldest_age_s")
    SAGAS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    OLDEST_AGE_S_FIELD_NUMBER: _ClassVar[int]
    sagas: _containers.RepeatedCompositeFieldContainer[ParkedSaga]
    count: int
    oldest_age_s: float
    def __init__(self, sagas: _Optional[_Iterable[_Union[ParkedSaga, _Mapping]]] = ..., count: _Optional[int] = ..., oldest_age_s: _Optional[float] = ...) -> None: ...

class ParkedSaga(_message.Message):
    __slots__ = ("saga", "parked_at", "resolutions")
    SAGA_FIELD_NUMBER: _ClassVar[int]
    PARKED_AT_FIELD_NUMBER: _ClassVar[int]
    RESOLUTIONS_FIELD_NUMBER: _ClassVar[int]
    saga: _saga_pb2.Saga
    parked_at: _timestamp_pb2.Timestamp
    resolutions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, saga: _Optional[_Union[_saga_pb2.Saga, _Mapping]] = ..., parked_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., resolutions: _Optional[_Iterable[str]] = ...) -> None: ...

class PlanCancelRequest(_message.Message):
    __slots__ = ("saga_id",)
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    def __init__(self, saga_id: _Optional[str] = ...) -> None: ...

class PlanCancelResponse(_message.Message):
    __slots__ = ("refusal", "calls", "left_alone")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    LEFT_ALONE_FIELD_NUMBER: _ClassVar[int]
    refusal: str
    calls: _containers.RepeatedCompositeFieldContainer[PlannedCall]
    left_alone: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, refusal: _Optional[str] = ..., calls: _Optional[_Iterable[_Union[PlannedCall, _Mapping]]] = ..., left_alone: _Optional[_Iterable[str]] = ...) -> None: ...

class PlannedCall(_message.Message):
    __slots__ = ("step", "service", "method", "request_json", "unknown_because", "saga_id")
    STEP_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_JSON_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    step: str
    service: str
    method: str
    request_json: str
    unknown_because: str
    saga_id: str
    def __init__(self, step: _Optional[str] = ..., service: _Optional[str] = ..., method: _Optional[str] = ..., request_json: _Optional[str] = ..., unknown_because: _Optional[str] = ..., saga_id: _Optional[str] = ...) -> None: ...
