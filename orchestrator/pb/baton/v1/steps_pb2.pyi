import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CompleteStepRequest(_message.Message):
    __slots__ = ("token", "response", "response_json")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_JSON_FIELD_NUMBER: _ClassVar[int]
    token: str
    response: bytes
    response_json: str
    def __init__(self, token: _Optional[str] = ..., response: _Optional[bytes] = ..., response_json: _Optional[str] = ...) -> None: ...

class FailStepRequest(_message.Message):
    __slots__ = ("token", "code", "message")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    token: str
    code: str
    message: str
    def __init__(self, token: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class HeartbeatStepRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class ApproveStepRequest(_message.Message):
    __slots__ = ("saga_id", "step", "by", "reason", "result_json")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    step: str
    by: str
    reason: str
    result_json: str
    def __init__(self, saga_id: _Optional[str] = ..., step: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., result_json: _Optional[str] = ...) -> None: ...

class RejectStepRequest(_message.Message):
    __slots__ = ("saga_id", "step", "by", "reason")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    step: str
    by: str
    reason: str
    def __init__(self, saga_id: _Optional[str] = ..., step: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StepAnswer(_message.Message):
    __slots__ = ("heeded",)
    HEEDED_FIELD_NUMBER: _ClassVar[int]
    heeded: bool
    def __init__(self, heeded: _Optional[bool] = ...) -> None: ...

class ListApprovalsRequest(_message.Message):
    __slots__ = ("page_size", "definition", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    definition: str
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., definition: _Optional[str] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals", "next_page_token")
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[OpenApproval]
    next_page_token: str
    def __init__(self, approvals: _Optional[_Iterable[_Union[OpenApproval, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class OpenApproval(_message.Message):
    __slots__ = ("saga_id", "definition", "step", "question", "roles", "since", "until")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    definition: str
    step: str
    question: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    def __init__(self, saga_id: _Optional[str] = ..., definition: _Optional[str] = ..., step: _Optional[str] = ..., question: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
