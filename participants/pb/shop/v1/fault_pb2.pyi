from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Fault(_message.Message):
    __slots__ = ("id", "step", "method", "order_id", "kind", "delay_ms", "error_code", "error_message", "error_after_commit", "crash_before_commit", "crash_after_commit", "drop_reply", "times", "struck")
    ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_AFTER_COMMIT_FIELD_NUMBER: _ClassVar[int]
    CRASH_BEFORE_COMMIT_FIELD_NUMBER: _ClassVar[int]
    CRASH_AFTER_COMMIT_FIELD_NUMBER: _ClassVar[int]
    DROP_REPLY_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    STRUCK_FIELD_NUMBER: _ClassVar[int]
    id: int
    step: str
    method: str
    order_id: str
    kind: str
    delay_ms: int
    error_code: str
    error_message: str
    error_after_commit: bool
    crash_before_commit: bool
    crash_after_commit: bool
    drop_reply: bool
    times: int
    struck: int
    def __init__(self, id: _Optional[int] = ..., step: _Optional[str] = ..., method: _Optional[str] = ..., order_id: _Optional[str] = ..., kind: _Optional[str] = ..., delay_ms: _Optional[int] = ..., error_code: _Optional[str] = ..., error_message: _Optional[str] = ..., error_after_commit: _Optional[bool] = ..., crash_before_commit: _Optional[bool] = ..., crash_after_commit: _Optional[bool] = ..., drop_reply: _Optional[bool] = ..., times: _Optional[int] = ..., struck: _Optional[int] = ...) -> None: ...

class InjectResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class ClearRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class ClearResponse(_message.Message):
    __slots__ = ("cleared",)
    CLEARED_FIELD_NUMBER: _ClassVar[int]
    cleared: int
    def __init__(self, cleared: _Optional[int] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedCompositeFieldContainer[Fault]
    def __init__(self, faults: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ...) -> None: ...
